"""`swarmpy node`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from swarmpy.cli.documents import in_order, node_document
from swarmpy.cli.each import to_each
from swarmpy.cli.filters import filter_option, label_filter, parse_filters
from swarmpy.cli.given import usage_error
from swarmpy.cli.output import list_options, show_list, show_objects
from swarmpy.cli.pretty_node import pretty_node
from swarmpy.cli.session import Session
from swarmpy.cli.tasks import Listing, TaskView, show_tasks, task_options
from swarmpy.errors import SwarmError
from swarmpy.model.node import Node, NodeSpec
from swarmpy.model.states import Availability, NodeRole, word
from swarmpy.notation.choices import parse_choice
from swarmpy.notation.pairs import parse_labels

if TYPE_CHECKING:
    from swarmpy.client import Client, ConsensusMember, NodeFilter

FILTERS = ("id", "name", "node.label", "role", "availability")
COLUMNS = {
    "ID": "MarkedID",
    "HOSTNAME": "Hostname",
    "STATUS": "Status",
    "AVAILABILITY": "Availability",
    "MANAGER STATUS": "ManagerStatus",
    "VERSION": "EngineVersion",
}


@click.group()
def node() -> None:
    """Manage the nodes of the swarm."""


@node.command()
@filter_option
@list_options
@click.pass_obj
def ls(session: Session, filters: Sequence[str], format_: str, quiet: bool) -> None:
    """List nodes; `*` marks the one that answers."""
    wanted = parse_filters(filters, FILTERS)

    async def work(client: Client) -> tuple[list[Node], str]:
        nodes = await client.nodes.list(_selection(wanted))
        return nodes, (await client.node.info()).node_id

    nodes, here = session.run(work)
    rows = [_row(one, here) for one in sorted(nodes, key=lambda n: (n.name, n.id))]
    show_list(session, COLUMNS, rows, format_=format_, quiet=quiet)


@node.command()
@task_options
@click.argument("refs", metavar="[NODE...]", nargs=-1)
@click.pass_obj
def ps(session: Session, /, refs: Sequence[str], **view: Any) -> None:
    """List the tasks on nodes (on this one, if none is named)."""

    async def work(client: Client) -> Listing:
        from swarmpy.client import TaskFilter

        nodes = [await _get(client, ref) for ref in refs or ("self",)]
        tasks = await client.tasks.list(TaskFilter(node_ids=tuple(one.id for one in nodes)))
        services = [listed.service for listed in await client.services.list()]
        used = {task.service_id for task in tasks}
        return await Listing.fetch(client, tasks, [s for s in services if s.id in used], nodes)

    show_tasks(session, session.run(work), TaskView(**view))


@node.command()
@click.option("--pretty", is_flag=True, help="Show it for reading rather than as JSON.")
@click.option("-f", "--format", "format_", default="", metavar="FORMAT", help="`json` or a template.")
@click.argument("refs", metavar="self|NODE...", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, refs: Sequence[str], pretty: bool, format_: str) -> None:
    """Show nodes in detail."""

    async def work(client: Client) -> list[tuple[Node, ConsensusMember | None]]:
        nodes = [await _get(client, ref) for ref in refs]
        members: dict[str, ConsensusMember] = {}
        if any(one.manager is not None for one in nodes):
            members = {member.node_id: member for member in (await client.cluster.consensus()).members}
        return [(one, members.get(one.id)) for one in nodes]

    found = session.run(work)
    if pretty:
        session.echo("\n\n".join(pretty_node(*one) for one in found))
    else:
        show_objects(session, [node_document(*one) for one in found], format_=format_)


@node.command()
@click.option("--availability", metavar="active|pause|drain", help="Whether the node takes tasks.")
@click.option("--label-add", multiple=True, metavar="KEY=VALUE", help="Add or replace a label.")
@click.option("--label-rm", multiple=True, metavar="KEY", help="Remove a label.")
@click.option("--role", metavar="worker|manager", help="Make the node a manager, or a worker again.")
@click.argument("ref", metavar="self|NODE")
@click.pass_obj
def update(
    session: Session,
    ref: str,
    availability: str | None,
    label_add: Sequence[str],
    label_rm: Sequence[str],
    role: str | None,
) -> None:
    """Change a node."""
    changes: dict[str, Any] = {}
    if availability is not None:
        changes["availability"] = _choice("availability", availability, Availability)
    if role is not None:
        changes["role"] = _choice("role", role, NodeRole)
    added = parse_labels(label_add)
    if not changes and not added and not label_rm:
        raise usage_error("nothing to change: give --availability, --role, --label-add or --label-rm")

    def changed(spec: NodeSpec) -> NodeSpec:
        labels = {key: value for key, value in spec.labels.items() if key not in label_rm} | added
        return msgspec.structs.replace(spec, labels=labels, **changes)

    async def work(client: Client) -> None:
        one = await _get(client, ref)
        await client.nodes.update(one, changed(one.spec))

    session.run(work)
    session.echo(ref)


@node.command()
@click.argument("refs", metavar="NODE...", nargs=-1, required=True)
@click.pass_obj
def promote(session: Session, refs: Sequence[str]) -> None:
    """Make nodes managers."""
    _set_role(session, refs, NodeRole.MANAGER)


@node.command()
@click.argument("refs", metavar="NODE...", nargs=-1, required=True)
@click.pass_obj
def demote(session: Session, refs: Sequence[str]) -> None:
    """Make managers workers again."""
    _set_role(session, refs, NodeRole.WORKER)


@node.command()
@click.option("-f", "--force", is_flag=True, help="Remove a node that is not down, too.")
@click.argument("refs", metavar="NODE...", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, refs: Sequence[str], force: bool) -> int:
    """Remove nodes that are down."""
    return to_each(session, refs, lambda client, ref: client.nodes.remove(ref, force=force))


def _set_role(session: Session, refs: Sequence[str], role: NodeRole) -> None:
    async def work(client: Client) -> None:
        for ref in refs:
            one = await _get(client, ref)
            if one.spec.role is role:
                session.echo(f"Node {ref} is already a {word(role)}.")
                continue
            await client.nodes.update(one, msgspec.structs.replace(one.spec, role=role))
            done = "promoted to a manager in" if role is NodeRole.MANAGER else "demoted in"
            session.echo(f"Node {ref} {done} the swarm.")

    session.run(work)


async def _get(client: Client, ref: str) -> Node:
    return await client.nodes.get((await client.node.info()).node_id if ref == "self" else ref)


def _choice(flag: str, text: str, choices: Any) -> Any:
    try:
        return parse_choice(text, choices)
    except SwarmError as error:
        raise usage_error(f'invalid argument "{text}" for "--{flag}": {error}') from error


def _row(one: Node, here: str) -> dict[str, Any]:
    manager = one.manager
    return {
        "ID": one.id,
        "MarkedID": f"{one.id} *" if one.id == here else one.id,
        "Self": one.id == here,
        "Hostname": one.name,
        "Status": word(one.state).title(),
        "Availability": word(one.spec.availability).title(),
        "ManagerStatus": ""
        if manager is None
        else "Leader"
        if manager.leader
        else "Reachable"
        if manager.reachable
        else "Unreachable",
        "EngineVersion": one.description.engine_version,
        "Addr": one.addr,
        "Labels": in_order(one.spec.labels),
    }


def _selection(wanted: dict[str, tuple[str, ...]]) -> NodeFilter:
    from swarmpy.client import NodeFilter

    return NodeFilter(
        ids=wanted["id"],
        names=wanted["name"],
        labels=label_filter(wanted["node.label"]),
        roles=tuple(parse_choice(text, NodeRole) for text in wanted["role"]),
        availabilities=tuple(parse_choice(text, Availability) for text in wanted["availability"]),
    )
