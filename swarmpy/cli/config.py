"""`swarmpy config`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from swarmpy.cli.documents import Document, in_order
from swarmpy.cli.filters import filter_option, label_filter, parse_filters
from swarmpy.cli.given import usage_error
from swarmpy.cli.human import ago, timestamp
from swarmpy.cli.output import list_options, show_list, show_objects
from swarmpy.cli.session import Session
from swarmpy.errors import SwarmError, invalid
from swarmpy.model.config import MAX_CONFIG_BYTES, Config, ConfigSpec
from swarmpy.notation.pairs import parse_labels

if TYPE_CHECKING:
    from swarmpy.client import Client

FILTERS: Final = ("id", "name", "label")
COLUMNS: Final = {"ID": "ID", "NAME": "Name", "CREATED": "CreatedAt", "UPDATED": "UpdatedAt"}


@click.group()
def config() -> None:
    """Manage configs."""


@config.command()
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Set a label.")
@click.argument("name", metavar="CONFIG")
@click.argument("file", metavar="FILE|-")
@click.pass_obj
def create(session: Session, labels: Sequence[str], name: str, file: str) -> None:
    """Create a config from a file, or from standard input with `-`."""
    spec = ConfigSpec(name=name, labels=parse_labels(labels), data=_read(file, session))

    async def work(client: Client) -> Config:
        return await client.configs.create(spec)

    session.echo(session.run(work).id)


@config.command()
@filter_option
@list_options
@click.pass_obj
def ls(session: Session, filters: Sequence[str], format_: str, quiet: bool) -> None:
    """List configs."""
    wanted = parse_filters(filters, FILTERS)

    async def work(client: Client) -> list[Config]:
        from swarmpy.client import ConfigFilter

        selection = ConfigFilter(ids=wanted["id"], names=wanted["name"], labels=label_filter(wanted["label"]))
        return await client.configs.list(selection)

    rows = [_row(one, session.now()) for one in sorted(session.run(work), key=lambda c: c.name)]
    show_list(session, COLUMNS, rows, format_=format_, quiet=quiet)


@config.command()
@click.option("--pretty", is_flag=True, help="Show it for reading rather than as JSON.")
@click.option("-f", "--format", "format_", default="", metavar="FORMAT", help="`json` or a template.")
@click.argument("refs", metavar="CONFIG...", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, refs: Sequence[str], pretty: bool, format_: str) -> None:
    """Show configs with their data."""
    if pretty and format_:
        raise usage_error("--format and --pretty exclude each other: give one of them")

    async def work(client: Client) -> list[Config]:
        return [await client.configs.get(ref) for ref in refs]

    configs = session.run(work)
    if pretty:
        session.echo("\n\n".join(map(_pretty, configs)))
    else:
        show_objects(session, [_document(one) for one in configs], format_=format_)


@config.command()
@click.argument("refs", metavar="CONFIG...", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, refs: Sequence[str]) -> int:
    """Remove configs."""

    async def work(client: Client) -> int:
        failed = 0
        for ref in refs:
            try:
                await client.configs.remove(ref)
            except SwarmError as error:
                failed = 1
                session.warn(f"Error: {error.message}")
            else:
                session.echo(ref)
        return failed

    return session.run(work)


def _read(file: str, session: Session) -> bytes:
    """Return the data, one byte more than is allowed at most: what follows need not be read."""
    try:
        if file == "-":
            standard_input = session.stdin()
            return standard_input.buffer.read(MAX_CONFIG_BYTES + 1)
        with Path(file).open("rb") as source:
            data = source.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise invalid(f"cannot read {file}: {(error.strerror or str(error)).lower()}") from error
    return data


def _row(one: Config, now_s: float) -> dict[str, Any]:
    return {
        "ID": one.id,
        "Name": one.name,
        "CreatedAt": ago(one.created_at, now_s),
        "UpdatedAt": ago(one.updated_at, now_s),
        "Labels": in_order(one.spec.labels),
    }


def _document(one: Config) -> Document:
    return {
        "ID": one.id,
        "Version": {"Index": one.version},
        "CreatedAt": timestamp(one.created_at),
        "UpdatedAt": timestamp(one.updated_at),
        "Spec": {
            "Name": one.name,
            "Labels": in_order(one.spec.labels),
            "Data": base64.b64encode(one.spec.data).decode(),
        },
    }


def _pretty(one: Config) -> str:
    labels = [f" - {key}={value}" for key, value in in_order(one.spec.labels).items()]
    return "\n".join(
        (
            f"ID:\t\t\t{one.id}",
            f"Name:\t\t\t{one.name}",
            *(["Labels:", *labels] if labels else []),
            f"Created at:\t\t{timestamp(one.created_at)}",
            f"Updated at:\t\t{timestamp(one.updated_at)}",
            "Data:",
            one.spec.data.decode("utf-8", "replace"),
        )
    )
