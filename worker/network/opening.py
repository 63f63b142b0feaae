"""The thread on which the machine's links and tables are changed, in the order in which that is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError

if TYPE_CHECKING:
    from worker.network.machine import Machine

LOOK_S: Final = 10.0
_TRY_AGAIN_S: Final = 5.0
_OPEN_WITHIN_S: Final = 10.0
_log = structlog.get_logger()
T = TypeVar("T")


class MachineThread:
    """Opens the machine's side once it is wanted, and again if that fails."""

    def __init__(self, make: Callable[[], Machine], clock: Clock) -> None:
        """
        Args:
            make: opens the machine's side, and takes over what is there; called on the thread.
        """
        self._make = make
        self._clock = clock
        self._wanted = asyncio.Event()
        self._opened = asyncio.Event()
        self._machine: Machine | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._problem = ""

    @property
    def is_wanted(self) -> bool:
        return self._wanted.is_set()

    def want(self) -> None:
        """Have it opened."""
        self._wanted.set()

    async def run(self, on_open: Callable[[], None]) -> None:
        """Keep it open from when it is wanted until cancelled; links and tables outlive it."""
        await self._wanted.wait()
        while True:
            try:
                await self._session(on_open)
            except SwarmError as error:
                if error.message != self._problem:
                    _log.warning("the node's networks are not open", error=error.message)
                self._problem = error.message
            await self._clock.sleep(_TRY_AGAIN_S)

    async def open(self) -> None:
        """Return when it is open: a `submit` right after that is the next to be done.

        Raises:
            SwarmError: UNAVAILABLE, it cannot be opened now; the sentence says why.
        """
        self._wanted.set()
        try:
            async with asyncio.timeout(_OPEN_WITHIN_S):
                await self._opened.wait()
        except TimeoutError as error:
            sentence = self._problem or "the node's networks are not open yet"
            raise SwarmError(Code.UNAVAILABLE, sentence) from error

    def submit(self, change: Callable[[Machine], T]) -> asyncio.Future[T]:
        """Have something done with the machine; calls are done in order.

        Raises:
            SwarmError: UNAVAILABLE, it is not open; the sentence says why.
        """
        if self._machine is None:
            raise SwarmError(Code.UNAVAILABLE, self._problem or "the node's networks are being opened")
        return asyncio.get_running_loop().run_in_executor(self._thread, change, self._machine)

    async def _session(self, on_open: Callable[[], None]) -> None:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="networks") as thread:
            opening = thread.submit(self._make)
            try:
                self._machine = await asyncio.wrap_future(opening)
                self._thread, self._problem = thread, ""
                self._opened.set()
                on_open()
                while True:
                    await self._clock.sleep(LOOK_S)
                    await self.submit(_keep)
            finally:
                self._opened.clear()
                self._machine = self._thread = None
                thread.submit(_close, opening)


def _keep(machine: Machine) -> None:
    machine.keep_forwarding()


def _close(opening: Future[Machine]) -> None:
    """Close what was opened, also for a caller that did not wait for it."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
