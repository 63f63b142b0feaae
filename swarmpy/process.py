"""What the asyncio processes of a node have in common: arguments, signals, one last sentence when they fail."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import resource
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from swarmpy.errors import Code, SwarmError, precondition

log = structlog.get_logger(__name__)

EX_CONFIG: Final = 78
UNLIMITED_FILES: Final = 1 << 20
FINAL_CODES: Final = frozenset({Code.CORRUPT, Code.NOT_SUPPORTED, Code.FAILED_PRECONDITION, Code.NOT_FOUND})


def parser(process: str) -> argparse.ArgumentParser:
    """Return a parser of what swarmpyd gives every child."""
    arguments = argparse.ArgumentParser(prog=f"swarmpy {process}", description="Started by swarmpyd.")
    arguments.add_argument("--state-dir", type=Path, required=True)
    arguments.add_argument("--addr", required=True)
    arguments.add_argument("--data-addr", required=True)
    return arguments


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a folder of the state directory for this process alone.

    Raises:
        SwarmError: FAILED_PRECONDITION, another process holds it or the folder cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise precondition(f"cannot use {directory}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise precondition(f"{directory} is in use by another process") from error
        yield
    finally:
        os.close(descriptor)


def run(process: str, state_dir: Path, serve: Callable[[], Awaitable[None]]) -> int:
    """Run `serve` until SIGTERM or SIGINT, or until it fails; return the exit status.

    A failure that a restart cannot mend exits with 78, and its sentence is left in `run/<process>.error`, where
    swarmpyd finds it.
    """
    note = state_dir / "run" / f"{process}.error"
    note.unlink(missing_ok=True)
    try:
        asyncio.run(_until_signal(serve))
    except BaseExceptionGroup as group:
        return _failed(process, note, _first(group))
    except Exception as error:  # noqa: BLE001  # the process's boundary
        return _failed(process, note, error)
    return 0


def raise_open_files_limit() -> int:
    """Raise this process's limit of open files to the hard one and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else UNLIMITED_FILES


async def _until_signal(serve: Callable[[], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(serve())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")


def _first(error: BaseException) -> BaseException:
    """Return the first failure that is not a group: what the others followed from."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _failed(process: str, note: Path, error: BaseException) -> int:
    if not isinstance(error, SwarmError):
        log.critical("process_failed", exc_info=error)
        return 1
    log.critical("process_failed", reason=error.message)
    if error.code not in FINAL_CODES:
        return 1
    try:
        note.write_text(f"{process}: {error.message}\n")
    except OSError as problem:
        log.warning("error_note_not_written", path=str(note), reason=problem.strerror)
    return EX_CONFIG
