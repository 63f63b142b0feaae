"""`swarmpy run` and `swarmpy create`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from swarmpy.cli.container.build import container_config
from swarmpy.cli.container.flags import CREATE, RUN
from swarmpy.cli.container.keys import DEFAULT, parse_keys
from swarmpy.cli.flag import add_flags
from swarmpy.cli.given import Given, usage_error
from swarmpy.cli.session import Session
from swarmpy.errors import Code, SwarmError
from swarmpy.model.container import Container, ContainerConfig

if TYPE_CHECKING:
    from swarmpy.client import Client
    from swarmpy.client.sessions import Ended

EXIT_OURS: Final = 125
_PULLS: Final = ("missing", "always", "never")
_STREAMS: Final = ("stdin", "stdout", "stderr")
# `-h` is the host name here, as in `docker run`; what follows the image belongs to its command.
_SETTINGS: Final = {"help_option_names": ["--help"], "ignore_unknown_options": False, "allow_interspersed_args": False}


@click.command(context_settings=_SETTINGS)
@add_flags(RUN)
@click.argument("image", metavar="IMAGE")
@click.argument("command", metavar="[COMMAND] [ARG]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def run(session: Session, /, image: str, command: tuple[str, ...], **values: Any) -> int:
    """Run a command in a new container on this node.

    Ends with the container's own exit code; 125 is a failure of swarmpy's, 126 a command that cannot be run, and 127
    one that is not there.
    """
    given = Given(values, RUN)
    keys = parse_keys(given.text("detach-keys") or DEFAULT)
    streams = _streams(given)
    config = container_config(given, image, command, environ=session.environ, here=Path.cwd())
    if not given.switch("detach"):
        from swarmpy.cli.container.terminal import need_terminal

        need_terminal(config.task.container.tty, config.open_stdin)
    proxy = not given.switch("no-sig-proxy")

    async def work(client: Client) -> tuple[Container, Ended]:
        made = await _create(session, client, given, config)
        ended = await _follow(session, client, made, streams, proxy=proxy, keys=keys)
        return made, ended

    try:
        made, ended = session.run(work)
    except SwarmError as error:
        session.warn(f"swarmpy: {error.message}.")
        session.warn("See 'swarmpy run --help'.")
        return EXIT_OURS
    if ended.error:
        session.warn(f"swarmpy: {ended.error}.")
        return EXIT_OURS if ended.exit_code is None else ended.exit_code
    if not streams:
        session.echo(made.id)
    return ended.exit_code or 0


@click.command(context_settings=_SETTINGS)
@add_flags(CREATE)
@click.argument("image", metavar="IMAGE")
@click.argument("command", metavar="[COMMAND] [ARG]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def create(session: Session, /, image: str, command: tuple[str, ...], **values: Any) -> None:
    """Make a container without starting it."""
    given = Given(values, CREATE)
    config = container_config(given, image, command, environ=session.environ, here=Path.cwd())

    async def work(client: Client) -> Container:
        return await _create(session, client, given, config)

    session.echo(session.run(work).id)


def _streams(given: Given) -> frozenset[str]:
    """Return which streams of the container are this process's; none in the background."""
    chosen = frozenset(name.lower() for name in given.items("attach"))
    if unknown := chosen.difference(_STREAMS):
        raise usage_error(f'invalid argument "{min(unknown)}" for "--attach": use stdin, stdout or stderr')
    if given.switch("detach"):
        if chosen:
            raise usage_error("--attach conflicts with --detach")
        return frozenset()
    outputs = chosen or frozenset(("stdout", "stderr"))
    return outputs | {"stdin"} if given.switch("interactive") and not chosen else outputs


async def _create(session: Session, client: Client, given: Given, config: ContainerConfig) -> Container:
    from swarmpy.cli.container.pulling import Pulling
    from swarmpy.client.containers import Pull

    policy = given.text("pull") or "missing"
    if policy not in _PULLS:
        raise usage_error(f'invalid argument "{policy}" for "--pull": use one of {", ".join(_PULLS)}')
    pull = Pull(_PULLS.index(policy))
    with Pulling(session, config.task.container.image, quiet=given.switch("quiet")) as pulling:
        credentials = await credentials_for(session, config.task.container.image) if pull is not Pull.NEVER else None
        return await client.containers.create(
            config,
            name=given.text("name") or "",
            pull=pull,
            credentials=credentials or ("", "", ""),
            watch=pulling,
        )


async def credentials_for(session: Session, image: str) -> tuple[str, str, str] | None:
    """Return what Docker's configuration of this user has for an image's registry: name, password, identity token."""
    from swarmpy.registry.docker_config import DockerConfig, config_path
    from swarmpy.registry.reference import parse_reference

    home = Path(session.environ.get("HOME", "/"))
    path = config_path(session.environ, home)
    if not path.exists():
        return None
    found = await DockerConfig(path).get(parse_reference(image).domain)
    return (found.username, found.password, found.identity_token) if found is not None else None


async def _follow(
    session: Session, client: Client, made: Container, streams: frozenset[str], *, proxy: bool, keys: bytes
) -> Ended:
    """Start a container with this process attached to its streams, and return how that ended."""
    from swarmpy.cli.container.terminal import converse, window_size

    stdin = "stdin" in streams and made.config.open_stdin
    opening = await client.containers.attach(
        made.id,
        start=True,
        stdin=stdin,
        output="stdout" in streams,
        stderr="stderr" in streams,
        size=window_size() if made.config.task.container.tty else None,
    )
    async with opening as at:
        ended = await converse(session, at, stdin=stdin, sig_proxy=proxy and bool(streams), keys=keys)
    if ended.error and ended.exit_code is None:
        raise SwarmError(Code.UNAVAILABLE, ended.error)
    return ended
