"""`swarmpy container start`, `stop`, `rm` and the other commands that change containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from swarmpy import units
from swarmpy.cli.container.keys import DEFAULT, parse_keys
from swarmpy.cli.each import confirmed, of_each, to_each
from swarmpy.cli.filters import label_filter, matches_labels, parse_filters
from swarmpy.cli.given import usage_error
from swarmpy.cli.session import Session
from swarmpy.errors import SwarmError
from swarmpy.notation.bindings import parse_restart

if TYPE_CHECKING:
    from swarmpy.client import Client
    from swarmpy.client.sessions import Ended
    from swarmpy.model.container import Container

PRUNE_WARNING: Final = "WARNING! This will remove all stopped containers."
_refs = click.argument("refs", metavar="CONTAINER...", nargs=-1, required=True)
_time = click.option(
    "-t", "--time", "--timeout", "seconds", type=int, help="Seconds before the kill; -1: never (the container's own)."
)
_signal = click.option("-s", "--signal", "signal", default="", metavar="SIGNAL", help="Signal to send.")


@click.command()
@click.option("-a", "--attach", "attached", is_flag=True, help="Attach to its output, and pass signals on.")
@click.option("-i", "--interactive", is_flag=True, help="Attach to its standard input, too.")
@click.option("--detach-keys", default="", metavar="KEYS", help=f"Keys that leave the container running ({DEFAULT}).")
@_refs
@click.pass_obj
def start(session: Session, refs: Sequence[str], attached: bool, interactive: bool, detach_keys: str) -> int:
    """Start containers that do not run."""
    if not (attached or interactive):
        return to_each(session, refs, lambda client, ref: client.containers.start(ref))
    if len(refs) > 1:
        raise usage_error("only one container can be started and attached to at once")
    from swarmpy.cli.container.terminal import converse, window_size

    keys = parse_keys(detach_keys or DEFAULT)

    async def work(client: Client) -> Ended:
        made = await client.containers.get(refs[0])
        size = window_size() if made.config.task.container.tty else None
        stdin = interactive and made.config.open_stdin
        async with await client.containers.attach(made.id, start=True, stdin=stdin, size=size) as at:
            return await converse(session, at, stdin=stdin, sig_proxy=True, keys=keys)

    return told(session, session.run(work))


def told(session: Session, ended: Ended) -> int:
    """Say why a program did not run, if it did not; return the exit status of the command that was at it."""
    if ended.error:
        session.warn(f"swarmpy: {ended.error}.")
        return 1 if ended.exit_code is None else ended.exit_code
    return ended.exit_code or 0


@click.command()
@_time
@_signal
@_refs
@click.pass_obj
def stop(session: Session, refs: Sequence[str], seconds: int | None, signal: str) -> int:
    """Stop containers: by their stop signal, and after a while by SIGKILL."""
    timeout_s = None if seconds is None else float(seconds)
    return to_each(session, refs, lambda client, ref: client.containers.stop(ref, timeout_s=timeout_s, signal=signal))


@click.command()
@_time
@_signal
@_refs
@click.pass_obj
def restart(session: Session, refs: Sequence[str], seconds: int | None, signal: str) -> int:
    """Stop containers and start them again."""
    timeout_s = None if seconds is None else float(seconds)
    return to_each(
        session, refs, lambda client, ref: client.containers.restart(ref, timeout_s=timeout_s, signal=signal)
    )


@click.command()
@_signal
@_refs
@click.pass_obj
def kill(session: Session, refs: Sequence[str], signal: str) -> int:
    """Send the first process of containers a signal, SIGKILL if none is named."""
    return to_each(session, refs, lambda client, ref: client.containers.kill(ref, signal))


@click.command()
@_refs
@click.pass_obj
def pause(session: Session, refs: Sequence[str]) -> int:
    """Freeze all processes of containers."""
    return to_each(session, refs, lambda client, ref: client.containers.pause(ref))


@click.command()
@_refs
@click.pass_obj
def unpause(session: Session, refs: Sequence[str]) -> int:
    """Let frozen containers go on."""
    return to_each(session, refs, lambda client, ref: client.containers.unpause(ref))


@click.command()
@click.argument("ref", metavar="CONTAINER")
@click.argument("name", metavar="NAME")
@click.pass_obj
def rename(session: Session, ref: str, name: str) -> None:
    """Give a container another name."""
    session.run(lambda client: client.containers.rename(ref, name))


@click.command()
@click.option("--restart", "rule", required=True, metavar="RULE", help="no, on-failure[:NUMBER], always, ...")
@_refs
@click.pass_obj
def update(session: Session, refs: Sequence[str], rule: str) -> int:
    """Give containers another restart rule."""
    try:
        parsed = parse_restart(rule)
    except SwarmError as error:
        raise usage_error(f'invalid argument "{rule}" for "--restart": {error.message}') from error
    return to_each(session, refs, lambda client, ref: client.containers.update(ref, parsed))


@click.command()
@click.option("-f", "--force", is_flag=True, help="Kill those that run.")
@click.option("-v", "--volumes", is_flag=True, help="Remove their anonymous volumes, too (they always are).")
@_refs
@click.pass_obj
def rm(session: Session, refs: Sequence[str], force: bool, volumes: bool) -> int:
    """Remove containers, with what they have written and their anonymous volumes."""
    return to_each(session, refs, lambda client, ref: client.containers.remove(ref, force=force, volumes=volumes))


@click.command()
@_refs
@click.pass_obj
def wait(session: Session, refs: Sequence[str]) -> int:
    """Wait until containers have ended, and show their exit codes."""

    async def one(client: Client, ref: str) -> None:
        session.echo(str(await client.containers.wait(ref)))

    return of_each(session, refs, one)[1]


@click.command()
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only what matches: label, until.")
@click.pass_obj
def prune(session: Session, filters: Sequence[str], force: bool) -> int:
    """Remove all containers that do not run."""
    wanted = parse_filters(filters, ("label", "until"))
    labels = label_filter(wanted["label"])
    before = min((session.now() - units.parse_duration_s(text) for text in wanted["until"]), default=None)
    if not force and not confirmed(session, PRUNE_WARNING):
        return 0

    def goes(one: Container) -> bool:
        old = before is None or one.created_at < before
        return old and not one.service_id and matches_labels(one.config.task.container.labels, labels)

    async def work(client: Client) -> tuple[list[str], int, int]:
        found = await client.containers.list(every=True, sizes=True)
        removed, freed_bytes, failed = [], 0, 0
        for one in found:
            if one.state.is_over and goes(one):
                try:
                    await client.containers.remove(one.id)
                except SwarmError as error:
                    failed = 1
                    session.warn(f"Error: {error.message}")
                else:
                    removed.append(one.id)
                    freed_bytes += one.written_bytes or 0
        return removed, freed_bytes, failed

    removed, freed_bytes, failed = session.run(work)
    if removed:
        session.echo("Deleted Containers:\n" + "\n".join(removed) + "\n")
    session.echo(f"Total reclaimed space: {units.human_bytes(freed_bytes)}")
    return failed
