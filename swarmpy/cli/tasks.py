"""The table of tasks that `service ps`, `node ps` and `stack ps` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from swarmpy.cli.describe import host_ports, title, what_runs, what_runs_header, why
from swarmpy.cli.filters import filter_option, parse_filters
from swarmpy.cli.human import ago, short_id, timestamp
from swarmpy.cli.output import list_options, show_list
from swarmpy.cli.session import Session
from swarmpy.cli.table import shorten
from swarmpy.errors import invalid
from swarmpy.model.node import Node
from swarmpy.model.service import Service, version_id
from swarmpy.model.spec import TaskSpec
from swarmpy.model.states import TaskState, word
from swarmpy.model.task import Task

if TYPE_CHECKING:
    from swarmpy.client import Client

Command = TypeVar("Command", bound=Callable[..., Any])

FILTERS: Final = ("id", "name", "node", "desired-state")
REASON_WIDTH: Final = 72

_SHUTDOWN: Final = (TaskState.SHUTDOWN, TaskState.REMOVE, TaskState.COMPLETE)
_DESIRED: Final[Mapping[str, tuple[TaskState, ...]]] = {
    "running": (TaskState.RUNNING,),
    "ready": (TaskState.READY,),
    "accepted": (TaskState.ACCEPTED,),
    "shutdown": _SHUTDOWN,
}


def task_options(command: Command) -> Command:
    """Add the options of a task table to a command."""
    for decorate in (
        filter_option,
        list_options,
        click.option("--no-trunc", is_flag=True, help="Show ids, commands and reasons in full."),
        click.option("--no-resolve", is_flag=True, help="Show ids in place of names."),
    ):
        command = decorate(command)
    return command


@dataclass(frozen=True)
class TaskView:
    """How tasks are shown: what the options of `task_options` hold."""

    filters: Sequence[str]
    format_: str
    quiet: bool
    no_trunc: bool
    no_resolve: bool


@dataclass(frozen=True)
class Listing:
    """Tasks with what their table refers to, by id."""

    tasks: Sequence[Task]
    services: Mapping[str, Service]
    nodes: Mapping[str, Node]
    templates: Mapping[str, TaskSpec]

    @classmethod
    async def fetch(
        cls, client: Client, tasks: Sequence[Task], services: Iterable[Service], nodes: Iterable[Node] | None = None
    ) -> Listing:
        """Return the listing of `tasks`; nodes that are not given, and what older tasks run, are asked for."""
        known = {service.id: service for service in services}
        templates = {version_id(s.id, s.spec_version): s.spec.task for s in known.values()}
        for task in tasks:
            if task.service_version_id not in templates and task.service_id in known:
                _, version = await client.tasks.get(task.id)
                templates[task.service_version_id] = version.task
        found = await client.nodes.list() if nodes is None else nodes
        return cls(tasks, known, {node.id: node for node in found}, templates)

    def service_name(self, task: Task) -> str:
        service = self.services.get(task.service_id)
        return service.name if service else task.service_id

    def node_name(self, task: Task, *, resolve: bool) -> str:
        node = self.nodes.get(task.node_id)
        return node.name if node and resolve else task.node_id


def show_tasks(session: Session, listing: Listing, view: TaskView) -> None:
    """Write tasks slot by slot, the newest first, older ones below it as a branch."""
    selected = _select(listing, view)
    ordered = sorted(selected, key=lambda t: (listing.service_name(t), t.slot, -t.created_at, -t.version))
    rows = []
    for _, tasks in groupby(ordered, key=lambda t: (t.service_id, t.slot)):
        for position, task in enumerate(tasks):
            rows.append(_row(session, listing, task, view, branch=position > 0))
    columns = {
        "ID": "ID",
        "NAME": "Name",
        what_runs_header(listing.templates.values()): "Image",
        "NODE": "Node",
        "DESIRED STATE": "DesiredState",
        "CURRENT STATE": "CurrentState",
        "ERROR": "Error",
        "PORTS": "Ports",
    }
    show_list(session, columns, rows, format_=view.format_, quiet=view.quiet)


def _row(session: Session, listing: Listing, task: Task, view: TaskView, *, branch: bool) -> dict[str, Any]:
    name = task.id if view.no_resolve else f"{listing.service_name(task)}.{task.slot}"
    template = listing.templates.get(task.service_version_id)
    current = " ".join(filter(None, (title(word(task.state)), ago(task.status_at or task.created_at, session.now()))))
    reason = why(task)
    in_table = view.format_ in ("", "table")
    return {
        "ID": short_id(task.id, no_trunc=view.no_trunc),
        "Name": f" \\_ {name}" if branch and in_table else name,
        "Image": what_runs(template, no_trunc=view.no_trunc) if template else "",
        "Node": listing.node_name(task, resolve=not view.no_resolve),
        "DesiredState": title(word(task.desired_state)),
        "CurrentState": current,
        "Error": reason if view.no_trunc or not in_table else shorten(reason, REASON_WIDTH),
        "Ports": host_ports(task),
        "Addresses": ", ".join(one.address for one in task.networks),
        "ExitCode": task.exit_code,
        "PID": task.pid,
        "SpecVersion": task.spec_version,
        "CreatedAt": timestamp(task.created_at),
    }


def _select(listing: Listing, view: TaskView) -> list[Task]:
    wanted = parse_filters(view.filters, FILTERS)
    states = [state for text in wanted["desired-state"] for state in _desired(text)]

    def matches(task: Task) -> bool:
        name = f"{listing.service_name(task)}.{task.slot}"
        node = listing.nodes.get(task.node_id)
        on_node = (task.node_id, node.name if node else "")
        return (
            (not wanted["id"] or task.id.startswith(wanted["id"]))
            and (not wanted["name"] or name.startswith(wanted["name"]))
            and (not wanted["node"] or any(w and (w in on_node or task.node_id.startswith(w)) for w in wanted["node"]))
            and (not states or task.desired_state in states)
        )

    return [task for task in listing.tasks if matches(task)]


def _desired(text: str) -> tuple[TaskState, ...]:
    if text not in _DESIRED:
        raise invalid(f'invalid desired state "{text}": use one of {", ".join(_DESIRED)}')
    return _DESIRED[text]
