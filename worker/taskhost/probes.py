"""Probes: short programs whose exit code and output are wanted, many at a time."""

from __future__ import annotations

import collections
import os
import signal

from swarmpy.daemon import proc
from swarmpy.daemon.loop import READ
from swarmpy.daemon.request import Refused
from worker.taskhost.programs import probe_program

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Mapping

    from swarmpy.daemon.lines import Connection
    from swarmpy.daemon.loop import Loop, Timer
    from swarmpy.daemon.request import Request
    from swarmpy.daemon.spawn import Held, Spawner
    from worker.taskhost.journal import Journal, Record

MOST_RUNNING = 64
MOST_WAITING = 256
MOST_OUTPUT_BYTES = 1 << 17
MOST_TIMEOUT_S = 3600.0
_READ_BYTES = 1 << 16


class Probe:
    """One probe that was forked."""

    __slots__ = (
        "connection",
        "held",
        "most_output",
        "output",
        "output_fd",
        "recorded",
        "request",
        "timed_out",
        "timer",
    )

    def __init__(self, request: Request, connection: Connection, held: Held, output_fd: int, most_output: int) -> None:
        self.request = request
        self.connection = connection
        self.held = held
        self.output_fd = output_fd
        self.most_output = most_output
        self.output = bytearray()
        self.timed_out = False
        self.recorded = False
        self.timer: Timer | None = None


