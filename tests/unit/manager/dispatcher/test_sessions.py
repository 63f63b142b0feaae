"""Sessions over a real gRPC stream: what a worker is told, when, and how its session ends."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import msgspec
import pytest

from manager.store.tables import NETWORKS, NODES, SERVICE_VERSIONS, TASKS
from manager.store.transaction import Transaction
from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.errors import Code
from swarmpy.model.endpoints import DECODER
from swarmpy.model.network import Network, NetworkAddress, NetworkRow, NetworkSpec, network_row
from swarmpy.model.service import RegistryAuth
from swarmpy.model.states import NodeState, TaskState
from swarmpy.model.task import Task
from swarmpy.wire.convert import from_proto
from tests.support.clock import settle
from tests.support.cluster import leading
from tests.support.dispatching import ScriptedWorker, dispatching, report
from tests.support.store import put


def shut_down(task: Task) -> Task:
    return msgspec.structs.replace(task, desired_state=TaskState.SHUTDOWN, desired_reason="scaled down")


def running(task: Task) -> Task:
    return msgspec.structs.replace(task, state=TaskState.RUNNING, ready=True)


async def test_a_hello_is_answered_with_everything_and_makes_the_node_ready(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker(data_addr="127.0.0.7") as worker:
        batch = await worker.next("assignments")
        assert batch.complete
        assert [t.id for t in batch.tasks] == ["t1"]
        assert [v.id for v in batch.service_versions] == ["s.1"]
        assert desk.node().state is NodeState.READY
        assert desk.node().data_addr == "127.0.0.7"
        assert desk.node().name == "host"


def _create(task: Task, tx: Transaction) -> str:
    return tx.create(TASKS, task).id


async def test_a_version_with_other_credentials_goes_along_with_its_next_task(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as worker:
        await worker.next("assignments")

        def renew(tx: Transaction) -> str:
            version = tx.get(SERVICE_VERSIONS, "s.1")
            assert version is not None
            return tx.update(
                SERVICE_VERSIONS, msgspec.structs.replace(version, pull_auth=RegistryAuth(registry="hub", username="a"))
            ).id

        await desk.store.update(renew)
        for number, told in (("t2", ["a"]), ("t3", [])):
            task = Task(id=number, service_id="s", spec_version=1, slot=2, node_id="n1", state=TaskState.ASSIGNED)
            await desk.store.update(partial(_create, task))
            batch = await worker.next("assignments")
            assert [v.pull_auth.username for v in batch.service_versions] == told


async def test_changes_follow_each_version_once_and_removals_last(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as worker:
        await worker.next("assignments")
        second = Task(id="t2", service_id="s", spec_version=1, slot=2, node_id="n1", state=TaskState.ASSIGNED)
        await desk.store.update(lambda tx: tx.create(TASKS, second).id)
        batch = await worker.next("assignments")
        assert (batch.complete, [t.id for t in batch.tasks], list(batch.service_versions)) == (False, ["t2"], [])
        await desk.change_task("t2", shut_down)
        (task,) = (await worker.next("assignments")).tasks
        assert (task.desired_state, task.desired_reason) == (int(TaskState.SHUTDOWN), "scaled down")

        def remove(tx: Transaction) -> None:
            for task_id in ("t1", "t2"):
                tx.delete(TASKS, task_id)
            tx.delete(SERVICE_VERSIONS, "s.1")

        await desk.store.update(remove)
        batch = await worker.next("assignments")
        assert sorted(batch.removed_tasks) == ["t1", "t2"]
        assert list(batch.removed_versions) == ["s.1"]


async def test_networks_are_told_before_the_first_task_on_them(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as worker:
        assert not (await worker.next("assignments")).networks
        spec = NetworkSpec(name="front", internal=True, options={"mtu": "1400"})
        network = Network(id="front1", spec=spec, subnet="10.0.0.0/24", gateway="10.0.0.1", vni=4097)
        await put(desk.store, NETWORKS, network)
        for slot in (2, 3):
            address = NetworkAddress(network_id="front1", address=f"10.0.0.{slot}")
            task = Task(
                id=f"t{slot}",
                service_id="s",
                spec_version=1,
                slot=slot,
                node_id="n1",
                state=TaskState.ASSIGNED,
                networks=(address,),
            )
            await put(desk.store, TASKS, task)
            batch = await worker.next("assignments")
            assert [(a.network_id, a.address) for a in batch.tasks[0].networks] == [("front1", f"10.0.0.{slot}")]
            if slot == 2:
                (row,) = batch.networks
                assert from_proto(row, NetworkRow) == network_row(network)
                assert (row.mtu, row.internal, row.local, row.vni) == (1400, True, False, 4097)
            else:
                assert not batch.networks, "each is told once"
        await desk.store.update(lambda tx: tx.delete(NETWORKS, "front1"))
        batch = await worker.next("assignments")
        assert (list(batch.removed_networks), list(batch.tasks)) == (["front1"], [])


async def test_a_status_is_acknowledged_when_it_is_committed_and_not_before(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as worker:
        await worker.next("assignments")
        desk.log.hold = True
        await worker.report(1, report("t1", TaskState.RUNNING, ready=True))
        answer = asyncio.ensure_future(worker.next("status_ack"))
        await desk.until(lambda: desk.log.in_flight)
        # What says the same again is no news to the overlay, and yet it must wait for what is in flight.
        await worker.report(2, report("t1", TaskState.RUNNING, ready=True))
        await settle(500)
        assert not answer.done()
        assert desk.task().state is TaskState.ASSIGNED
        desk.log.release()
        assert (await answer).sequence >= 1
        assert desk.task().ready


async def test_the_newest_status_wins_while_an_older_one_is_in_flight(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as worker:
        await worker.report(1, report("t1", TaskState.RUNNING))
        await worker.next("status_ack")
        desk.log.hold = True
        await worker.report(2, report("t1", TaskState.RUNNING, ready=True))
        await desk.until(lambda: desk.log.in_flight)
        await worker.report(3, report("t1", TaskState.RUNNING, ready=False))
        await settle(500)
        desk.log.release()
        while (await worker.next("status_ack")).sequence < 3:
            pass
        assert not desk.task().ready


async def test_what_a_worker_may_not_say_changes_nothing(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker(node_id="n2") as other, desk.worker() as worker:
        await other.report(1, report("t1", TaskState.FAILED), report("nobody", TaskState.FAILED))
        await other.next("status_ack")
        assert desk.task().state is TaskState.ASSIGNED
        await worker.report(1, report("t1", TaskState.RUNNING))
        await worker.report(2, report("t1", TaskState.PREPARING))
        await worker.report(3, report("t1", TaskState.FAILED))
        await worker.report(4, report("t1", TaskState.SHUTDOWN))
        while (await worker.next("status_ack")).sequence < 4:
            pass
        assert desk.task().state is TaskState.FAILED


async def test_the_statuses_of_the_hello_are_stored_first(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker(reports=[report("t1", TaskState.RUNNING)]) as worker:
        await worker.synced(1)
        assert desk.task().state is TaskState.RUNNING


async def test_three_missed_beats_make_a_node_down_and_end_its_session(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as worker:
        await worker.synced(1)
        await desk.clock.advance(5.5)
        assert desk.node().state is NodeState.READY
        await worker.synced(2)
        await desk.clock.advance(5.5)
        assert desk.node().state is NodeState.READY, "every message is a beat"
        await desk.clock.advance(1.0)
        await desk.until(lambda: desk.node().state is NodeState.DOWN)
        assert desk.node().message == "3 heartbeats in a row were missed"
        assert (await worker.ended()).code is Code.UNAVAILABLE
        async with desk.worker():
            assert desk.node().state is NodeState.READY


async def test_a_node_that_comes_back_while_it_is_being_marked_down_stays(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker(applied=1) as worker:
        await worker.synced(1)
        desk.log.hold = True
        await desk.clock.advance(6.5)
        await desk.until(lambda: desk.log.in_flight)
        call = desk.session()
        newer = ScriptedWorker(call)
        await newer.hello(applied=1, welcome=False)
        await desk.until(lambda: desk.dispatcher.session_of("n1"))
        desk.log.release()
        assert (await newer.read()).WhichOneof("message") == "welcome"
        await newer.synced(1)
        assert desk.node().state is NodeState.READY
        assert desk.dispatcher.watermark.settled(99) == 1, "its data plane still counts"
        call.cancel()


async def test_a_newer_session_ends_the_older_one(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as older, desk.worker() as newer:
        error = await older.ended()
        assert (error.code, "newer session" in error.message) == (Code.UNAVAILABLE, True)
        assert (await newer.next("assignments")).complete
        await newer.synced(1)


async def test_a_removed_node_is_ended_refused_and_forgotten(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker(applied=1) as worker:
        await worker.next("assignments")
        assert desk.dispatcher.watermark.settled(99) == 1
        await desk.store.update(lambda tx: tx.delete(NODES, "n1"))
        assert (await worker.ended()).code is Code.PERMISSION_DENIED
        call = desk.session()
        again = ScriptedWorker(call)
        await again.hello(welcome=False)
        assert (await again.ended()).code is Code.PERMISSION_DENIED
        assert desk.dispatcher.watermark.settled(99) == 99, "a node that is gone holds nobody up"
        assert not list(desk.dispatcher.connected())


async def test_a_node_removed_while_its_session_opens_leaves_nothing(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk:
        desk.log.hold = True
        removing = asyncio.ensure_future(desk.store.update(lambda tx: tx.delete(NODES, "n1")))
        await desk.until(lambda: desk.log.in_flight)
        worker = ScriptedWorker(desk.session())
        await worker.hello(applied=1, welcome=False)
        await asyncio.sleep(0)
        await settle(200)
        desk.log.release()
        await removing
        assert (await worker.ended()).code is Code.PERMISSION_DENIED
        assert desk.dispatcher.watermark.settled(99) == 99
        assert not list(desk.dispatcher.connected())


async def test_only_who_stops_a_task_is_told_of_draining(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as worker, desk.worker(node_id="n2") as other:
        await desk.change_task("t1", running)
        await worker.next("assignments")
        assert DECODER.decode((await worker.next("endpoints")).update).complete
        await desk.clock.advance(1.0)
        await desk.change_task("t1", shut_down)
        (task,) = (await worker.next("assignments")).tasks
        assert task.withdrawn_at == desk.store.revision
        assert (await worker.next("drain")).settled < task.withdrawn_at
        await desk.until(lambda: desk.dispatcher.endpoints.published_revision == task.withdrawn_at)
        await worker.applied(task.withdrawn_at)
        await other.applied(task.withdrawn_at, busy=["t1"])
        drain = await worker.next("drain")
        while drain.settled < task.withdrawn_at:
            drain = await worker.next("drain")
        assert list(drain.busy) == ["t1"], "a connection through another node counts"
        await other.applied(task.withdrawn_at)
        assert list((await worker.next("drain")).busy) == []
        await worker.report(1, report("t1", TaskState.SHUTDOWN))
        await worker.next("status_ack")
        await other.report(1)
        seen: list[str | None] = []
        while not seen or seen[-1] != "status_ack":
            seen.append((await other.read()).WhichOneof("message"))
        assert "drain" not in seen


async def test_a_withdrawal_is_never_told_with_a_revision_from_before_it(tmp_path: Path) -> None:
    """The state may be ahead of what the dispatcher's loop has seen when a session is written to."""
    async with dispatching(tmp_path) as desk, desk.worker() as worker:
        await desk.change_task("t1", running)
        await worker.synced(1)
        session = desk.dispatcher.session_of("n1")
        assert session is not None
        desk.log.hold = True
        changing = asyncio.ensure_future(desk.change_task("t1", shut_down))
        await desk.until(lambda: desk.log.in_flight)
        session.mark("t1")
        desk.log.commit()
        (told,) = [m for m in desk.dispatcher.messages_for(session) if m.HasField("assignments")]
        assert told.assignments.tasks[0].withdrawn_at == desk.store.revision
        await changing


