"""How tasks ended that are not our children: those that an earlier task host had started."""

from __future__ import annotations

import socket

from swarmpy.daemon import proc
from swarmpy.daemon.lines import Connection, decode
from swarmpy.daemon.request import Refused, is_whole

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Callable

    from swarmpy.daemon.loop import Loop
    from worker.taskhost.table import Task

STEP_S = 0.05
PATIENCE_S = 5.0


class Inquiry:
    """Asks the kernel, which tells on newer Linux, then the supervisor, which reaps tasks of a dead host.

    `found(task, wait status or None, wall seconds or None)` is called once for each task, after 5 s at most;
    None means that nobody knows.
    """

    def __init__(self, loop: Loop, path: str, found: Callable[[Task, int | None, float | None], None]) -> None:
        self._loop = loop
        self._path = path
        self._found = found
        self._open: dict[str, tuple[Task, float]] = {}  # by task id, with the deadline
        self._asked: list[Task] = []
        self._connection: Connection | None = None
        self._ticking = False

    def add(self, task: Task) -> None:
        """Find out about `task`, which is dead or a zombie; its `pidfd` is used if it has one."""
        self._open[task.id] = (task, self._loop.monotonic() + PATIENCE_S)
        if not self._ticking:
            self._ticking = True
            self._loop.soon(self._tick)

    def _tick(self) -> None:
        gone = []
        for task, deadline_s in list(self._open.values()):
            status = proc.strangers_status(task.pidfd, task.pid, task.start_time) if task.pidfd >= 0 else None
            if status is not None or self._loop.monotonic() > deadline_s:
                self._close(task, status, None)
            elif task.pidfd < 0 or not proc.exists(task.pidfd):
                gone.append(task)
        if gone and self._connection is None:
            self._ask(gone)
        self._ticking = bool(self._open)
        if self._ticking:
            self._loop.later(STEP_S, self._tick)
        elif self._connection:
            self._connection.close()

    def _ask(self, gone: list[Task]) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()  # no supervisor at the moment; the next tick tries again
            return
        # Only those that are reaped by now: if the supervisor does not know them, nobody does.
        self._asked = gone
        self._connection = Connection(self._loop, sock, self._answered, self._closed)
        self._connection.send({"op": "exits", "pids": sorted(task.pid for task in gone)})

    def _answered(self, connection: Connection, line: bytes) -> None:
        try:
            exits = _read_exits(decode(line))
        except Refused:
            connection.close()
            return
        for task in self._asked:
            if task.id in self._open:
                status, at_s = exits.get((task.pid, task.start_time), (None, None))
                self._close(task, status, at_s)
        connection.close()

    def _closed(self, _connection: Connection) -> None:
        self._connection = None
        self._asked = []

    def _close(self, task: Task, status: int | None, at_s: float | None) -> None:
        del self._open[task.id]
        self._found(task, status, at_s)


def _read_exits(answer: dict[str, object]) -> dict[tuple[int, int], tuple[int, float]]:
    """Return (wait status, wall seconds) by (pid, start time) of an `exits` answer.

    Raises:
        Refused: it is not such an answer.
    """
    exits = answer.get("exits")
    if answer.get("ok") is not True or not isinstance(exits, list):
        raise Refused("invalid", f"the supervisor does not tell the exits: {answer.get('error')}")
    known = {}
    for row in exits:
        if isinstance(row, dict) and all(is_whole(row.get(name)) for name in ("pid", "start_time", "status")):
            known[row["pid"], row["start_time"]] = (row["status"], float(row.get("at", 0.0)))
    return known
