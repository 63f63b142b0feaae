"""`swarmpy container inspect`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from swarmpy.cli.container.describe import container_document
from swarmpy.cli.each import of_each
from swarmpy.cli.output import show_objects
from swarmpy.cli.session import Session


@click.command()
@click.option("-s", "--size", is_flag=True, help="Show what they have written, too.")
@click.option("-f", "--format", "format_", default="", metavar="FORMAT", help="`json` or a template.")
@click.argument("refs", metavar="CONTAINER...", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, refs: Sequence[str], size: bool, format_: str) -> int:
    """Show containers in detail."""

    found, failed = of_each(session, refs, lambda client, ref: client.containers.get(ref, size=size))
    show_objects(session, [container_document(one) for _, one in found], format_=format_)
    return failed
