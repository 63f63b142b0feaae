"""Laws of a task's life on its node, whatever happens in whatever order."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmpy.errors import Code, SwarmError
from swarmpy.model.states import TaskState
from tests.support.clock import settle
from tests.unit.worker.task.test_runner import Desk, assignment, open_desk
from worker.assignments import Changes
from worker.task.state import TABLE, Facts, Operation, Process, step

EVENTS = st.lists(
    st.one_of(
        st.just("assign"),
        st.sampled_from([TaskState.READY, TaskState.RUNNING, TaskState.SHUTDOWN, TaskState.REMOVE]),
        st.sampled_from(["remove", "exit-0", "exit-1", "unavailable", "refused", "drain", "acknowledge", "inventory"]),
        st.floats(0.01, 20.0),
    ),
    max_size=12,
)


@settings(max_examples=120, deadline=None)
@given(EVENTS)
def test_states_never_move_back_and_what_must_end_ends(events: list[object]) -> None:
    asyncio.run(_live(events))


async def _live(events: list[object]) -> None:
    async with open_desk() as desk:
        seen = [TaskState.NEW]
        await desk.put(assignment(drain_timeout_s=5.0, ports=(80,)))
        for event in events:
            await _happen(desk, event)
            if "a" in desk.runner.statuses:
                status = desk.status()
                seen.append(status.state)
                assert not status.ready or status.state == TaskState.RUNNING
        assert seen == sorted(seen), "a state never moves back"
        if "a" in desk.runner.assignments:
            await desk.want(TaskState.SHUTDOWN)
            await desk.clock.advance(60.0)
            assert desk.status().state.is_stopped, "what must stop has stopped"
        desk.runner.apply(Changes(removed=("a",)))
        await desk.clock.advance(60.0)
        await desk.acknowledge_all()
        await desk.clock.advance(60.0)
        assert not desk.runner.statuses, "what is removed is forgotten"
        assert not desk.journal.records


async def _happen(desk: Desk, event: object) -> None:
    match event:
        case "assign":
            await desk.put(assignment(drain_timeout_s=5.0, ports=(80,)))
        case TaskState():
            if "a" in desk.runner.assignments:
                await desk.want(event)
        case "remove":
            desk.runner.apply(Changes(removed=("a",)))
        case "exit-0" | "exit-1":
            desk.executor.exit("a", int(event[-1]))
        case "unavailable":
            error = SwarmError(Code.UNAVAILABLE, "later")
            for call in ("prepare", "start", "signal-15", "release", "remove"):
                desk.executor.errors[call] = [error, error]
        case "refused":
            desk.executor.errors["start"] = [SwarmError(Code.INVALID_ARGUMENT, "never")]
        case "drain":
            desk.runner.drain(100, [])
        case "acknowledge":
            await desk.acknowledge_all()
        case "inventory":
            desk.executor.tell_inventory({})
        case float():
            await desk.clock.advance(event)
    await settle()


STATES = st.sampled_from([s for s in TaskState if s not in (TaskState.NEW, TaskState.PENDING, TaskState.REMOVE)])


@given(
    st.builds(
        Facts,
        state=STATES,
        desired=st.sampled_from(list(TaskState)),
        process=st.sampled_from(list(Process)),
        removed=st.booleans(),
        acknowledged=st.booleans(),
        released=st.booleans(),
        healthy=st.booleans(),
        failing=st.booleans(),
        drained=st.booleans(),
        drain_until_s=st.floats(0, 100),
        signalled_s=st.none() | st.floats(0, 100),
        killed_s=st.none() | st.floats(0, 100),
        grace_s=st.floats(0, 100),
        retry_at_s=st.floats(0, 100),
    ),
    st.floats(0, 300),
)
def test_every_situation_has_a_step(facts: Facts, now_s: float) -> None:
    chosen = step(facts, now_s)
    if chosen.operation is Operation.WAIT:
        assert chosen.until_s > now_s, "nothing waits for the past"
    if facts.process is not Process.RUNNING:
        assert chosen.operation not in (Operation.SIGNAL, Operation.KILL, Operation.RUN)
    if facts.process is Process.RUNNING and not facts.state.is_stopped:
        assert chosen.operation not in (Operation.PREPARE, Operation.START, Operation.RELEASE, Operation.FINISH)
    if chosen.operation is Operation.REMOVE:
        assert facts.acknowledged
        assert facts.removed
        assert facts.released
    assert set(TABLE.values()) < set(Operation)
