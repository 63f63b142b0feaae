"""The last endpoints on disk, so that a restarted data plane serves before any worker connects."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec
import structlog

from swarmpy.clock import Clock
from swarmpy.model.base import Model
from swarmpy.model.endpoints import EndpointsUpdate
from worker.dataplane.protocol import TaskNamespace

INTERVAL_S: Final = 1.0
RETRY_S: Final = 10.0
VERSION: Final = 1
_ENCODER: Final = msgspec.msgpack.Encoder()
log = structlog.get_logger()


class Saved(Model, frozen=True):
    """The file's content. `endpoints` is a complete update."""

    endpoints: EndpointsUpdate
    version: int = VERSION
    node_id: str = ""
    cluster_id: str = ""
    vip_prefix: str = ""
    tasks: tuple[TaskNamespace, ...] = ()


_DECODER: Final = msgspec.msgpack.Decoder(Saved)
EMPTY: Final = Saved(endpoints=EndpointsUpdate(revision=0, complete=True))


class EndpointStore:
    """Owns `path`. `changed` asks for a write, which `run` makes at most once in `INTERVAL_S`."""

    def __init__(self, path: Path, *, clock: Clock, take: Callable[[], Saved]) -> None:
        self._path = path
        self._clock = clock
        self._take = take
        self._dirty = asyncio.Event()
        self._failing = False
        self._lock = threading.Lock()
        self._begun = 0
        self._replaced = 0

    def changed(self) -> None:
        """Have what `take` returns then written soon."""
        self._dirty.set()

    async def run(self) -> None:
        """Write when asked; until cancelled. A full disk is logged once and tried again."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._clock.sleep(INTERVAL_S if await self._write() else RETRY_S)

    async def flush(self) -> None:
        """Write now if a write is due."""
        if self._dirty.is_set():
            self._dirty.clear()
            await self._write()

    async def _write(self) -> bool:
        saved = self._take()
        self._begun += 1
        try:
            await self._in_thread(saved)
        except asyncio.CancelledError:
            self._dirty.set()  # nobody waits for that thread any more: what it writes is written again by `flush`
            raise
        except OSError as error:
            self._dirty.set()
            if not self._failing:
                self._failing = True
                log.error(
                    "cannot save the endpoints; serving goes on, but a restart begins with older ones",
                    path=str(self._path),
                    error=str(error),
                )
            return False
        if self._failing:
            self._failing = False
            log.info("the endpoints are saved again", path=str(self._path))
        return True

    async def _in_thread(self, saved: Saved) -> None:
        # A thread that ends, not the loop's executor: beside an idle thread, each system call on a descriptor of
        # this process has to count its users.
        executor = ThreadPoolExecutor(1, thread_name_prefix="endpoints")
        try:
            await asyncio.get_running_loop().run_in_executor(executor, self._replace, self._begun, saved)
        finally:
            executor.shutdown(wait=False)

    def _replace(self, number: int, saved: Saved) -> None:
        """Runs in a thread, beside another one at most: that of a write that was not waited for."""
        with self._lock:
            if number > self._replaced:
                _replace(self._path, saved)
                self._replaced = number


def load(path: Path) -> Saved:
    """Return what was saved last; `EMPTY` if there is nothing, or nothing readable (set aside, logged)."""
    try:
        saved = _DECODER.decode(path.read_bytes())
    except FileNotFoundError:
        return EMPTY
    except (msgspec.DecodeError, OSError) as error:
        _set_aside(path, str(error))
        return EMPTY
    if saved.version != VERSION:
        _set_aside(path, f"its version is {saved.version}, this process reads {VERSION}")
        return EMPTY
    return saved


def _replace(path: Path, saved: Saved) -> None:
    # Not synced: after a power cut the worker's complete update comes anyway, and the rename keeps one whole file.
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(_ENCODER.encode(saved))
    temporary.replace(path)


def _set_aside(path: Path, reason: str) -> None:
    aside = path.with_suffix(".corrupt")
    try:
        path.replace(aside)
    except OSError as error:
        reason += f"; it cannot be renamed either: {error}"
    log.error(
        "the saved endpoints cannot be read and are set aside; serving begins with the worker's next update",
        path=str(path),
        aside=str(aside),
        reason=reason,
    )
