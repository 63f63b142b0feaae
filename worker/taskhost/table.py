"""The tasks of a host, as data: replayed from the journal's records, and turned back into them."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.taskhost.journal import Record


class Task:
    """One started program. `status` is a wait status; None with `lost` once nobody can tell it any more.

    `pidfd` is -1 unless it is being watched; `ours` says that we are its parent and reap it.
    """

    __slots__ = (
        "at_s",
        "boot",
        "exited",
        "id",
        "lost",
        "ours",
        "pid",
        "pidfd",
        "start_time",
        "started_at_s",
        "status",
    )

    def __init__(self, task_id: str, boot: str, pid: int, start_time: int, started_at_s: float) -> None:
        self.id = task_id
        self.boot = boot
        self.pid = pid
        self.start_time = start_time
        self.started_at_s = started_at_s
        self.exited = False
        self.status: int | None = None
        self.lost = False
        self.at_s = 0.0
        self.pidfd = -1
        self.ours = False

    def end(self, status: int | None, at_s: float) -> None:
        """Note its exit; a status of None is lost."""
        self.exited = True
        self.status = status
        self.lost = status is None
        self.at_s = at_s

    def start_record(self) -> Record:
        """Return what the journal says of its start."""
        return {
            "kind": "start",
            "id": self.id,
            "pid": self.pid,
            "start_time": self.start_time,
            "at": self.started_at_s,
            "boot": self.boot,
        }

    def exit_record(self) -> Record:
        """Return what the journal says of its exit."""
        return {"kind": "exit", "id": self.id, "status": self.status, "lost": self.lost, "at": self.at_s}

    def row(self) -> dict[str, object]:
        """Return what `list` says of it."""
        return {
            "id": self.id,
            "pid": self.pid,
            "start_time": self.start_time,
            "started_at": self.started_at_s,
            "state": "exited" if self.exited else "running",
            "status": self.status,
            "lost": self.lost,
            "at": self.at_s if self.exited else None,
        }

    def push(self) -> dict[str, object]:
        """Return what subscribers hear of its exit."""
        return {
            "push": "exit",
            "id": self.id,
            "pid": self.pid,
            "status": self.status,
            "lost": self.lost,
            "at": self.at_s,
        }


class Replayed:
    """What a journal says: tasks by id, and probes that were not seen to end."""

    __slots__ = ("probes", "tasks")

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.probes: dict[int, tuple[int, str]] = {}  # pid: (start time, boot id)


def replay(records: Iterable[Record]) -> Replayed:
    """Return the state that `records` lead to. A record of another form or of an unknown task changes nothing."""
    state = Replayed()
    for record in records:
        try:
            _apply(state, record)
        except (KeyError, TypeError, ValueError):
            continue  # a later version's record, or damage: the other tasks must not suffer from it
    return state


def _apply(state: Replayed, record: Record) -> None:
    match record["kind"]:
        case "start":
            pid, start_time = _int(record["pid"]), _int(record["start_time"])
            task = Task(str(record["id"]), str(record["boot"]), pid, start_time, _float(record["at"]))
            state.tasks[task.id] = task
        case "exit":
            status = record["status"]
            state.tasks[str(record["id"])].end(None if status is None else _int(status), _float(record["at"]))
        case "forget":
            state.tasks.pop(str(record["id"]), None)
        case "probe":
            state.probes[_int(record["pid"])] = (_int(record["start_time"]), str(record["boot"]))
        case "probed":
            state.probes.pop(_int(record["pid"]), None)


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _float(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)
