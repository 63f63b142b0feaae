"""`swarmpy service ls`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from swarmpy.cli.describe import published_ports, replicas, what_runs, what_runs_header
from swarmpy.cli.documents import in_order
from swarmpy.cli.filters import filter_option, label_filter, parse_filters
from swarmpy.cli.human import short_id, timestamp
from swarmpy.cli.output import is_table, list_options, show_list
from swarmpy.cli.session import Session
from swarmpy.errors import invalid
from swarmpy.model.states import ModeKind, word
from swarmpy.notation.choices import parse_choice

if TYPE_CHECKING:
    from swarmpy.client import ListedService, ServiceFilter

FILTERS = ("id", "name", "label", "mode", "stack")


@click.command()
@filter_option
@list_options
@click.option("--no-trunc", is_flag=True, help="Show ids and commands in full.")
@click.pass_obj
def ls(session: Session, filters: Sequence[str], format_: str, quiet: bool, no_trunc: bool) -> None:
    """List services."""
    wanted = parse_filters(filters, FILTERS)
    found = session.run(lambda client: client.services.list(_selection(wanted)))
    show_services(session, found, format_=format_, quiet=quiet, no_trunc=no_trunc)


def show_services(
    session: Session, found: Sequence[ListedService], *, format_: str, quiet: bool, no_trunc: bool = False
) -> None:
    """Write services in order of name."""
    found = sorted(found, key=lambda listed: listed.service.name)
    columns = {
        "ID": "ID",
        "NAME": "Name",
        "MODE": "Mode",
        "REPLICAS": "Replicas",
        what_runs_header(listed.service.spec.task for listed in found): "Image",
        "PORTS": "Ports",
    }
    in_full = not is_table(format_)
    rows = [_row(listed, no_trunc=no_trunc, in_full=in_full) for listed in found]
    show_list(session, columns, rows, format_=format_, quiet=quiet)


def _row(listed: ListedService, *, no_trunc: bool, in_full: bool) -> dict[str, Any]:
    """Return a row's fields; those that no table shows are left out unless it is to be `in_full`."""
    service = listed.service
    row: dict[str, Any] = {
        "ID": short_id(service.id, no_trunc=no_trunc),
        "Name": service.name,
        "Mode": word(service.spec.mode.kind),
        "Replicas": replicas(service, listed.status),
        "Image": what_runs(service.spec.task, no_trunc=no_trunc),
        "Ports": published_ports(service),
    }
    if in_full:
        row |= {
            "Labels": in_order(service.spec.labels),
            "Runtime": word(service.spec.task.runtime),
            "CreatedAt": timestamp(service.created_at),
            "UpdatedAt": timestamp(service.updated_at),
        }
    return row


def _selection(wanted: dict[str, tuple[str, ...]]) -> ServiceFilter:
    from swarmpy.client import ServiceFilter
    from swarmpy.model.spec import STACK_LABEL

    labels = label_filter(wanted["label"])
    if len(wanted["stack"]) > 1:
        raise invalid("a service belongs to one stack: give one stack filter")
    for stack in wanted["stack"]:
        labels[STACK_LABEL] = stack
    modes = tuple(parse_choice(mode, ModeKind) for mode in wanted["mode"])
    return ServiceFilter(ids=wanted["id"], names=wanted["name"], labels=labels, modes=modes)
