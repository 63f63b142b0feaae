"""`swarmpy service inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from swarmpy.cli.documents import service_document
from swarmpy.cli.output import show_objects
from swarmpy.cli.service.pretty import pretty_service
from swarmpy.cli.session import Session

if TYPE_CHECKING:
    from swarmpy.client import Client, ListedService


@click.command()
@click.option("--pretty", is_flag=True, help="Show it for reading rather than as JSON.")
@click.option("-f", "--format", "format_", default="", metavar="FORMAT", help="`json` or a template.")
@click.argument("refs", metavar="SERVICE...", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, refs: Sequence[str], pretty: bool, format_: str) -> None:
    """Show services in detail."""

    async def work(client: Client) -> tuple[list[ListedService], dict[str, str]]:
        found = [await client.services.get(ref) for ref in refs]
        joins = pretty and any(listed.service.spec.task.networks for listed in found)
        return found, {n.id: n.name for n in await client.networks.list()} if joins else {}

    found, networks = session.run(work)
    if pretty:
        session.echo("\n\n".join(pretty_service(listed, session.now(), networks) for listed in found))
    else:
        show_objects(session, [service_document(listed.service) for listed in found], format_=format_)
