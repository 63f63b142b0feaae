"""Watching what is stored."""

from __future__ import annotations

from manager.api.consensus import ConsensusReport
from manager.api.servicer import ControlServicer
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES, SERVICES, TASKS
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.errors import Code
from swarmpy.model.node import Node
from swarmpy.model.service import Service
from swarmpy.model.task import Task
from tests.support.api import api, no_logs, refused, web, why_needed
from tests.support.clock import FakeClock
from tests.support.cluster import random_source
from tests.support.store import put, running_store


async def test_a_watch_tells_what_is_asked_from_where_it_is_asked() -> None:
    async with api() as a:
        await put(a.store, SERVICES, Service(id="s", spec=web()))
        since = a.store.revision
        await put(a.store, TASKS, Task(id="t", service_id="s", spec_version=1, slot=1))
        await put(a.store, TASKS, Task(id="u", service_id="other", spec_version=1, slot=1))
        await a.store.update(lambda tx: tx.delete(SERVICES, "s"))
        answers = aiter(a.servicer.Watch(pb.WatchRequest(since=since, service_id="s"), None))
        assert (await anext(answers)).revision == since
        (created,) = (await anext(answers)).changes
        assert (created.task.id, created.removed) == ("t", False)
        (removed,) = (await anext(answers)).changes
        assert (removed.service.id, removed.removed) == ("s", True)
        nodes = aiter(a.servicer.Watch(pb.WatchRequest(kinds=[pb.OBJECT_KIND_CLUSTER]), None))
        assert (await anext(nodes)).revision == a.store.revision
        (cluster,) = a.store.view().all(CLUSTERS)
        await put(a.store, CLUSTERS, cluster)
        (told,) = (await anext(nodes)).changes
        assert (told.cluster.id, told.cluster.root_ca.key_pem, told.cluster.join_tokens.worker) == ("c", "", "")


async def test_a_watch_from_too_long_ago_is_compacted() -> None:
    async with running_store() as store:
        await put(store, NODES, Node(id="n"))
        small = Store(store._proposer, history_changes=2)
        servicer = ControlServicer(
            small, FakeClock(), random_source(), no_logs, "", ConsensusReport(small, "m1", no_logs), why_needed
        )
        for data in store._proposer.log:  # type: ignore[attr-defined]  # the fake one
            small.apply(1, data)
        await put(store, NODES, *(Node(id=f"n{i}") for i in range(5)))
        for index, data in enumerate(store._proposer.log[1:], 2):  # type: ignore[attr-defined]  # the fake one
            small.apply(index, data)
        error = await refused(anext(aiter(servicer.Watch(pb.WatchRequest(since=1), None))))
        assert error.code is Code.COMPACTED
