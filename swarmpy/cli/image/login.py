"""`swarmpy login` and `logout`: credentials in Docker's configuration of this user, or its credential helper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from swarmpy.cli.image.credentials import docker_config
from swarmpy.cli.session import Session
from swarmpy.errors import Code, SwarmError, invalid, precondition
from swarmpy.model.service import RegistryAuth

if TYPE_CHECKING:
    from swarmpy.client import Client

DEFAULT: Final = "docker.io"
_CLEAR: Final = "WARNING! Your password is stored unencrypted in {place}: a credential helper would keep it better."


@click.command()
@click.option("-u", "--username", default="", metavar="NAME", help="User name.")
@click.option(
    "-p",
    "--password",
    default="",
    metavar="PASSWORD",
    help="Password; other users may see it: prefer --password-stdin.",
)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.argument("registry", metavar="[REGISTRY]", default=DEFAULT)
@click.pass_obj
def login(session: Session, username: str, password: str, password_stdin: bool, registry: str) -> None:
    """Log in to a registry: the node asks it whether it takes the credentials, and they are kept for this user."""
    registry = registry.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if password and password_stdin:
        raise invalid("--password and --password-stdin are given: choose one")
    if password_stdin and not username:
        raise invalid("--password-stdin needs --username")
    username = username or _asked(session, "Username: ")
    if password_stdin:
        password = session.stdin().read().rstrip("\r\n")
    password = password or _asked_secretly(session)
    if not username or not password:
        raise invalid("a user name and a password are needed")

    async def work(client: Client) -> str:
        from swarmpy.registry.credentials import Credentials

        keep = await client.images.login(RegistryAuth(registry, username, password))
        credentials = Credentials(keep.username or username, keep.password, keep.identity_token)
        return await docker_config(session).store(registry, credentials)

    place = session.run(work)
    if "/" in place:
        session.warn(_CLEAR.format(place=place))
    session.echo("Login Succeeded")


@click.command()
@click.argument("registry", metavar="[REGISTRY]", default=DEFAULT)
@click.pass_obj
def logout(session: Session, registry: str) -> None:
    """Forget the credentials of a registry."""
    import asyncio

    registry = registry.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if not asyncio.run(docker_config(session).erase(registry)):
        session.echo(f"Not logged in to {registry}")
        return
    session.echo(f"Removing login credentials for {registry}")


def _asked(session: Session, prompt: str) -> str:
    session.out.write(prompt)
    session.out.flush()
    return session.stdin().readline().strip()


def _asked_secretly(session: Session) -> str:
    stream = session.stdin()
    if not stream.isatty():
        raise precondition("no password comes from a terminal: use --password-stdin")
    import getpass

    try:
        return getpass.getpass("Password: ")
    except EOFError as error:
        raise SwarmError(Code.INVALID_ARGUMENT, "no password was given") from error
