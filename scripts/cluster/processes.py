"""The processes of a node, as the kernel shows them: nothing of the node has to answer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from swarmpy.daemon import proc

MARK: Final = "SWARMPY_CLUSTER_MARK"
"""Environment variable by whose value the processes of a node are known."""

PROCESSES: Final = ("taskhost", "dataplane", "worker", "manager", "containerd")
# By these the command lines of a node's processes are known, whoever started them.
MODULES: Final = frozenset({b"swarmpy.daemon", b"worker", b"worker.dataplane", b"manager"})
SCRIPTS: Final = (b"/swarmpyd", b"/daemon/lean.py", b"/taskhost/__main__.py")
DEATH_DEADLINE_S: Final = 30.0
_LOOK_S: Final = 0.01


def runs(pid: int) -> bool:
    """Return whether there is a process of that pid that is no zombie."""
    stat = proc.read_stat(pid)
    return stat is not None and not stat.zombie


def recorded(state_dir: Path) -> dict[str, int]:
    """Return the pids of the processes that swarmpyd started and that run, from its records."""
    found = {}
    for name in PROCESSES:
        with contextlib.suppress(OSError, ValueError):
            record = json.loads((state_dir / "run" / f"{name}.pid").read_text())
            stat = proc.read_stat(record["pid"])
            if stat is not None and not stat.zombie and stat.start_time == record["start_time"]:
                found[name] = int(record["pid"])
    return found


def of_node(state_dir: Path, mark: str) -> list[int]:
    """Return the pids of all processes of a node that run, its tasks included; not those of its clients."""
    marked = f"{MARK}={mark}".encode()

    def is_ours(pid: int) -> bool:
        environment = _read(pid, "environ")
        return (
            marked in environment
            or (b"SWARMPY_TASK_ID=" in environment and str(state_dir).encode() in environment)
            or _serves(pid, state_dir)
            or _lives_in(pid, state_dir)
        )

    return [pid for pid in proc.all_pids() if pid != os.getpid() and is_ours(pid) and runs(pid)]


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes; those that have ended are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_all(find: Callable[[], list[int]]) -> None:
    """Kill whatever `find` finds, as if the machine had lost its power.

    Raises:
        TimeoutError: there are always more of them.
    """
    send(find(), signal.SIGSTOP)  # so that no process sees another one die before it

    def none_left() -> bool:
        pids = find()
        send(pids, signal.SIGKILL)
        return not pids

    await_true(none_left, "everything is killed")


def await_true(condition: Callable[[], bool], what: str) -> None:
    """Wait for what the kernel does soon. TimeoutError: it did not."""
    end_s = time.monotonic() + DEATH_DEADLINE_S
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"did not come true in {DEATH_DEADLINE_S:g} s: {what}")
        time.sleep(_LOOK_S)


def command_of(pid: int) -> str:
    """Return a command line for people to read."""
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace") or "(gone)"


def _serves(pid: int, state_dir: Path) -> bool:
    """Whether this is swarmpyd or a child of it, and not a client that names the directory too."""
    words = _read(pid, "cmdline").split(b"\0")
    argument = str(state_dir).encode()
    if argument not in words and b"--state-dir=" + argument not in words:
        return False
    return any(word in MODULES or word.endswith(SCRIPTS) for word in words)


def _lives_in(pid: int, directory: Path) -> bool:
    """Whether the process works in the directory, or writes to a file of it: the tasks' output goes there."""
    for link in ("cwd", "fd/1", "fd/2"):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/{link}").readlink().is_relative_to(directory):
                return True
    return False


def _read(pid: int, name: str) -> bytes:
    """Return a file of /proc/<pid>; empty if the process has ended or is somebody else's."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