class Probes:
    """Runs at most 64 probes at once and queues 256 more. A probe whose client has gone is killed."""

    def __init__(self, loop: Loop, spawner: Spawner, journal: Journal, boot_id: str) -> None:
        self._loop = loop
        self._spawner = spawner
        self._journal = journal
        self._boot_id = boot_id
        self._running: dict[int, Probe] = {}
        self._forked: list[Probe] = []
        self._waiting: collections.deque[tuple[Request, Connection]] = collections.deque()
        self._closed = False

    def submit(self, request: Request, connection: Connection) -> None:
        """Run the probe of an `exec` request, now or when there is room.

        Raises:
            Refused: the request is wrong, or the queue is full.
        """
        if self._closed:
            raise Refused("unavailable", "the task host is stopping; no probe is run any more")
        if len(self._running) < MOST_RUNNING:
            self._begin(request, connection)
        elif len(self._waiting) < MOST_WAITING:
            self._waiting.append((request, connection))
        else:
            raise Refused("busy", f"{MOST_RUNNING} probes run and {MOST_WAITING} wait; try again later")

    def forked(self) -> tuple[list[Probe], list[Record]]:
        """Return the probes forked since the last call, with what the journal should say of them."""
        forked, self._forked = self._forked, []
        return forked, [self._record(probe) for probe in forked]

    def launch(self, probe: Probe, *, recorded: bool) -> None:
        """Let a forked probe run. It runs unrecorded too: a full disk must not make every task unhealthy."""
        probe.recorded = recorded
        probe.held.go()

    def records(self) -> list[Record]:
        """Return what the journal should say of the probes that run."""
        return [self._record(probe) for probe in self._running.values() if probe.recorded]

    def end_strays(self, strays: Mapping[int, tuple[int, str]]) -> set[int]:
        """Kill the probes of an earlier task host; return the groups of those whose leader is gone already."""
        orphaned = set()
        for pid, (start_time, boot_id) in strays.items():
            self._journal.owe({"kind": "probed", "pid": pid})
            if boot_id != self._boot_id:
                continue
            pidfd = proc.open_same(pid, start_time)
            if pidfd is None:
                orphaned.add(pid)
            else:
                proc.kill_group(pid, signal.SIGKILL)
                os.close(pidfd)
        return orphaned

    def drop(self, connection: Connection) -> None:
        """Kill the probes of a client that has gone; nobody waits for their answers."""
        self._waiting = collections.deque(entry for entry in self._waiting if entry[1] is not connection)
        for probe in self._running.values():
            if probe.connection is connection:
                _kill(probe)

    def close(self) -> None:
        """Kill and reap every probe; those that wait are refused."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft()[0].refuse("unavailable", "the task host is stopping; the probe was not run")
        self._forked.clear()
        for probe in list(self._running.values()):
            _kill(probe)
            status = os.waitid(os.P_PID, probe.held.pid, os.WEXITED | os.WNOWAIT)
            if status is not None:
                self._end(probe, proc.wait_status(status))

    def _begin(self, request: Request, connection: Connection) -> None:
        timeout_s = request.number("timeout_s", least=0.001, most=MOST_TIMEOUT_S)
        most_output = request.whole("max_output", 4096, least=0, most=MOST_OUTPUT_BYTES)
        output_fd, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # Only our end must not block; the flag belongs to the open file, so each end has its own.
            os.set_blocking(theirs, True)
            held = self._spawner.fork(probe_program(request, theirs))
        except Refused:
            os.close(output_fd)
            raise
        except OSError as error:
            os.close(output_fd)
            raise Refused("failed", f"cannot fork for a probe: {str(error.strerror).lower()}") from error
        finally:
            os.close(theirs)
        probe = Probe(request, connection, held, output_fd, most_output)
        self._running[held.pid] = probe
        self._forked.append(probe)
        probe.timer = self._loop.later(timeout_s, lambda: self._time_out(probe))
        self._loop.add(output_fd, READ, lambda _events: self._read(probe))
        self._loop.add(held.pidfd, READ, lambda _events: self._exited(probe))

    def _time_out(self, probe: Probe) -> None:
        probe.timed_out = True
        _kill(probe)

    def _read(self, probe: Probe) -> None:
        self._read_once(probe)

    def _read_once(self, probe: Probe) -> bool:
        """Return whether there may be more to read."""
        try:
            chunk = os.read(probe.output_fd, _READ_BYTES)
        except BlockingIOError:
            return False
        probe.output += chunk[: probe.most_output - len(probe.output)]
        if not chunk:
            self._loop.remove(probe.output_fd)
        return bool(chunk)

    def _exited(self, probe: Probe) -> None:
        status = proc.peek_status(probe.held.pid)
        if status is not None:
            self._end(probe, status)
            self._next()

    def _end(self, probe: Probe, status: int) -> None:
        """Clean up after a probe that is a zombie, and answer."""
        pid = probe.held.pid
        if probe.timer:
            probe.timer.cancel()
        proc.kill_group(pid, signal.SIGKILL)
        while len(probe.output) < probe.most_output and self._read_once(probe):
            pass
        os.waitpid(pid, 0)
        del self._running[pid]
        if probe.recorded:
            self._journal.owe({"kind": "probed", "pid": pid})
        outcome = probe.held.outcome()
        self._loop.remove(probe.held.pidfd)
        self._loop.remove(probe.output_fd)
        os.close(probe.held.pidfd)
        os.close(probe.output_fd)
        probe.held.close()
        if not isinstance(outcome, bool):
            probe.request.refuse(outcome.code, outcome.sentence)
            return
        code = os.waitstatus_to_exitcode(status)
        output = probe.output.decode("utf-8", "replace")
        probe.request.done(exit_code=code, timed_out=probe.timed_out, output=output)

    def _next(self) -> None:
        while self._waiting and len(self._running) < MOST_RUNNING:
            request, connection = self._waiting.popleft()
            try:
                self._begin(request, connection)
            except Refused as refused:
                request.refuse(refused.code, refused.sentence)

    def _record(self, probe: Probe) -> Record:
        held = probe.held
        return {"kind": "probe", "pid": held.pid, "start_time": held.start_time, "boot": self._boot_id}


def _kill(probe: Probe) -> None:
    """Kill a probe that is not reaped; right after the fork it does not lead its group yet."""
    proc.kill_group(probe.held.pid, signal.SIGKILL)
    proc.kill(probe.held.pid)
