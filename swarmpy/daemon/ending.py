"""The end of all tasks: have the task host stop them, and see that nothing is left."""

from __future__ import annotations

import os
import socket

from swarmpy.daemon import cgroups, proc
from swarmpy.daemon.child import STOP_GRACE_S
from swarmpy.daemon.lines import Connection, decode, say
from swarmpy.daemon.request import Refused

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Callable

    from swarmpy.daemon.child import Child
    from swarmpy.daemon.containers import ContainerEnd
    from swarmpy.daemon.loop import Loop

TASKHOST_SOCKET = "taskhost.sock"
_STEP_S = 0.02
_PATIENCE_S = 2 * STOP_GRACE_S
_SWEEPS = 100


class TaskEnd:
    """Runs once: `begin`, and later `done` is called.

    A task host that has died is started first: only it knows the tasks. It gets the word, ends the tasks and
    then itself; the containers end beside them. Whatever has slipped out of its task's process group and become a child
    of ours is killed, and the tasks' cgroups are removed.
    """

    def __init__(
        self,
        loop: Loop,
        taskhost: Child,
        containers: ContainerEnd,
        run_path: Callable[[str], str],
        done: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._taskhost = taskhost
        self._containers = containers
        self._path = run_path(TASKHOST_SOCKET)
        self._cgroups = run_path(cgroups.RECORD)
        self._done = done
        self._deadline_s = loop.monotonic() + _PATIENCE_S
        self._connection: Connection | None = None
        self._told_pid = 0
        self._over = False
        self._sweeps = 0

    def begin(self) -> None:
        """Start telling the task host, and ending the containers."""
        self._containers.begin()
        self._taskhost.want()
        self._step()

    def _step(self) -> None:
        if self._over and not self._taskhost.alive:
            if self._containers.over:
                self._sweep()
            else:
                self._loop.later(_STEP_S, self._step)
            return
        if self._told_pid and self._taskhost.pid != self._told_pid:
            if self._taskhost.last_status == 0:
                self._taskhost.unwant()
                self._over = True
            self._told_pid = 0  # it died before it was done: the next one is told again
        elif self._loop.monotonic() > self._deadline_s and not self._over:
            say("swarmpyd: the task host did not stop its tasks in time; some may be left")
            self._over = True
            self._taskhost.unwant()
        elif not self._told_pid and self._connection is None and not self._over:
            self._tell()
        self._loop.later(_STEP_S, self._step)

    def _tell(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()  # it is still starting; the next step tries again
            return
        self._connection = Connection(self._loop, sock, self._answered, self._closed)
        self._connection.send({"op": "shutdown", "grace_s": STOP_GRACE_S})

    def _answered(self, connection: Connection, line: bytes) -> None:
        try:
            answer = decode(line)
        except Refused as error:
            say(f"swarmpyd: the task host answered what is no answer: {error.sentence}")
            connection.close()
            return
        if answer.get("ok") is True:
            self._told_pid = self._taskhost.pid
        else:
            say(f"swarmpyd: the task host does not stop its tasks: {answer.get('error')}")

    def _closed(self, _connection: Connection) -> None:
        self._connection = None

    def _sweep(self) -> None:
        """Kill what is left of the tasks and has become our child, generation by generation."""
        left = proc.children_of(os.getpid())
        groups = [] if left else cgroups.remove(self._cgroups)
        self._sweeps += 1
        if (left or groups) and self._sweeps <= _SWEEPS:
            for pid in left:
                proc.kill(pid)
            self._loop.later(_STEP_S, self._sweep)
            return
        if left:
            say(f"swarmpyd: these processes could not be killed: {left}")
        if groups:
            say(f"swarmpyd: these cgroups could not be removed: {groups}")
        self._done()
