"""One process that the supervisor keeps running: start, adopt, restart with back-off, stop."""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import contextlib
import json
import os
import signal

from swarmpy.daemon import proc
from swarmpy.daemon.lines import say
from swarmpy.daemon.loop import READ
from swarmpy.daemon.spawn import Held, Program
from swarmpy.daemon.state import write_in_place

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from swarmpy.daemon.loop import Loop, Timer
    from swarmpy.daemon.spawn import Spawner

EX_CONFIG = 78  # a child that says this would fail the same way again
STOP_GRACE_S = 10.0
BACKOFF_FIRST_S = 0.1
BACKOFF_MOST_S = 5.0
CALM_S = 10.0  # a life as long as this forgives the deaths before it

STOPPED = "stopped"
RUNNING = "running"
WAITING = "waiting"  # for its back-off to pass
STOPPING = "stopping"
FAILED = "failed"


def next_delay_s(last_s: float, lived_s: float) -> float:
    """Return how long to wait before the next start, after waiting `last_s` before the one that just ended."""
    if last_s == 0.0 or lived_s >= CALM_S:
        return BACKOFF_FIRST_S
    return min(BACKOFF_MOST_S, last_s * 2)


class Child:
    """Keeps one process running while it is wanted. `on_gone` is called each time that it is not any more.

    `run_path` makes the path of a file in `run/`: `<name>.pid` names the living process for a supervisor to
    come, `<name>.error` holds the sentence with which it refused to run (status 78).
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        loop: Loop,
        spawner: Spawner,
        run_path: Callable[[str], str],
        wall: Callable[[], float],
        on_gone: Callable[[], None],
    ) -> None:
        self.name = name
        self.state = STOPPED
        self.pid = 0
        self.last_status: int | None = None
        self._argv = list(argv)
        self._environment = environment
        self._loop = loop
        self._spawner = spawner
        self._run_path = run_path
        self._wall = wall
        self._on_gone = on_gone
        self._held: Held | None = None  # None of a process that was adopted
        self._pidfd = -1
        self._start_time = 0
        self._since_s = 0.0
        self._started_s = 0.0
        self._delay_s = 0.0
        self._restarts = 0
        self._last_exit = ""
        self._error = ""
        self._wanted = False
        self._timer: Timer | None = None

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self._pidfd >= 0

    def want(self) -> None:
        """Have it running from now on."""
        self._wanted = True
        if not self.alive:
            self._start()

    def unwant(self) -> None:
        """Have it stopped: SIGTERM, and SIGKILL after 10 s."""
        self._wanted = False
        self._cancel()
        if self.alive:
            self._terminate()
        else:
            self.state = STOPPED

    def let_end(self) -> None:
        """Do not start it again when it ends by itself."""
        self._wanted = False

    def restart(self) -> None:
        """Stop it by SIGTERM, SIGKILL after 10 s, and start it again at once."""
        self._delay_s = 0.0
        if self.alive:
            self._terminate()
        else:
            self._cancel()
            self.want()

    def adopt(self, *, any_command: bool) -> bool:
        """Take over what an earlier supervisor started, if it lives.

        Unless `any_command`, one with another command line is restarted: its options have changed.
        """
        try:
            with open(self._run_path(f"{self.name}.pid"), encoding="utf-8") as file:
                record = json.load(file)
            pid, start_time, argv = int(record["pid"]), int(record["start_time"]), record["argv"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        pidfd = proc.open_same(pid, start_time)
        if pidfd is None:
            return False
        self._wanted = True
        self._watch(pid, start_time, pidfd)
        say(f"swarmpyd: adopted {self.name}, pid {pid}")
        if argv != self._argv and not any_command:
            self.restart()
        return True

    def report(self) -> dict[str, object]:
        """Return what `status` shows of it; `since` is in wall seconds."""
        return {
            "pid": self.pid or None,
            "state": self.state,
            "restarts": self._restarts,
            "since": self._since_s,
            "last_exit": self._last_exit,
            "error": self._error,
        }

    def check(self) -> None:
        """Deal with its exit, if it has exited."""
        if not self.alive:
            return
        if self._held is None:
            status = proc.strangers_status(self._pidfd, self.pid, self._start_time)
            if status is not None or not proc.exists(self._pidfd):
                self._gone(status)
        else:
            status = proc.peek_status(self.pid)
            if status is not None:
                self._gone(status)

    def _start(self) -> None:
        self._cancel()
        self._error = ""
        with contextlib.suppress(OSError):
            os.unlink(self._run_path(f"{self.name}.error"))
        try:
            held = self._spawner.fork(Program(self._argv, self._environment))
            try:
                record = {"pid": held.pid, "start_time": held.start_time, "argv": self._argv}
                write_in_place(self._run_path(f"{self.name}.pid"), json.dumps(record).encode())
            except OSError:
                held.abandon()
                raise
        except OSError as error:
            self._started_s = self._loop.monotonic()
            self._last_exit = f"cannot start: {(error.strerror or str(error)).lower()}"
            say(f"swarmpyd: {self.name}: {self._last_exit}")
            self._wait()
            return
        held.go()
        self._held = held
        self._watch(held.pid, held.start_time, held.pidfd)
        say(f"swarmpyd: started {self.name}, pid {held.pid}")

    def _watch(self, pid: int, start_time: int, pidfd: int) -> None:
        self.pid = pid
        self._start_time = start_time
        self._pidfd = pidfd
        self._since_s = self._wall()
        self._started_s = self._loop.monotonic()
        self.state = RUNNING
        self._loop.add(pidfd, READ, self._ready)

    def _ready(self, _events: int) -> None:
        self.check()

    def _gone(self, status: int | None) -> None:
        """The process has exited: end its group, reap it, and do what is to be done next."""
        self._cancel()
        if self._held is not None:
            # While the leader is not reaped its group's number cannot be another's.
            proc.kill_group(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.last_status = status
        self._last_exit = self._words(status)
        say(f"swarmpyd: {self.name}, pid {self.pid}: {self._last_exit}")
        self._loop.remove(self._pidfd)
        os.close(self._pidfd)
        self.pid, self._pidfd = 0, -1
        if not self._wanted:
            # Otherwise it stays: it names a dead process, and its space is had for the next one on a full disk.
            with contextlib.suppress(OSError):
                os.unlink(self._run_path(f"{self.name}.pid"))
        was_stopping = self.state == STOPPING
        self.state = STOPPED
        if self._wanted:
            if status is not None and os.WIFEXITED(status) and os.WEXITSTATUS(status) == EX_CONFIG:
                self._fail()
            else:
                self._restarts += 1
                if was_stopping:
                    self._start()
                else:
                    self._wait()
        self._on_gone()

    def _words(self, status: int | None) -> str:
        words = proc.say_status(status)
        if self._held is not None:
            outcome = self._held.outcome()
            self._held.close()
            self._held = None
            if not isinstance(outcome, bool):
                words = outcome.sentence
        return words

    def _fail(self) -> None:
        self.state = FAILED
        try:
            with open(self._run_path(f"{self.name}.error"), encoding="utf-8", errors="replace") as file:
                self._error = file.read(4096).strip()
        except OSError:
            self._error = f"{self.name} refused to run and left no reason; see the log"

    def _wait(self) -> None:
        self.state = WAITING
        self._delay_s = next_delay_s(self._delay_s, self._loop.monotonic() - self._started_s)
        self._timer = self._loop.later(self._delay_s, self.want)

    def _terminate(self) -> None:
        if self.state == STOPPING:
            return
        self.state = STOPPING
        self._signal(signal.SIGTERM)
        self._cancel()
        self._timer = self._loop.later(STOP_GRACE_S, lambda: self._signal(signal.SIGKILL))

    def _signal(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(self._pidfd, signum)

    def _cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