async def test_a_node_without_a_data_plane_holds_nobody_up(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker(plane=False) as worker:
        await worker.synced(1)
        assert desk.dispatcher.watermark.settled(99) == 99


async def test_the_next_leader_starts_with_what_is_stored(tmp_path: Path) -> None:
    async with dispatching(tmp_path, leads=False) as desk:
        refused = ScriptedWorker(desk.session())
        await refused.hello(welcome=False)
        assert (await refused.ended()).code is Code.NOT_LEADER
        worker = ScriptedWorker(desk.session())
        async with leading(desk.dispatcher):
            await worker.hello(applied=1)
            await worker.report(1, report("t1", TaskState.RUNNING))
            await worker.next("status_ack")
        assert (await worker.ended()).code is Code.NOT_LEADER
        async with leading(desk.dispatcher):
            assert desk.dispatcher.watermark.settled(99) == 0, "its data plane may send connections anywhere"
            async with desk.worker(applied=1) as worker:
                assert (await worker.next("assignments")).tasks[0].state == int(TaskState.RUNNING)
                await worker.report(1, report("t1", TaskState.RUNNING, ready=True))
                await worker.next("status_ack")
                assert desk.task().ready
            await desk.clock.advance(13.0)
            await desk.until(lambda: desk.node().state is NodeState.DOWN)
            assert desk.dispatcher.watermark.settled(99) == 99


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (pb.WorkerMessage(heartbeat=pb.Heartbeat()), Code.INVALID_ARGUMENT, "begins with a hello"),
        (pb.WorkerMessage(hello=pb.Hello(protocol_min=7, protocol_max=9)), Code.NOT_SUPPORTED, "protocol 7 to 9"),
    ],
)
async def test_what_is_no_hello_is_refused(tmp_path: Path, message: pb.WorkerMessage, code: Code, words: str) -> None:
    async with dispatching(tmp_path) as desk:
        worker = ScriptedWorker(desk.session())
        await worker.call.write(message)
        error = await worker.ended()
        assert error.code is code
        assert words in error.message


