"""`swarmpy container exec` and `attach`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from swarmpy.cli.container.change import told
from swarmpy.cli.container.keys import DEFAULT, parse_keys
from swarmpy.cli.flag import Flag, add_flags
from swarmpy.cli.given import Given
from swarmpy.cli.session import Session
from swarmpy.notation.pairs import parse_env, read_env_file

if TYPE_CHECKING:
    from swarmpy.client import Client
    from swarmpy.client.sessions import Ended

EXEC: Final = (
    Flag("detach", "", "Do not wait for its end", short="d"),
    Flag("detach-keys", "KEYS", f"Keys that leave the command running ({DEFAULT})"),
    Flag("env", "KEY[=VALUE]", "Environment variable", short="e", many=True),
    Flag("env-file", "FILE", "File of environment variables", many=True),
    Flag("interactive", "", "Keep standard input open", short="i"),
    Flag("privileged", "", "Not supported yet", supported=False),
    Flag("tty", "", "Give it a terminal", short="t"),
    Flag("user", "NAME|UID[:GROUP|GID]", "User to run as", short="u"),
    Flag("workdir", "DIR", "Working directory", short="w"),
)
_SETTINGS: Final = {"allow_interspersed_args": False}


@click.command("exec", context_settings=_SETTINGS)
@add_flags(EXEC)
@click.argument("ref", metavar="CONTAINER")
@click.argument("command", metavar="COMMAND [ARG]...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec_(session: Session, /, ref: str, command: tuple[str, ...], **values: Any) -> int:
    """Run a command in a container that runs; ends with the command's own exit code."""
    from swarmpy.cli.container.terminal import converse, need_terminal, window_size

    given = Given(values, EXEC)
    keys = parse_keys(given.text("detach-keys") or DEFAULT)
    tty, detach = given.switch("tty"), given.switch("detach")
    stdin = given.switch("interactive") and not detach
    if not detach:
        need_terminal(tty, stdin)
    files = [entry for file in given.items("env-file") for entry in read_env_file(Path(file))]
    env = parse_env((*files, *given.items("env")), session.environ)

    async def work(client: Client) -> Ended:
        opening = await client.containers.exec(
            ref,
            command,
            env=env,
            workdir=given.text("workdir") or "",
            user=given.text("user") or "",
            tty=tty,
            stdin=stdin,
            detach=detach,
            size=window_size() if tty else None,
        )
        async with opening as at:
            return await converse(session, at, stdin=stdin, sig_proxy=not tty, keys=keys if tty else b"")

    return told(session, session.run(work))


@click.command()
@click.option("--detach-keys", default="", metavar="KEYS", help=f"Keys that leave the container running ({DEFAULT}).")
@click.option("--no-stdin", is_flag=True, help="Do not attach to its standard input.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Pass signals on to the container.")
@click.argument("ref", metavar="CONTAINER")
@click.pass_obj
def attach(session: Session, ref: str, detach_keys: str, no_stdin: bool, sig_proxy: bool) -> int:
    """Attach to the standard streams of a container that runs."""
    from swarmpy.cli.container.terminal import converse, window_size

    keys = parse_keys(detach_keys or DEFAULT)

    async def work(client: Client) -> Ended:
        one = await client.containers.get(ref)
        tty = one.config.task.container.tty
        stdin = one.config.open_stdin and not no_stdin
        size = window_size() if tty and os.isatty(0) else None
        async with await client.containers.attach(ref, stdin=stdin, size=size) as at:
            return await converse(session, at, stdin=stdin, sig_proxy=sig_proxy, keys=keys)

    return told(session, session.run(work))
