"""`swarmpy image tag`, `rm` and `prune`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from swarmpy import units
from swarmpy.cli.each import confirmed
from swarmpy.cli.filters import label_filter, parse_filters
from swarmpy.cli.session import Session
from swarmpy.errors import Code, SwarmError

if TYPE_CHECKING:
    from swarmpy.client import Client
    from swarmpy.client.images import RemovedImages

DANGLING: Final = "WARNING! This will remove all dangling images."
UNUSED: Final = "WARNING! This will remove all images without at least one container associated to them."


@click.command()
@click.argument("image", metavar="IMAGE")
@click.argument("name", metavar="NAME[:TAG]")
@click.pass_obj
def tag(session: Session, image: str, name: str) -> None:
    """Give an image another name."""
    session.run(lambda client: client.images.tag(image, name))


@click.command()
@click.option(
    "-f", "--force", is_flag=True, help="Remove names that stopped containers still use; say nothing of absent ones."
)
@click.argument("refs", metavar="IMAGE...", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, refs: Sequence[str], force: bool) -> int:
    """Remove images, or one of their names where they have several."""

    async def work(client: Client) -> int:
        failed = 0
        for ref in refs:
            try:
                _say(session, await client.images.remove(ref, force=force))
            except SwarmError as error:
                if force and error.code is Code.NOT_FOUND:
                    continue
                failed = 1
                session.warn(f"Error: {error.message}")
        return failed

    return session.run(work)


@click.command()
@click.option("-a", "--all", "every", is_flag=True, help="Those with a tag that no container uses, too.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only what matches: label, until.")
@click.pass_obj
def prune(session: Session, every: bool, force: bool, filters: Sequence[str]) -> None:
    """Remove images that no container uses, those without a tag only unless -a is given."""
    wanted = parse_filters(filters, ("label", "until"))
    before = min((session.now() - units.parse_duration_s(text) for text in wanted["until"]), default=0.0)
    if not force and not confirmed(session, UNUSED if every else DANGLING):
        return
    labels = label_filter(wanted["label"])
    removed = session.run(lambda client: client.images.prune(every=every, before=before, labels=labels))
    if removed.untagged or removed.deleted:
        session.echo("Deleted Images:")
        _say(session, removed)
        session.echo()
    session.echo(f"Total reclaimed space: {units.human_bytes(removed.reclaimed_bytes)}")


def _say(session: Session, removed: RemovedImages) -> None:
    for name in removed.untagged:
        session.echo(f"Untagged: {name}")
    for digest in removed.deleted:
        session.echo(f"Deleted: {digest}")