async def test_a_second_hello_ends_the_session_and_so_does_closing_it(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk:
        async with desk.worker() as worker:
            await worker.hello(welcome=False)
            assert (await worker.ended()).code is Code.INVALID_ARGUMENT
        async with desk.worker() as worker:
            await worker.call.done_writing()
            assert (await worker.ended()).code is Code.UNAVAILABLE
        await desk.until(lambda: not list(desk.dispatcher.connected()))


async def test_a_day_after_a_node_went_its_tasks_are_orphaned(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk:

        def go_a_day_ago(tx: Transaction) -> None:
            row = tx.get(NODES, "n1")
            assert row is not None
            tx.update(NODES, msgspec.structs.replace(row, updated_at=desk.clock.now() - 24 * 3600.0))

        await desk.store.update(go_a_day_ago)
        await desk.clock.advance(61.0)
        assert desk.task().state is TaskState.ORPHANED


async def test_a_session_that_is_stuck_in_a_write_holds_nobody_up(tmp_path: Path) -> None:
    """Its worker does not read; what there is to tell does not fit in the stream's window."""
    async with dispatching(tmp_path) as desk, desk.worker(applied=1):
        many = [
            Task(id=f"m{i:05}", service_id="s", spec_version=1, slot=i, node_id="n1", state=TaskState.ASSIGNED)
            for i in range(5000)
        ]
        await put(desk.store, TASKS, *many)
        await settle(200)
        async with desk.worker(applied=7) as newer:
            batch = await newer.next("assignments")
            while "m04999" not in {t.id for t in batch.tasks}:
                batch = await newer.next("assignments")
            await newer.synced(1)
            assert desk.dispatcher.watermark.settled(99) == 7, "the older session has no say any more"
            assert list(desk.dispatcher.connected()) == ["n1"]
