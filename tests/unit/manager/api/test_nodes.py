"""The use cases of nodes and of the cluster: what they store, and every way they refuse."""

from __future__ import annotations

from typing import cast

import msgspec

from manager.store.tables import NODES
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import types_pb2 as types
from swarmpy.errors import Code
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.node import ManagerStatus, Node, NodeDescription, NodeSpec
from swarmpy.model.states import Availability, NodeRole, NodeState
from swarmpy.wire.convert import from_proto, to_proto
from tests.support.api import api, refused
from tests.support.store import put


async def test_a_node_is_promoted_and_demoted_unless_it_is_needed() -> None:
    async with api() as a:

        async def set_role(node: Node, role: NodeRole) -> Node:
            a.calls += 1
            spec = cast(types.NodeSpec, to_proto(msgspec.structs.replace(node.spec, role=role)))
            request = pb.UpdateNodeRequest(request_id=f"n{a.calls}", node_id=node.id, version=node.version, spec=spec)
            return from_proto((await a.servicer.UpdateNode(request, None)).node, Node)

        (last, worker) = await put(
            a.store,
            NODES,
            Node(id="m", spec=NodeSpec(name="last", role=NodeRole.MANAGER), manager=ManagerStatus(raft_id=1)),
            Node(id="w", spec=NodeSpec(name="w")),
        )
        promoted = await set_role(worker, NodeRole.MANAGER)
        assert (promoted.spec.role, promoted.role) == (NodeRole.MANAGER, NodeRole.MANAGER)
        assert (await set_role(promoted, NodeRole.WORKER)).spec.role is NodeRole.WORKER
        error = await refused(set_role(last, NodeRole.WORKER))
        assert (error.code, error.message) == (Code.FAILED_PRECONDITION, "last is the last manager")


async def test_nodes_are_changed_by_the_user_and_removed_when_they_are_down() -> None:
    async with api() as a:
        description = NodeDescription(hostname="host")
        member = ManagerStatus(raft_id=1)
        manager = Node(id="m", spec=NodeSpec(role=NodeRole.MANAGER), state=NodeState.DOWN, manager=member)
        (worker, _) = await put(a.store, NODES, Node(id="w", description=description, state=NodeState.READY), manager)

        async def change(version: int, spec: NodeSpec) -> Node:
            a.calls += 1
            message = cast(types.NodeSpec, to_proto(spec))
            request = pb.UpdateNodeRequest(request_id=f"n{a.calls}", node_id="host", version=version, spec=message)
            return from_proto((await a.servicer.UpdateNode(request, None)).node, Node)

        async def remove(ref: str, *, force: bool = False) -> str:
            a.calls += 1
            request = pb.RemoveNodeRequest(request_id=f"n{a.calls}", ref=ref, force=force)
            return (await a.servicer.RemoveNode(request, None)).node_id

        drained = await change(worker.version, NodeSpec(availability=Availability.DRAIN))
        assert drained.spec.availability is Availability.DRAIN
        error = await refused(change(worker.version, NodeSpec()))
        assert (error.code, error.message) == (
            Code.OUT_OF_SEQUENCE,
            f"update out of sequence: node host was changed meanwhile (version {worker.version} is older than "
            f"{drained.version}): read it again and repeat the change",
        )
        assert (await refused(change(0, NodeSpec()))).code is Code.OUT_OF_SEQUENCE
        (connected,) = await put(a.store, NODES, msgspec.structs.replace(drained, state=NodeState.READY, addr="::1"))
        active = await change(drained.version, NodeSpec())
        assert (active.spec, active.addr) == (NodeSpec(), "::1"), "what others write is kept, and is no conflict"
        assert drained.version < connected.version < active.version == active.spec_revision
        error = await refused(remove("host"))
        assert (error.code, "is not down" in error.message) == (Code.FAILED_PRECONDITION, True)
        assert (await refused(remove("m", force=True))).code is Code.FAILED_PRECONDITION
        assert await remove("host", force=True) == "w"
        assert (await refused(remove("w"))).code is Code.NOT_FOUND


async def test_the_clusters_secrets_leave_only_by_the_call_for_them() -> None:
    async with api() as a:
        cluster = (await a.servicer.GetCluster(pb.GetClusterRequest(), None)).cluster
        assert (cluster.root_ca.key_pem, cluster.join_tokens.worker) == ("", "")
        tokens = (await a.servicer.GetJoinTokens(pb.GetJoinTokensRequest(), None)).tokens
        assert (tokens.worker, tokens.manager) == ("w", "m")
        request = pb.RotateJoinTokenRequest(request_id="r", role=types.NODE_ROLE_WORKER)
        rotated = (await a.servicer.RotateJoinToken(request, None)).tokens
        assert rotated.worker.startswith("SWMTKN-1-" + "0" * 50)
        assert rotated.manager == "m"
        assert (await a.servicer.RotateJoinToken(request, None)).tokens == rotated, "a retry rotates nothing"
        spec = cast(types.ClusterSpec, to_proto(ClusterSpec(task_history_limit=2)))
        stale = pb.UpdateClusterRequest(request_id="u", version=cluster.version, spec=spec)
        assert (await refused(a.servicer.UpdateCluster(stale, None))).code is Code.OUT_OF_SEQUENCE
        now = (await a.servicer.GetCluster(pb.GetClusterRequest(), None)).cluster.version
        fresh = pb.UpdateClusterRequest(request_id="v", version=now, spec=spec)
        assert (await a.servicer.UpdateCluster(fresh, None)).cluster.spec.task_history_limit == 2
