from __future__ import annotations

import signal

import pytest

from swarmpy.errors import SwarmError, invalid
from swarmpy.model.states import TaskState
from worker.task.outcome import Exit, conclude, failure, signal_name, signal_number, size_text


def end(code: int | None, **more: object) -> Exit:
    return Exit(code, 1.0, **more)  # type: ignore[arg-type]  # keywords of the tests below


@pytest.mark.parametrize(
    ("ended", "stopping", "unhealthy", "state", "error"),
    [
        (end(0), False, "", TaskState.COMPLETE, ""),
        (end(0), True, "", TaskState.SHUTDOWN, ""),
        (end(2), False, "", TaskState.FAILED, "exited with code 2"),
        (end(2, last_output="boom\n"), False, "", TaskState.FAILED, "exited with code 2: boom"),
        (end(2), True, "", TaskState.SHUTDOWN, ""),
        (end(-9), False, "", TaskState.FAILED, "killed by signal 9 (SIGKILL)"),
        (end(-15), True, "no answer", TaskState.FAILED, "unhealthy: no answer"),
        (end(None, problem="gone"), False, "", TaskState.FAILED, "gone"),
        (end(None, problem="gone"), True, "", TaskState.SHUTDOWN, ""),
        (end(-9, oom_limit_bytes=1 << 26), True, "", TaskState.FAILED, "out of memory: killed at limit 64 MiB"),
        (end(0, oom_limit_bytes=1 << 26), False, "", TaskState.COMPLETE, ""),
        (None, True, "", TaskState.SHUTDOWN, ""),
    ],
)
def test_ends(ended: Exit | None, stopping: bool, unhealthy: str, state: TaskState, error: str) -> None:
    outcome = conclude(ended=ended, stopping=stopping, unhealthy=unhealthy, reason="")
    assert (outcome.state, outcome.error) == (state, error)


def test_the_managers_reason_is_said() -> None:
    assert conclude(ended=end(0), stopping=True, unhealthy="", reason="scaled down").message == "stopped: scaled down"
    outcome = conclude(ended=None, stopping=True, unhealthy="", reason="updated")
    assert outcome.message == "stopped: updated before it was started"


def test_a_fatal_error_rejects_before_the_start_and_fails_after() -> None:
    assert failure(invalid("no"), TaskState.READY).state is TaskState.REJECTED
    assert failure(invalid("no"), TaskState.STARTING).state is TaskState.FAILED


def test_signals_are_read_as_people_write_them() -> None:
    assert signal_number("") == signal.SIGTERM
    assert signal_number("SIGINT") == signal_number("int") == signal_number("2") == signal.SIGINT
    for nonsense in ("SIGNO", "0", "99", "-1"):
        with pytest.raises(SwarmError, match="there is no signal"):
            signal_number(nonsense)
    assert signal_name(9) == "SIGKILL"
    assert signal_name(50) == "signal 50"


def test_sizes_are_written_as_people_read_them() -> None:
    assert [size_text(n) for n in (10, 1536, 64 << 20, 3 << 29)] == ["10 B", "1.5 KiB", "64 MiB", "1.5 GiB"]
