"""A small event loop on epoll: readiness, timers, signals, and work at the end of each turn.

asyncio would cost each process 7 MB more, and its child watchers reap in ways that do not suit us.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import signal
import time

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT


class Timer:
    """A call to come; `cancel()` takes it back."""

    __slots__ = ("at_s", "call", "order")

    def __init__(self, at_s: float, order: int, call: Callable[[], None]) -> None:
        self.at_s = at_s
        self.order = order
        self.call: Callable[[], None] | None = call

    def __lt__(self, other: Timer) -> bool:
        return (self.at_s, self.order) < (other.at_s, other.order)

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Runs callbacks until `stop()`. One thread; no callback may block.

    A turn is: wait, signals, ready descriptors, timers due, calls put off by `soon`, then the functions of
    `each_turn`, which so see everything that came in together (one sync to disk for all of it).
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[int], None]] = {}
        self._timers: list[Timer] = []
        self._order = 0
        self._soon: list[Callable[[], None]] = []
        self._each_turn: list[Callable[[], None]] = []
        self._signals: dict[int, Callable[[], None]] = {}
        self._wakeup_read = -1
        self._wakeup_write = -1
        self._stopping = False

    def add(self, fd: int, events: int, call: Callable[[int], None]) -> None:
        """Call `call(ready events)` whenever `fd` is ready for `events`, errors and hang-ups included."""
        self._epoll.register(fd, events)
        self._calls[fd] = call

    def change(self, fd: int, events: int) -> None:
        """Wait for other events on `fd`."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget `fd`, which must still be open."""
        if self._calls.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call `call` once, `delay_s` seconds from now."""
        self._order += 1
        timer = Timer(self.monotonic() + delay_s, self._order, call)
        heapq.heappush(self._timers, timer)
        return timer

    def soon(self, call: Callable[[], None]) -> None:
        """Call `call` after the descriptors that are ready now."""
        self._soon.append(call)

    def each_turn(self, call: Callable[[], None]) -> None:
        """Call `call` at the end of every turn."""
        self._each_turn.append(call)

    def on_signal(self, signum: int, call: Callable[[], None]) -> None:
        """Call `call` in the loop, not in the handler, after the signal came in."""
        if self._wakeup_read < 0:
            self._wakeup_read, self._wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self.add(self._wakeup_read, READ, self._signalled)
            signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        self._signals[signum] = call
        signal.signal(signum, _noted)

    def _signalled(self, _events: int) -> None:
        numbers = b""
        with contextlib.suppress(BlockingIOError):
            numbers = os.read(self._wakeup_read, 4096)
        for number in sorted(set(numbers)):
            if call := self._signals.get(number):
                call()

    def run(self) -> None:
        """Run until `stop()`."""
        while not self._stopping:
            self.turn()

    def turn(self) -> None:
        """Wait for something to happen and deal with it, once."""
        for fd, events in self._epoll.poll(self._patience_s()):
            if call := self._calls.get(fd):
                call(events)
        now_s = self.monotonic()
        while self._timers and self._timers[0].at_s <= now_s:
            if due := heapq.heappop(self._timers).call:
                due()
        put_off, self._soon = self._soon, []
        for later in put_off:
            later()
        for each in self._each_turn:
            each()

    def stop(self) -> None:
        """Return from `run` at the end of this turn."""
        self._stopping = True

    def close(self) -> None:
        """Give back the descriptors and the signals; nothing may be called afterwards."""
        if self._wakeup_read >= 0:
            signal.set_wakeup_fd(-1)
            for signum in self._signals:
                signal.signal(signum, signal.SIG_DFL)
            os.close(self._wakeup_read)
            os.close(self._wakeup_write)
        self._epoll.close()

    def _patience_s(self) -> float:
        if self._soon or self._stopping:
            return 0.0
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0].at_s - self.monotonic()) if self._timers else -1.0


def _noted(_signum: int, _frame: object) -> None:
    """The wake-up descriptor carries the signal's number; the handler itself has nothing to do."""
