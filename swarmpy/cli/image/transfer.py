"""`swarmpy image pull` and `push`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from swarmpy.cli.image.layers import PULL, PUSH, Layers
from swarmpy.cli.session import Session

if TYPE_CHECKING:
    from swarmpy.client import Client
    from swarmpy.client.images import PulledImage


@click.command()
@click.option("--platform", default="", metavar="OS/ARCH", help="Another platform than the node's.")
@click.option("-q", "--quiet", is_flag=True, help="Show the image's name only.")
@click.argument("name", metavar="NAME[:TAG|@DIGEST]")
@click.pass_obj
def pull(session: Session, name: str, platform: str, quiet: bool) -> None:
    """Pull an image from its registry, whether it is here or not."""
    from swarmpy.cli.image.credentials import auth_for
    from swarmpy.registry.reference import parse_reference

    reference = parse_reference(name)
    layers = Layers(session.out, PULL, live=session.terminal)
    if not quiet:
        if reference.tag == "latest" and not name.endswith(":latest"):
            session.echo("Using default tag: latest")
        tag = reference.digest or reference.tag
        session.echo(f"{tag}: Pulling from {reference.familiar().partition('@')[0].removesuffix(f':{reference.tag}')}")

    async def work(client: Client) -> PulledImage:
        auth = await auth_for(session, name)
        return await client.images.pull(name, platform=platform, auth=auth, watch=None if quiet else layers)

    pulled = session.run(work)
    if not quiet:
        session.echo(f"Digest: {pulled.digest}")
        status = "Downloaded newer image" if pulled.is_new else "Image is up to date"
        session.echo(f"Status: {status} for {reference.familiar()}")
    session.echo(pulled.name)


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Show the image's name only.")
@click.argument("name", metavar="NAME[:TAG]")
@click.pass_obj
def push(session: Session, name: str, quiet: bool) -> None:
    """Push an image to the registry that its name says."""
    from swarmpy.cli.image.credentials import auth_for
    from swarmpy.registry.reference import parse_reference

    reference = parse_reference(name)
    layers = Layers(session.out, PUSH, live=session.terminal)
    if not quiet:
        session.echo(f"The push refers to repository [{reference.domain}/{reference.path}]")

    async def work(client: Client) -> str:
        return await client.images.push(name, auth=await auth_for(session, name), watch=None if quiet else layers)

    digest = session.run(work)
    session.echo(str(reference) if quiet else f"{reference.tag}: digest: {digest}")
