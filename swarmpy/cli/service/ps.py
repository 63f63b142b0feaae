"""`swarmpy service ps`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from swarmpy.cli.session import Session
from swarmpy.cli.tasks import Listing, TaskView, show_tasks, task_options

if TYPE_CHECKING:
    from swarmpy.client import Client


@click.command()
@task_options
@click.argument("refs", metavar="SERVICE...", nargs=-1, required=True)
@click.pass_obj
def ps(session: Session, /, refs: Sequence[str], **view: Any) -> None:
    """List the tasks of services, with what each waits for or died of."""

    async def work(client: Client) -> Listing:
        from swarmpy.client import TaskFilter

        services = [(await client.services.get(ref)).service for ref in refs]
        tasks = await client.tasks.list(TaskFilter(service_ids=tuple(service.id for service in services)))
        return await Listing.fetch(client, tasks, services)

    show_tasks(session, session.run(work), TaskView(**view))
