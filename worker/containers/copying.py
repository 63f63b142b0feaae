"""Files into containers and out of them, and what a container has changed in its image.

The work is done by a thread that lives in the container's root directory: of one that runs, as its process sees it,
volumes included; of another, its own layer on its image. So no link in a container, and nothing that its programs do
meanwhile, leads to a file of the host. Archives come and go through a pipe.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeVar

from swarmpy import archive
from swarmpy.errors import Code, SwarmError, invalid, not_found, not_supported
from worker.containerd.types import Mount
from worker.containers.desk import Desk
from worker.containers.pipes import read_some, write_all
from worker.image.types import Image

PIECE_BYTES: Final = 256 * 1024
GIVEN: Final = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
"""Mounted over by the node; what is below is no change of the container's."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FileStat:
    """A file in a container; `mode` has its kind, too."""

    name: str
    size_bytes: int
    mode: int
    link_target: str = ""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True, slots=True)
class FileChange:
    """`kind` is A (added), C (changed) or D (deleted)."""

    kind: str
    path: str


async def stat_file(desk: Desk, ref: str, path: str, *, follow: bool = False) -> FileStat:
    """Return what a path in a container is.

    Raises:
        SwarmError: NOT_FOUND, there is no such container, or no such file in it.
    """
    return await _inside(desk, ref, lambda: _stat(_rooted(path), path, follow=follow))


async def copy_out(
    desk: Desk, ref: str, path: str, send: Callable[[bytes], Awaitable[object]], *, follow: bool = False
) -> None:
    """Send a tar archive with a file of a container, or a directory with all in it."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)

    with os.fdopen(writing, "wb", buffering=0) as out:

        def work() -> None:
            place = _rooted(path)
            archive.pack(place.resolve() if follow or path.endswith("/") else place, _base(path), out)

        async with asyncio.TaskGroup() as group:
            packing = group.create_task(_closing(_inside(desk, ref, work), out))
            try:
                while piece := await read_some(reading, PIECE_BYTES):
                    await send(piece)
            finally:
                os.close(reading)  # a packer that goes on writes into nothing, and ends
            await packing


async def copy_in(
    desk: Desk, ref: str, path: str, pieces: AsyncIterator[bytes], *, rename: str = "", owners: bool = False
) -> None:
    """Unpack a tar archive in a directory of a container.

    Args:
        rename: what the archive's only top entry is called there; empty leaves it.
        owners: whether owners are as in the archive, not root.

    Raises:
        SwarmError: NOT_FOUND, there is no such directory; INVALID_ARGUMENT, it is not an archive.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writing, False)

    with os.fdopen(reading, "rb", buffering=0) as source:

        def work() -> None:
            target = _rooted(path)
            if not target.is_dir():
                raise not_found(f"Could not find the directory {path} in container {ref}")
            archive.unpack(source, target, rename=rename, owners=owners)

        async with asyncio.TaskGroup() as group:
            group.create_task(_closing(_inside(desk, ref, work), source))
            try:
                async for piece in pieces:
                    await write_all(writing, piece)
            except BrokenPipeError:
                pass  # the archive was over before its bytes were, or its unpacking failed and says why
            finally:
                os.close(writing)


async def changes(desk: Desk, ref: str) -> list[FileChange]:
    """Return what a container has changed in its image's files.

    Raises:
        SwarmError: NOT_SUPPORTED, the storage driver keeps no layer to look into.
    """
    container = desk.get(ref)
    mounts = await (await desk.containers.images.open()).mounts(container.id)
    if len(mounts) != 1 or mounts[0].type != "overlay":
        raise not_supported("`container diff` under another storage driver than overlayfs")
    options = dict(option.partition("=")[::2] for option in mounts[0].options)
    lower = [Path(layer) for layer in options.get("lowerdir", "").split(":")]
    return await asyncio.to_thread(_changes, Path(options["upperdir"]), lower)


async def _inside(desk: Desk, ref: str, work: Callable[[], _T]) -> _T:
    container = desk.get(ref)

    def told() -> _T:
        try:
            return work()
        except BrokenPipeError as error:
            raise SwarmError(Code.FAILED_PRECONDITION, "whoever asked for the files has gone") from error
        except OSError as error:
            raise SwarmError(
                Code.FAILED_PRECONDITION,
                f"cannot copy {error.filename or 'files'} of container {ref}: {error.strerror}",
            ) from error

    if container.state.pid:
        return await desk.containers.rootfs.within_process(container.state.pid, told)
    return await desk.containers.rootfs.within(await _mounts(desk, container.id), told)


async def _mounts(desk: Desk, container_id: str) -> tuple[Mount, ...]:
    images = await desk.containers.images.open()
    image: Image | None = desk.files(container_id).image()
    return await images.snapshot(container_id, image) if image is not None else await images.mounts(container_id)


async def _closing(work: Awaitable[None], end: IO[bytes]) -> None:
    """Await the thread's work, and close its end of the pipe, so that the other end sees the end."""
    try:
        await work
    finally:
        end.close()


def _rooted(path: str) -> Path:
    return Path("/") / path


def _base(path: str) -> str:
    return Path(os.path.normpath(_rooted(path))).name or "."


def _stat(place: Path, path: str, *, follow: bool) -> FileStat:
    try:
        found = place.stat() if follow or path.endswith("/") else place.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise not_found(f"Could not find the file {path} in the container") from error
    link = str(place.readlink()) if stat.S_ISLNK(found.st_mode) else ""
    if path.endswith("/") and not stat.S_ISDIR(found.st_mode):
        raise invalid(f"{path} is not a directory in the container")
    return FileStat(_base(path), found.st_size, found.st_mode, link)


def _changes(upper: Path, lower: list[Path]) -> list[FileChange]:
    found = []
    for directory, folders, files in os.walk(upper):
        for name in sorted((*folders, *files)):
            place = Path(directory, name)
            inner = place.relative_to(upper)
            status = place.lstat()
            kind = "C" if any(os.path.lexists(layer / inner) for layer in lower) else "A"
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                kind = "D"
            if f"/{inner}" not in GIVEN:
                found.append(FileChange(kind, f"/{inner}"))
    return sorted(found, key=lambda change: change.path)
