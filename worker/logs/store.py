"""The logs of all tasks of a node: FIFOs are read on the event loop, a bounded piece at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from swarmpy.clock import Clock
from swarmpy.model.spec import LogDriver
from worker.logs.file import LogFile, log_options
from worker.logs.format import LineSplitter, Stream
from worker.logs.journald import JournalSender
from worker.logs.tap import Tap

# With 500 busy tasks one round of the loop takes 16 MiB, some 20 ms; one task alone still gets 300 MB/s.
READ_BYTES: Final = 32 * 1024
MOST_FIFO_BYTES: Final = 1024 * 1024
_FIFO: Final = {Stream.STDOUT: "stdout", Stream.STDERR: "stderr"}


class TaskLog:
    """One task's log while the task lives: both FIFOs, open for reading and writing, into one file.

    A FIFO that is also open for writing never ends, whoever comes and goes; the end is the task's exit.
    """

    def __init__(self, directory: Path, driver: LogDriver, clock: Clock, name: str, taps: Sequence[Tap]) -> None:
        """
        Args:
            taps: who else is given what comes; others may come and go.
        """
        self._directory = directory
        self._taps = taps
        self._paused = False
        self._flows = False
        options = log_options(driver)
        self.file = LogFile(directory / "logs", options, clock)
        self._journal = JournalSender(directory.name, name) if options.journal else None
        self.closed = False
        self._splitters = {stream: LineSplitter() for stream in Stream}
        self._descriptors: dict[Stream, int] = {}
        self.read_bytes = 0

    def fifo(self, stream: Stream) -> Path:
        return self._directory / _FIFO[stream]

    def open(self, loop: asyncio.AbstractEventLoop, owner: tuple[int, int] | None) -> None:
        """Make what is missing of the FIFOs and begin to read them.

        Args:
            owner: uid and gid of the task, which may want to open `/dev/stdout` anew; None leaves them ours.
        """
        for stream in Stream:
            path = self.fifo(stream)
            if not path.exists():
                os.mkfifo(path, 0o600)
            if owner is not None:
                os.chown(path, *owner)
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._descriptors[stream] = descriptor
            loop.add_reader(descriptor, self._read, stream)

    def go_on(self) -> None:
        """Read again, unless a tap is still full."""
        if self._paused and (self._flows or not any(tap.is_full for tap in self._taps)):
            self._paused = False
            for stream, descriptor in self._descriptors.items():
                asyncio.get_running_loop().add_reader(descriptor, self._read, stream)

    def flow(self) -> None:
        """Wait for nobody any more: the task has ended, and what is left of its output is no more than pipes hold."""
        self._flows = True
        self.go_on()

    def _pause(self) -> None:
        self._paused = True
        for descriptor in self._descriptors.values():
            asyncio.get_running_loop().remove_reader(descriptor)

    def last_error_line(self) -> str:
        """Return the last line on standard error, having read what there is; for an exit's error sentence."""
        if Stream.STDERR in self._descriptors:
            self._read_rest(Stream.STDERR)
        return self.file.last_error_line.decode("utf-8", "replace").strip()

    def finish(self) -> None:
        """The task has ended: read what is left in the FIFOs, and have followers told of the end."""
        for stream in list(self._descriptors):
            self._read_rest(stream)
            self._keep(stream, self._splitters[stream].flush())
        self.close()

    def close(self) -> None:
        """Stop reading; what is in the FIFOs stays there for the next worker."""
        for descriptor in self._descriptors.values():
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        self._descriptors.clear()
        self.closed = True
        self.file.close()
        if self._journal is not None:
            self._journal.close()

    @property
    def dropped_lines(self) -> int:
        """Lines that found no space on the disk, or that the journal did not take."""
        return self.file.dropped_lines + (self._journal.dropped_lines if self._journal is not None else 0)

    def _read_rest(self, stream: Stream) -> None:
        """Read what a FIFO can hold at most: whoever escaped the task's end may be writing on and on."""
        for _ in range(MOST_FIFO_BYTES // READ_BYTES):
            if not self._read(stream):
                return

    def _read(self, stream: Stream) -> bool:
        """Read one piece; False if there was none."""
        try:
            data = os.read(self._descriptors[stream], READ_BYTES)
        except BlockingIOError:
            return False
        self.read_bytes += len(data)
        self._keep(stream, self._splitters[stream].feed(data))
        for tap in self._taps:
            tap.feed(stream, data)
            if tap.is_full and not self._paused and not self._flows:
                self._pause()
        return bool(data)

    def _keep(self, stream: Stream, pieces: Sequence[bytes]) -> None:
        self.file.append(stream, pieces)
        if self._journal is not None:
            self._journal.append(stream, pieces)


class LogStore:
    """The logs below `tasks/`; each open one belongs to a task that is prepared or runs."""

    def __init__(self, tasks_directory: Path, clock: Clock) -> None:
        self._tasks = tasks_directory
        self._clock = clock
        self._open: dict[str, TaskLog] = {}
        self._taps: dict[str, list[Tap]] = {}
        self._read_bytes = 0
        self._dropped_lines = 0
        self.opened_listeners: list[Callable[[], None]] = []

    @property
    def totals(self) -> tuple[int, int]:
        """Bytes read from tasks, and lines dropped for want of space, since the worker started."""
        read = sum(log.read_bytes for log in self._open.values())
        dropped = sum(log.dropped_lines for log in self._open.values())
        return self._read_bytes + read, self._dropped_lines + dropped

    def directory(self, task_id: str) -> Path:
        """Return where a task's log files are."""
        return self._tasks / task_id / "logs"

    def get(self, task_id: str) -> TaskLog | None:
        """Return the open log of a task; None before it is prepared and after it has ended."""
        return self._open.get(task_id)

    @contextmanager
    def tap(self, task_id: str) -> Iterator[Tap]:
        """Give what the task writes from now on to a reader, too, until its log is finished."""
        taps = self._taps.setdefault(task_id, [])
        tap = Tap(lambda: self._go_on(task_id))
        taps.append(tap)
        try:
            yield tap
        finally:
            taps.remove(tap)
            self._go_on(task_id)
            if not taps and task_id not in self._open:
                self._taps.pop(task_id, None)

    def _go_on(self, task_id: str) -> None:
        if task_id in self._open:
            self._open[task_id].go_on()

    def flow(self, task_id: str) -> None:
        """The task has ended: have the rest of its output read, whether or not its taps have room."""
        if task_id in self._open:
            self._open[task_id].flow()

    def open(self, task_id: str, driver: LogDriver, owner: tuple[int, int] | None = None, *, name: str = "") -> TaskLog:
        """Return the task's log, open; its directory must exist.

        Args:
            name: what the lines are filed under in a journal; the id if it is empty.

        Raises:
            SwarmError: the driver or an option is not supported.
            OSError: the files cannot be made.
        """
        log = self._open.get(task_id)
        if log is None:
            taps = self._taps.setdefault(task_id, [])
            log = TaskLog(self._tasks / task_id, driver, self._clock, name or task_id, taps)
            try:
                log.open(asyncio.get_running_loop(), owner)
            except OSError:
                log.close()
                raise
            self._open[task_id] = log
            for listener in self.opened_listeners:
                listener()
        return log

    def finish(self, task_id: str) -> None:
        """End a task's log, having read the rest of it; one that is not open is no error."""
        log = self._open.pop(task_id, None)
        if log is not None:
            log.finish()
        for tap in self._taps.get(task_id, ()):
            tap.end()
        if not self._taps.get(task_id):
            self._taps.pop(task_id, None)
        if log is None:
            return
        self._read_bytes += log.read_bytes
        self._dropped_lines += log.dropped_lines
        for stream in Stream:
            log.fifo(stream).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop reading all logs; the tasks go on."""
        for log in self._open.values():
            log.close()
        self._open.clear()
