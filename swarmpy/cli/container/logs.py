"""`swarmpy container logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from swarmpy.cli.container.terminal import write_bytes
from swarmpy.cli.given import usage_error
from swarmpy.cli.human import timestamp
from swarmpy.cli.moments import moment
from swarmpy.cli.session import Session

if TYPE_CHECKING:
    from swarmpy.client import Client


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they are written.")
@click.option("-n", "--tail", default="all", metavar="NUMBER", help="Only the last lines (all).")
@click.option("--since", default="", metavar="TIME", help="Only lines since a time (RFC 3339) or a while ago (10m).")
@click.option("--until", default="", metavar="TIME", help="Only lines before a time (RFC 3339) or a while ago (10m).")
@click.option("-t", "--timestamps", is_flag=True, help="Show each line's time.")
@click.option("--details", is_flag=True, help="Show the container's labels before each line.")
@click.argument("ref", metavar="CONTAINER")
@click.pass_obj
def logs(
    session: Session, ref: str, follow: bool, tail: str, since: str, until: str, timestamps: bool, details: bool
) -> None:
    """Show the output of a container."""
    if tail != "all" and not (tail.isascii() and tail.isdigit()):
        raise usage_error(f'invalid argument "{tail}" for "--tail": use a number or "all"')
    last = None if tail == "all" else int(tail)
    since_at = moment("since", since, session.now()) if since else 0.0
    until_at = moment("until", until, session.now()) if until else 0.0

    async def work(client: Client) -> None:
        more = ""
        if details:
            labels = (await client.containers.get(ref)).config.task.container.labels
            more = ",".join(f"{key}={value}" for key, value in labels.items()) + " "
        async for lines in client.containers.logs(ref, follow=follow, tail=last, since=since_at, until=until_at):
            for line in lines:
                stamp = f"{timestamp(line.at)} " if timestamps else ""
                write_bytes(session.err if line.stderr else session.out, f"{stamp}{more}".encode() + line.data)

    session.run(work)
