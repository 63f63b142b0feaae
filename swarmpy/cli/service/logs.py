"""`swarmpy service logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from swarmpy.cli.given import usage_error
from swarmpy.cli.human import ID_WIDTH, timestamp
from swarmpy.cli.moments import moment
from swarmpy.cli.session import Session
from swarmpy.errors import Code, SwarmError

if TYPE_CHECKING:
    from swarmpy.client import Client, LogLine


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they are written.")
@click.option("-n", "--tail", default="all", metavar="NUMBER", help="Only the last lines of each task (all).")
@click.option("--since", default="", metavar="TIME", help="Only lines since a time (RFC 3339) or a while ago (10m).")
@click.option("--until", default="", metavar="TIME", help="Only lines before a time (RFC 3339) or a while ago (10m).")
@click.option("--details", is_flag=True, help="Show the ids of each line's node and task.")
@click.option("-t", "--timestamps", is_flag=True, help="Show each line's time.")
@click.option("--raw", is_flag=True, help="Show the lines as they were written, without the task's name.")
@click.option("--no-resolve", is_flag=True, help="Show ids in place of names.")
@click.option("--no-task-ids", is_flag=True, help="Leave the task's id out.")
@click.option("--no-trunc", is_flag=True, help="Show ids in full.")
@click.argument("ref", metavar="SERVICE|TASK")
@click.pass_obj
def logs(
    session: Session,
    ref: str,
    follow: bool,
    tail: str,
    since: str,
    until: str,
    details: bool,
    timestamps: bool,
    raw: bool,
    no_resolve: bool,
    no_task_ids: bool,
    no_trunc: bool,
) -> None:
    """Show the output of a service's tasks, or of one task."""
    if tail != "all" and not (tail.isascii() and tail.isdigit()):
        raise usage_error(f'invalid argument "{tail}" for "--tail": use a number or "all"')
    since_at = moment("since", since, session.now()) if since else 0.0
    until_at = moment("until", until, session.now()) if until else 0.0

    async def work(client: Client) -> None:
        names = await _Names.of(client, ref, resolve=not (raw or no_resolve), ids=not no_task_ids, full=no_trunc)
        last = None if tail == "all" else int(tail)
        lines = client.logs(ref, follow=follow, tail=last, since=since_at, until=until_at)
        async for batch in lines:
            for line in batch.lines:
                target = session.err if line.stderr else session.out
                stamp = f"{timestamp(line.at)} " if timestamps else ""
                prefix = "" if raw else f"{names.of_line(line)}    | "
                more = f"{_details(line)} " if details else ""
                target.write(f"{stamp}{prefix}{more}{line.data.decode('utf-8', 'replace')}\n")
            for warning in batch.warnings:
                session.warn(f"Warning: {warning}")
            session.out.flush()

    session.run(work)


class _Names:
    """What stands before each line: `web.1.abcdef@node`."""

    def __init__(self, tasks: dict[str, str], nodes: dict[str, str], *, ids: bool, full: bool) -> None:
        self._tasks = tasks
        self._nodes = nodes
        self._ids = ids
        self._full = full

    @classmethod
    async def of(cls, client: Client, ref: str, *, resolve: bool, ids: bool, full: bool) -> _Names:
        from swarmpy.client import TaskFilter

        if not resolve:
            return cls({}, {}, ids=ids, full=full)
        try:
            service = (await client.services.get(ref)).service
            tasks = await client.tasks.list(TaskFilter(service_ids=(service.id,)))
        except SwarmError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            task, _ = await client.tasks.get(ref)
            service = (await client.services.get(task.service_id)).service
            tasks = [task]
        nodes = {node.id: node.name for node in await client.nodes.list()}
        return cls({task.id: f"{service.name}.{task.slot}" for task in tasks}, nodes, ids=ids, full=full)

    def of_line(self, line: LogLine) -> str:
        short = line.task_id if self._full else line.task_id[:ID_WIDTH]
        name = self._tasks.get(line.task_id)
        task = short if name is None else f"{name}.{short}" if self._ids else name
        node = self._nodes.get(line.node_id, line.node_id if self._full else line.node_id[:ID_WIDTH])
        return f"{task}@{node}"


def _details(line: LogLine) -> str:
    return f"com.docker.swarm.node.id={line.node_id},com.docker.swarm.task.id={line.task_id}"
