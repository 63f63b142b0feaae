from __future__ import annotations

from typing import Any

import pytest

from swarmpy.model.states import TaskState
from worker.task.state import KILL_AGAIN_AFTER_S, NEVER, Facts, Operation, Process, Step, step

T = TaskState
P = Process
O = Operation  # noqa: E741  # a column of a table, as T and P


def facts(state: TaskState, process: Process = P.ABSENT, desired: TaskState = T.RUNNING, **more: Any) -> Facts:
    return Facts(state=state, process=process, desired=desired, **more)


@pytest.mark.parametrize(
    ("known", "operation"),
    [
        (facts(T.ASSIGNED), O.ACCEPT),
        (facts(T.ACCEPTED), O.PREPARE),
        (facts(T.PREPARING), O.PREPARE),
        (facts(T.READY), O.START),
        (facts(T.READY, desired=T.COMPLETE), O.START),
        (facts(T.READY, desired=T.READY), O.WAIT),
        (facts(T.STARTING), O.START),
        (facts(T.STARTING, P.RUNNING, healthy=False), O.WAIT),
        (facts(T.STARTING, P.RUNNING), O.RUN),
        (facts(T.READY, P.RUNNING), O.RUN),
        (facts(T.RUNNING, P.RUNNING), O.WAIT),
        (facts(T.RUNNING, P.EXITED), O.FINISH),
        (facts(T.STARTING, P.EXITED), O.FINISH),
        (facts(T.FAILED, P.EXITED), O.RELEASE),
        (facts(T.FAILED, P.EXITED, released=True), O.WAIT),
        (facts(T.FAILED, P.EXITED, released=True, removed=True), O.WAIT),
        (facts(T.FAILED, P.EXITED, released=True, removed=True, acknowledged=True), O.REMOVE),
        (facts(T.READY, P.UNKNOWN), O.WAIT),
        (facts(T.RUNNING, P.UNKNOWN, desired=T.SHUTDOWN), O.WAIT),
    ],
)
def test_each_situation_has_one_operation(known: Facts, operation: Operation) -> None:
    assert step(known, 0.0) == Step(operation)


@pytest.mark.parametrize("state", [T.ASSIGNED, T.ACCEPTED, T.PREPARING, T.READY, T.STARTING])
@pytest.mark.parametrize("wish", [{"desired": T.SHUTDOWN}, {"desired": T.REMOVE}, {"removed": True}])
def test_what_was_not_started_ends_at_once(state: TaskState, wish: dict[str, Any]) -> None:
    assert step(facts(state, **wish), 0.0) == Step(O.FINISH)


def stopping(**more: Any) -> Facts:
    return facts(T.RUNNING, P.RUNNING, T.SHUTDOWN, drain_until_s=50.0, grace_s=10.0, **more)


def test_a_stop_waits_for_connections_but_not_for_ever() -> None:
    assert step(stopping(drained=False), 49.0) == Step(O.WAIT, 50.0)
    assert step(stopping(drained=True), 0.0) == Step(O.SIGNAL)
    assert step(stopping(drained=False), 50.0) == Step(O.SIGNAL)


def test_a_stop_goes_from_signal_to_kill_and_kill_again() -> None:
    assert step(stopping(signalled_s=60.0), 69.0) == Step(O.WAIT, 70.0)
    assert step(stopping(signalled_s=60.0), 70.0) == Step(O.KILL)
    again_s = 70.0 + KILL_AGAIN_AFTER_S
    assert step(stopping(signalled_s=60.0, killed_s=70.0), 71.0) == Step(O.WAIT, again_s)
    assert step(stopping(signalled_s=60.0, killed_s=70.0), again_s) == Step(O.KILL)


def test_an_unhealthy_task_does_not_wait_for_connections() -> None:
    known = facts(T.RUNNING, P.RUNNING, failing=True, drained=False, drain_until_s=50.0)
    assert step(known, 0.0) == Step(O.SIGNAL)


def test_a_temporary_error_holds_the_next_try_back() -> None:
    assert step(facts(T.READY, retry_at_s=5.0), 4.0) == Step(O.WAIT, 5.0)
    assert step(facts(T.READY, retry_at_s=5.0), 5.0) == Step(O.START)
    assert step(facts(T.RUNNING, P.RUNNING, retry_at_s=5.0), 4.0) == Step(O.WAIT, NEVER)
