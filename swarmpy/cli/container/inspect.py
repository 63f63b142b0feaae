"""`swarmpy container inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from swarmpy.cli.container.describe import container_document
from swarmpy.cli.output import show_objects
from swarmpy.cli.session import Session
from swarmpy.errors import SwarmError

if TYPE_CHECKING:
    from swarmpy.client import Client
    from swarmpy.model.container import Container


@click.command()
@click.option("-s", "--size", is_flag=True, help="Show what they have written, too.")
@click.option("-f", "--format", "format_", default="", metavar="FORMAT", help="`json` or a template.")
@click.argument("refs", metavar="CONTAINER...", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, refs: Sequence[str], size: bool, format_: str) -> int:
    """Show containers in detail."""

    async def work(client: Client) -> tuple[list[Container], int]:
        found, failed = [], 0
        for ref in refs:
            try:
                found.append(await client.containers.get(ref, size=size))
            except SwarmError as error:
                failed = 1
                session.warn(f"Error: {error.message}")
        return found, failed

    found, failed = session.run(work)
    show_objects(session, [container_document(one) for one in found], format_=format_)
    return failed
