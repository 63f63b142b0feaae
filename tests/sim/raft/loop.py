"""Virtual time: a heap of events, and an asyncio loop whose turns cost no time and come in one order only."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import heapq
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
TRACE_LINES: Final = 2000


def end(waiter: asyncio.Future[T], result: T) -> None:
    """Settle a future, unless somebody was faster."""
    if not waiter.done():
        waiter.set_result(result)


class Event:
    """Something that will happen unless it is cancelled."""

    __slots__ = ("action", "cancelled")

    def __init__(self, action: Callable[[], object]) -> None:
        self.action, self.cancelled = action, False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualLoop(asyncio.BaseEventLoop):
    """Just enough of a loop for tasks and futures; it has no files, threads or time of its own, and never runs.

    Args:
        failed: gets what a callback raised.
    """

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        super().__init__()
        self._turns: deque[asyncio.Handle] = deque()
        self._failed = failed

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._turns.append(handle)
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # Else it is about what nobody waits for any more, said whenever the garbage is collected.
        if "handle" in context:
            self._failed(context["exception"])

    def settle(self) -> None:
        """Run until nobody has anything to do but wait."""
        turns = self._turns
        while turns:
            handle = turns.popleft()
            if not handle.cancelled():
                handle._run()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Be the running loop of this thread."""
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)


class Timeline:
    """The one order of all that happens. `now_us` is virtual microseconds since the start.

    What is noted goes into a fingerprint: two runs of a seed that differ anywhere differ there.
    """

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        self.failures: list[BaseException] = []
        self.loop: Final = VirtualLoop(self.failures.append)
        self._heap: list[tuple[int, int, Event]] = []
        self._order = 0
        self._trace: deque[tuple[int, str, tuple[object, ...]]] = deque(maxlen=TRACE_LINES)
        self._hash = hashlib.blake2b(digest_size=8)

    def after(self, delay_us: int, action: Callable[[], object]) -> Event:
        """Let `action` happen `delay_us` from now, behind what is due at that time already."""
        event = Event(action)
        self._order += 1
        heapq.heappush(self._heap, (self.now_us + max(0, delay_us), self._order, event))
        return event

    def run(self, until_us: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass up to `until_us`, or until `stop()` holds or somebody failed."""
        heap, loop = self._heap, self.loop
        with loop.current():
            loop.settle()
            while heap and heap[0][0] <= until_us and not stop():
                self.now_us, _, event = heapq.heappop(heap)
                if not event.cancelled:
                    self.events += 1
                    event.action()
                    loop.settle()
                if self.failures:
                    raise self.failures[0]
        if not stop():
            self.now_us = max(self.now_us, until_us)

    async def sleep(self, delay_us: int) -> None:
        woken: asyncio.Future[None] = self.loop.create_future()
        self.after(delay_us, lambda: end(woken, None))
        await woken

    def note(self, what: str, *details: object) -> None:
        """Say what happened, for the trace and the fingerprint; `details` must print alike in every run."""
        line = (self.now_us, what, details)
        self._trace.append(line)
        self._hash.update(repr(line).encode())

    @property
    def fingerprint(self) -> str:
        return self._hash.hexdigest()

    def trace(self, lines: int = TRACE_LINES) -> list[str]:
        """Return the last things that were noted, oldest first."""
        last = list(self._trace)[-lines:]
        return [f"{at / 1000:12.3f} ms  {what:10} {' '.join(map(str, details))}" for at, what, details in last]
