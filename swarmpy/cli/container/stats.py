"""`swarmpy container stats`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import click

from swarmpy import units
from swarmpy.cli.human import short_id
from swarmpy.cli.output import is_table, show_list
from swarmpy.cli.session import Session

if TYPE_CHECKING:
    from swarmpy.client import Client
    from swarmpy.client.containers import ContainerFigures

COLUMNS: Final = {
    "CONTAINER ID": "ID",
    "NAME": "Name",
    "CPU %": "CPUPerc",
    "MEM USAGE / LIMIT": "MemUsage",
    "MEM %": "MemPerc",
    "NET I/O": "NetIO",
    "BLOCK I/O": "BlockIO",
    "PIDS": "PIDs",
}
PERIOD_S: Final = 1.0
_CLEAR: Final = "\x1b[2J\x1b[H"


@click.command()
@click.option("-a", "--all", "every", is_flag=True, help="Show those that do not run, too.")
@click.option("--no-stream", is_flag=True, help="Show the figures once.")
@click.option("--no-trunc", is_flag=True, help="Show ids in full.")
@click.option("--format", "format_", default="table", metavar="FORMAT", help="`table`, `json` or a template.")
@click.argument("refs", metavar="[CONTAINER...]", nargs=-1)
@click.pass_obj
def stats(session: Session, refs: Sequence[str], every: bool, no_stream: bool, no_trunc: bool, format_: str) -> None:
    """Show what containers use, again each second until interrupted."""

    async def work(client: Client) -> None:
        chosen = refs or ([one.id for one in await client.containers.list(every=True)] if every else ())
        figures = client.containers.stats(chosen, interval_s=0.0 if no_stream else PERIOD_S)
        async with aclosing(figures) as answers:
            async for batch in answers:
                if session.terminal and not no_stream and is_table(format_):
                    session.out.write(_CLEAR)
                rows = [_row(one, no_trunc=no_trunc) for one in batch]
                show_list(session, COLUMNS, rows, format_=format_, quiet=False)
                session.out.flush()

    session.run(work)


def _row(one: ContainerFigures, *, no_trunc: bool) -> dict[str, Any]:
    share = 100 * one.memory_bytes / one.memory_limit_bytes if one.memory_limit_bytes else 0.0
    human = units.human_bytes
    known = {
        "CPUPerc": f"{100 * one.cpu_ratio:.2f}%",
        "MemUsage": f"{human(one.memory_bytes)} / {human(one.memory_limit_bytes)}",
        "MemPerc": f"{share:.2f}%",
        "NetIO": f"{human(one.received_bytes)} / {human(one.sent_bytes)}",
        "BlockIO": f"{human(one.read_bytes)} / {human(one.written_bytes)}",
        "PIDs": str(one.pids),
    }
    shown = known if one.running else dict.fromkeys(known, "--")
    return {"ID": short_id(one.id, no_trunc=no_trunc), "Container": one.id, "Name": one.name, **shown}
