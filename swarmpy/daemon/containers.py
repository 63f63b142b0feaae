"""The end of all containers: a process that can talk to containerd stops them, then containerd is stopped."""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import os

from swarmpy.daemon.child import STOPPED
from swarmpy.daemon.containerd import TASKS
from swarmpy.daemon.lines import say
from swarmpy.daemon.publishing import LED

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Callable

    from swarmpy.daemon.child import Child
    from swarmpy.daemon.containerd import Runtime
    from swarmpy.daemon.loop import Loop

_STEP_S = 0.02
_PATIENCE_S = 40.0  # above what the process takes: containerd's start, the containers' grace, unmounting
_PINS = "netns"
"""Name of the directory in `run/` in which tasks' network namespaces are pinned, by mounts."""
_JOINED = "wiring"
"""What is there once a task of this boot was joined to the node: then there are links and rules of the node's own."""


class ContainerEnd:
    """Runs once: `begin`, and later `over` is true.

    A containerd that has died is started first: without it nobody takes the containers and their mounts away. The
    process that speaks to it (`worker.containerd.ending`) is one of the few here that need libraries; so it is started
    only where there is something to end.
    """

    def __init__(
        self, loop: Loop, containerd: Child, ender: Child, run_path: Callable[[str], str], runtime: Runtime
    ) -> None:
        self.over = False
        self._loop = loop
        self._containerd = containerd
        self._ender = ender
        self._run_path = run_path
        self._runtime = runtime
        self._deadline_s = 0.0
        self._is_late = False
        self._is_stopping = False

    def begin(self) -> None:
        """Start ending the containers."""
        self._deadline_s = self._loop.monotonic() + _PATIENCE_S
        if self._is_something_left():
            if self._runtime.argv:
                self._containerd.want()
            self._ender.want()
            self._ender.let_end()
        self._step()

    def _is_something_left(self) -> bool:
        if self._runtime.socket and not self._runtime.argv:
            return True  # another's containerd: what it runs of ours cannot be seen from here
        return any(os.path.exists(self._run_path(name)) for name in (_JOINED, LED)) or any(
            _is_filled(self._run_path(name)) for name in (TASKS, _PINS)
        )

    def _step(self) -> None:
        if self._ender.state == STOPPED and not self._is_stopping:
            if self._ender.last_status:
                say("swarmpyd: not all containers could be ended; see above")
            self._is_stopping = True
            self._containerd.unwant()
        elif not self._is_late and self._loop.monotonic() > self._deadline_s:
            say("swarmpyd: the containers did not end in time; some may be left")
            self._is_late = True
            self._ender.unwant()
        self.over = self._is_stopping and self._containerd.state == STOPPED
        if not self.over:
            self._loop.later(_STEP_S, self._step)


def _is_filled(directory: str) -> bool:
    """Return whether there is anything below `directory`: in it, or in one of its directories."""
    try:
        with os.scandir(directory) as entries:
            return any(not entry.is_dir() or bool(os.listdir(entry.path)) for entry in entries)
    except OSError:
        return False
