"""`swarmpy service rm`, `rollback` and `scale`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from swarmpy.cli.given import usage_error
from swarmpy.cli.service.wait import send, wait
from swarmpy.cli.session import Session
from swarmpy.errors import SwarmError

if TYPE_CHECKING:
    from swarmpy.client import Client, Written


@click.command()
@click.argument("refs", metavar="SERVICE...", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, refs: Sequence[str]) -> int:
    """Remove services; their tasks stop."""

    async def work(client: Client) -> int:
        failed = 0
        for ref in refs:
            try:
                await client.services.remove(ref)
            except SwarmError as error:
                failed = 1
                session.warn(f"Error: {error.message}")
            else:
                session.echo(ref)
        return failed

    return session.run(work)


@click.command()
@click.option("-d", "--detach", is_flag=True, help="Return at once.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.argument("ref", metavar="SERVICE")
@click.pass_obj
def rollback(session: Session, ref: str, detach: bool, quiet: bool) -> None:
    """Put the spec from before the last update back."""

    async def call(client: Client) -> Written:
        return await client.services.rollback((await client.services.get(ref)).service)

    send(session, call, said=lambda service: ref, detach=detach, quiet=quiet, rollback=True)


@click.command()
@click.option("-d", "--detach", is_flag=True, help="Return at once.")
@click.argument("targets", metavar="SERVICE=REPLICAS...", nargs=-1, required=True)
@click.pass_obj
def scale(session: Session, targets: Sequence[str], detach: bool) -> None:
    """Set the number of replicas of services."""
    wanted = [_target(text) for text in targets]

    async def work(client: Client) -> None:
        written = []
        for ref, replicas in wanted:
            written.append(await client.services.scale(ref, replicas))
            session.echo(f"{ref} scaled to {replicas}")
            for warning in written[-1].warnings:
                session.warn(f"Warning: {warning}")
        if not detach:
            session.out.flush()
            for one in written:
                await wait(session, client, one.service)

    session.run(work)


def _target(text: str) -> tuple[str, int]:
    ref, equals, number = text.partition("=")
    if not equals or not ref:
        raise usage_error(f'invalid argument "{text}": use SERVICE=REPLICAS')
    if not number.isascii() or not number.isdigit():
        raise usage_error(f'invalid replicas "{number}" of service {ref}: must be a whole number of 0 or more')
    return ref, int(number)
