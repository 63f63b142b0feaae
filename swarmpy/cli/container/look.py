"""`swarmpy container port`, `top` and `diff`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from swarmpy.cli import table
from swarmpy.cli.container.describe import transport_text
from swarmpy.cli.session import Session
from swarmpy.errors import invalid, not_found

if TYPE_CHECKING:
    from swarmpy.client.containers import ContainerProcess

_TOP: Final = ("UID", "PID", "PPID", "STIME", "TTY", "TIME", "CMD")
_EVERY: Final = "0.0.0.0"


@click.command()
@click.argument("ref", metavar="CONTAINER")
@click.argument("target", metavar="[TARGET[/PROTOCOL]]", default="")
@click.pass_obj
def port(session: Session, ref: str, target: str) -> None:
    """Show which ports of this machine lead to a container."""
    one = session.run(lambda client: client.containers.get(ref))
    wanted = target if "/" in target or not target else f"{target}/tcp"
    found = 0
    for binding in one.ports:
        inner = f"{binding.target}/{transport_text(binding.transport)}"
        outer = f"{binding.address or _EVERY}:{binding.port}"
        if wanted in ("", inner):
            found += 1
            session.echo(outer if wanted else f"{inner} -> {outer}")
    if wanted and not found:
        raise not_found(f"no public port '{wanted}' published for {ref}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("ref", metavar="CONTAINER")
@click.argument("options", metavar="[PS OPTION]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def top(session: Session, ref: str, options: Sequence[str]) -> None:
    """Show the processes of a container, as `ps -ef` does."""
    if any(option not in ("-ef", "ef", "-e", "-f") for option in options):
        raise invalid(f"options of ps are not passed on ({' '.join(options)}): leave them out")
    processes = session.run(lambda client: client.containers.top(ref))
    session.echo(table.render([list(_TOP), *(_process_row(one) for one in processes)]))


def _process_row(one: ContainerProcess) -> list[str]:
    minutes, seconds = divmod(int(one.cpu_s), 60)
    began = time.strftime("%H:%M", time.localtime(one.started_at))
    spent = f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"
    return [one.user, str(one.pid), str(one.parent_pid), began, one.terminal or "?", spent, one.command]


@click.command()
@click.argument("ref", metavar="CONTAINER")
@click.pass_obj
def diff(session: Session, ref: str) -> None:
    """Show what a container has changed in its image's files: A added, C changed, D deleted."""
    for change in session.run(lambda client: client.containers.diff(ref)):
        session.echo(f"{change.kind} {change.path}")
