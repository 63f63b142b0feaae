"""`swarmpy service update`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from swarmpy.cli.flag import add_flags
from swarmpy.cli.given import Given, usage_error
from swarmpy.cli.service.build import NOT_SENT, changed_spec
from swarmpy.cli.service.flags import UPDATE
from swarmpy.cli.service.images import ImageDesk, ResolveImage, resolve_image
from swarmpy.cli.service.wait import send
from swarmpy.cli.session import Session

if TYPE_CHECKING:
    from swarmpy.client import Client, Written


@click.command()
@add_flags(UPDATE)
@click.argument("ref", metavar="SERVICE")
@click.pass_obj
def update(session: Session, /, ref: str, **values: Any) -> None:
    """Change a service: its tasks are replaced as its update policy says."""
    given = Given(values, UPDATE)
    rollback = given.switch("rollback")
    if rollback and given.changes(ignoring=(*NOT_SENT, "rollback")):
        raise usage_error("--rollback cannot be combined with other changes")

    policy = resolve_image(given, ResolveImage.CHANGED)

    async def call(client: Client) -> Written:
        service = (await client.services.get(ref)).service
        if rollback:
            return await client.services.rollback(service)
        networks = {}
        if given.any("network-add", "network-rm"):
            networks = {network.id: network.name for network in await client.networks.list()}
        spec = changed_spec(service.spec, given, session.environ, networks)
        desk = ImageDesk(session, client, policy, with_auth=given.switch("with-registry-auth"))
        # An image that is named is asked for, though its name be the same: that is how a moved tag is followed.
        before = None if given.any("image") else service.spec
        wanted = await desk.resolved(spec, before)
        return await client.services.update(service, wanted, auth=await desk.credentials(wanted))

    send(
        session,
        call,
        said=lambda service: ref,
        detach=given.switch("detach"),
        quiet=given.switch("quiet"),
        rollback=rollback,
    )
