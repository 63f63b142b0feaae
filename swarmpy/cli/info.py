"""`swarmpy info` and `swarmpy version`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from swarmpy import __version__, units
from swarmpy.cli.output import show_objects
from swarmpy.cli.session import Session
from swarmpy.errors import SwarmError
from swarmpy.model.states import NodeRole, NodeState, word

if TYPE_CHECKING:
    from swarmpy.client import Client, ClusterInfo, NodeInfo
    from swarmpy.model.node import Node

Swarm = tuple["ClusterInfo", list["Node"]]


@click.command()
@click.option("-f", "--format", "format_", default="", metavar="FORMAT", help="`json` or a template.")
@click.pass_obj
def info(session: Session, format_: str) -> None:
    """Show this node and the swarm it is in."""

    async def work(client: Client) -> tuple[NodeInfo, Swarm | None, str]:
        node = await client.node.info()
        if not node.cluster_id or node.role is not NodeRole.MANAGER:
            return node, None, ""
        try:
            return node, (await client.cluster.get(), await client.nodes.list()), ""
        except SwarmError as error:
            return node, None, error.message

    node, swarm, problem = session.run(work)
    if format_:
        document = _document(node, swarm, problem)
        if format_ == "json":
            import json

            session.echo(json.dumps(document, ensure_ascii=False))
        else:
            show_objects(session, [document], format_=format_)
    else:
        session.echo("\n".join(_lines(node, swarm, problem)))


@click.command()
@click.option("-f", "--format", "format_", default="", metavar="FORMAT", help="`json` or a template.")
@click.pass_obj
def version(session: Session, format_: str) -> None:
    """Show the version."""
    if format_:
        show_objects(session, [{"Version": __version__}], format_=format_)
    else:
        session.echo(f"swarmpy version {__version__}")


def _lines(node: NodeInfo, swarm: Swarm | None, problem: str) -> Iterator[str]:
    yield "Client:"
    yield f" Version: {__version__}"
    yield "Node:"
    yield f" Swarm: {'active' if node.cluster_id else node.state}"
    if node.error:
        yield f"  Error: {node.error}"
    if node.cluster_id:
        yield f"  NodeID: {node.node_id}"
        yield f"  Is Manager: {'true' if node.role is NodeRole.MANAGER else 'false'}"
        yield f"  Session: {node.state}"
        yield f"  ClusterID: {node.cluster_id}"
    if swarm is not None:
        yield from _swarm_lines(*swarm)
    if problem:
        yield f"  Managers: {problem}"
    if node.managers:
        yield f"  Manager Addresses: {', '.join(node.managers)}"
    described = node.description
    if described.hostname:
        yield f" Name: {described.hostname}"
    yield f" Node Address: {node.addr}"
    yield f" Data Address: {node.data_addr}"
    if node.dns_addr:
        yield f" DNS: {node.dns_addr}"
    if node.metrics_addr:
        yield f" Metrics: {node.metrics_addr}"
    if described.platform.os:
        yield f" OS/Arch: {described.platform.os}/{described.platform.arch}"
        yield f" CPUs: {described.resources.nano_cpus / 1e9:g}"
        yield f" Total Memory: {units.human_bytes(described.resources.memory_bytes)}"
    if described.container_runtime:
        yield f" Container Runtime: {described.container_runtime}"
        yield f" Storage Driver: {described.storage_driver}"
    if described.capabilities:
        yield f" Capabilities: {' '.join(described.capabilities)}"
    yield from (f" Missing {name}: {why}" for name, why in sorted(node.missing.items()))
    yield from (f"WARNING: {sentence}" for sentence in node.problems)


def _swarm_lines(cluster: ClusterInfo, nodes: list[Node]) -> Iterator[str]:
    spec = cluster.cluster.spec
    yield f"  Leader: {cluster.leader_addr or 'none'}"
    yield f"  Managers: {sum(one.spec.role is NodeRole.MANAGER for one in nodes)}"
    yield f"  Nodes: {len(nodes)} ({sum(one.state is NodeState.READY for one in nodes)} ready)"
    yield f"  Heartbeat: {spec.heartbeat_period_s:g}s"
    yield f"  Task History Limit: {spec.task_history_limit}"


def _document(node: NodeInfo, swarm: Swarm | None, problem: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "Name": node.description.hostname,
        "NCPU": node.description.resources.nano_cpus / 1e9,
        "MemTotal": node.description.resources.memory_bytes,
        "NodeAddr": node.addr,
        "DataAddr": node.data_addr,
        "DNS": node.dns_addr,
        "Metrics": node.metrics_addr,
        "ContainerRuntime": node.description.container_runtime,
        "Driver": node.description.storage_driver,
        "Capabilities": list(node.description.capabilities),
        "Missing": dict(node.missing),
        "Warnings": list(node.problems),
        "Swarm": {
            "NodeID": node.node_id,
            "ClusterID": node.cluster_id,
            "LocalNodeState": "active" if node.cluster_id else node.state,
            "Session": node.state,
            "ControlAvailable": swarm is not None,
            "Role": word(node.role),
            "Error": node.error or problem,
            "RemoteManagers": list(node.managers),
        },
    }
    if swarm is not None:
        cluster, nodes = swarm
        document["Swarm"]["Nodes"] = len(nodes)
        document["Swarm"]["Managers"] = sum(one.spec.role is NodeRole.MANAGER for one in nodes)
        document["Swarm"]["Leader"] = cluster.leader_addr
    return document
