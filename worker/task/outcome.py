"""What a task's end means: its final state and the sentence that people read. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from swarmpy.errors import Code, SwarmError, invalid
from swarmpy.model.states import TaskState

_LONGEST_OUTPUT: Final = 200
_SIGNALLED: Final = 128
_UNITS: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. `exit_code` below zero is `-signal`, None if nobody knows it. Of a container it is 128 + n
    for signal n, as Docker has it, with `by_signal` set: a program may exit with such a code by itself, too.

    `at` is wall seconds. `oom_limit_bytes` above zero: the kernel killed in the task's group at that limit.
    `problem` is the sentence where the exit code is lost. `last_output` is the last line on standard error.
    """

    exit_code: int | None
    at: float
    problem: str = ""
    oom_limit_bytes: int = 0
    last_output: str = ""
    by_signal: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A final state with its message and error."""

    state: TaskState
    message: str
    error: str = ""
    exit_code: int | None = None


def conclude(*, ended: Exit | None, stopping: bool, unhealthy: str, reason: str) -> Outcome:
    """Return the final state of a task that had got as far as ACCEPTED or further.

    Args:
        ended: how its process ended; None if there never was one.
        stopping: whether this worker had told it to stop, or was told to before it started.
        unhealthy: the last output of a health check that had failed for good; empty otherwise.
        reason: why the manager wanted it stopped.
    """
    stopped = f"stopped: {reason}" if reason else "stopped"
    if ended is None:
        return Outcome(TaskState.SHUTDOWN, f"{stopped} before it was started")
    if ended.oom_limit_bytes and ended.exit_code != 0:
        error = f"out of memory: killed at limit {size_text(ended.oom_limit_bytes)}"
        return Outcome(TaskState.FAILED, "failed", error, ended.exit_code)
    if unhealthy:
        return Outcome(TaskState.FAILED, "failed", f"unhealthy: {unhealthy}", ended.exit_code)
    if stopping:
        return Outcome(TaskState.SHUTDOWN, stopped, "", ended.exit_code)
    if ended.exit_code is None:
        return Outcome(TaskState.FAILED, "failed", ended.problem)
    if ended.exit_code == 0:
        return Outcome(TaskState.COMPLETE, "finished", "", 0)
    return Outcome(TaskState.FAILED, "failed", exit_sentence(ended), ended.exit_code)


def exit_sentence(ended: Exit) -> str:
    """Return how a process failed, with the last thing that it said."""
    code = ended.exit_code
    assert code is not None, "only a known exit has a sentence"
    if code < 0:
        text = f"killed by signal {-code} ({signal_name(-code)})"
    elif ended.by_signal and code > _SIGNALLED:
        text = f"exited with code {code} ({signal_name(code - _SIGNALLED)})"
    else:
        text = f"exited with code {code}"
    said = ended.last_output.strip()[:_LONGEST_OUTPUT]
    return f"{text}: {said}" if said else text


def failure(error: SwarmError, state: TaskState) -> Outcome:
    """Return the final state for an error that no retry mends: REJECTED before STARTING, FAILED after."""
    final = TaskState.REJECTED if state < TaskState.STARTING else TaskState.FAILED
    return Outcome(final, "rejected" if final == TaskState.REJECTED else "failed", error.message)


def size_text(size_bytes: int) -> str:
    """Return a size as people write it: `64 MiB`, `1.5 GiB`."""
    for unit, factor in _UNITS:
        if size_bytes >= factor:
            return f"{size_bytes / factor:.4g} {unit}"
    return f"{size_bytes} B"


def signal_name(number: int) -> str:
    """Return `SIGTERM` for 15; `signal N` for a number without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def signal_number(text: str) -> int:
    """Return the number of a stop signal written as `SIGTERM`, `TERM` or `15`; empty means SIGTERM.

    Raises:
        SwarmError: INVALID_ARGUMENT, there is no such signal.
    """
    if not text:
        return signal.SIGTERM
    if text.isdigit() and 0 < int(text) < signal.NSIG:
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    try:
        return signal.Signals[name]
    except KeyError:
        raise invalid(f"there is no signal {text!r}; give a name such as SIGINT or a number") from None


def lost_without_memory(state: TaskState) -> SwarmError:
    """Return the error of a task that the manager knows as started and this node knows nothing of."""
    return SwarmError(
        Code.FAILED_PRECONDITION,
        f"lost: this node has no record of the task, which was {state.name.lower()};"
        " its state directory was wiped or damaged",
    )
