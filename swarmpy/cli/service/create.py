"""`swarmpy service create`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import click

from swarmpy.cli.flag import add_flags
from swarmpy.cli.given import Given
from swarmpy.cli.service.build import new_spec
from swarmpy.cli.service.flags import CREATE
from swarmpy.cli.service.images import ImageDesk, ResolveImage, resolve_image
from swarmpy.cli.service.wait import send
from swarmpy.cli.session import Session

if TYPE_CHECKING:
    from swarmpy.client import Client, Written


@click.command(context_settings={"allow_interspersed_args": False})
@add_flags(CREATE)
@click.argument("arguments", metavar="IMAGE [COMMAND] [ARG...]", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def create(session: Session, /, arguments: tuple[str, ...], **values: Any) -> None:
    """Create a service.

    With --process the arguments are the command of plain processes, and there is no image.
    """
    given = Given(values, CREATE)
    spec = new_spec(given, arguments, session.environ, suffix=secrets.token_hex(3))
    policy = resolve_image(given, ResolveImage.ALWAYS)

    async def call(client: Client) -> Written:
        desk = ImageDesk(session, client, policy, with_auth=given.switch("with-registry-auth"))
        return await client.services.create(await desk.resolved(spec), auth=await desk.credentials(spec))

    send(
        session,
        call,
        said=lambda service: service.id,
        detach=given.switch("detach"),
        quiet=given.switch("quiet"),
    )
