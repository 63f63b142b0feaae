"""`swarmpy container cp`: files into a container, and out of one."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from swarmpy.cli.given import usage_error
from swarmpy.cli.session import Session
from swarmpy.errors import Code, SwarmError, invalid, not_found

if TYPE_CHECKING:
    from swarmpy.client import Client
    from swarmpy.client.containers import FileStat

_PIECE_BYTES: Final = 256 * 1024
_AHEAD: Final = 8
_STREAM: Final = "-"


@click.command()
@click.option("-a", "--archive", "owners", is_flag=True, help="Keep owners and set-id bits.")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="Copy what a link of the source leads to.")
@click.option("-q", "--quiet", is_flag=True, hidden=True)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.pass_obj
def cp(session: Session, source: str, target: str, owners: bool, follow: bool, quiet: bool) -> None:
    """Copy files: from CONTAINER:PATH to a path of this machine, or the other way round; - is a tar archive.

    A directory is copied with all in it; SOURCE/. copies only what is in it.
    """
    from_ref, from_path = _place(source)
    to_ref, to_path = _place(target)
    if bool(from_ref) == bool(to_ref):
        raise usage_error(
            "copying between containers is not supported" if from_ref else "must specify at least one container source"
        )
    if from_ref:
        session.run(lambda client: _out(session, client, from_ref, from_path, to_path, owners=owners, follow=follow))
    elif from_path == _STREAM:
        pieces = _stream(lambda out: _pass_on(sys.stdin.buffer, out))
        session.run(lambda client: client.containers.copy_in(to_ref, to_path, pieces, owners=owners))
    else:
        local = Local.of(from_path, follow=follow)
        session.run(lambda client: _in(client, local, to_ref, to_path, owners=owners))


@dataclass(frozen=True, slots=True)
class Local:
    """A file or directory of this machine. `only_contents`: what is in it is copied, not itself."""

    path: Path
    name: str
    is_directory: bool
    only_contents: bool

    @classmethod
    def of(cls, text: str, *, follow: bool) -> Local:
        """
        Raises:
            SwarmError: NOT_FOUND, it is not there.
        """
        path = Path(text)
        try:
            through = follow or text.endswith("/") or not path.name
            found = path.stat() if through else path.lstat()
            real = path.resolve() if through else path
        except OSError as error:
            sentence = f"cannot copy {text}: {(error.strerror or str(error)).lower()}"
            raise SwarmError(Code.NOT_FOUND, sentence) from error
        return cls(real, path.name or real.name, stat.S_ISDIR(found.st_mode), _only_contents(text))


def _place(text: str) -> tuple[str, str]:
    """Return container and path; of a path of this machine, none. `./a:b` is one, as in Docker."""
    ref, colon, path = text.partition(":")
    return (ref, path) if colon and ref and not ref.startswith((".", "/")) else ("", text)


async def _out(
    session: Session, client: Client, ref: str, path: str, target: str, *, owners: bool, follow: bool
) -> None:
    pieces = client.containers.copy_out(ref, path, follow=follow)
    if target == _STREAM:
        from swarmpy.cli.container.terminal import write_bytes

        async for piece in pieces:
            write_bytes(session.out, piece)
        return
    found = await client.containers.stat(ref, path, follow=follow)
    place, rename = _destination(target, found, only_contents=_only_contents(path))
    await _unpack(pieces, place, rename=rename, owners=owners)


def _destination(text: str, found: FileStat, *, only_contents: bool) -> tuple[Path, str]:
    """Return the directory to unpack in, and what the top entry is called there.

    Raises:
        SwarmError: the target is not what the source can be copied to.
    """
    place = Path(text)
    if place.is_dir():
        if only_contents:
            whole = place.resolve()
            return whole.parent, whole.name
        return place, found.name
    if place.exists():
        if found.directory:
            raise invalid(f"cannot copy a directory to the file {text}")
        return place.parent, place.name
    if text.endswith("/") and not found.directory:
        raise not_found(f"the directory {text} does not exist: make it first")
    if not place.parent.is_dir():
        raise not_found(f"the directory {place.parent} does not exist: make it first")
    return place.parent, place.name


def _only_contents(path: str) -> bool:
    return path == "." or path.endswith("/.")


async def _in(client: Client, local: Local, ref: str, path: str, *, owners: bool) -> None:
    directory, rename = await _inner_destination(client, ref, path, local)
    pieces = _stream(lambda out: _pack(local.path, rename, out))
    await client.containers.copy_in(ref, directory, pieces, rename=rename, owners=owners)


async def _inner_destination(client: Client, ref: str, path: str, local: Local) -> tuple[str, str]:
    """Return the directory of the container to unpack in, and what the top entry is called there."""
    whole = "/" + path.lstrip("/")
    parent, _, name = whole.rstrip("/").rpartition("/")
    try:
        found = await client.containers.stat(ref, whole.rstrip("/") or "/", follow=True)
    except SwarmError as error:
        if error.code is not Code.NOT_FOUND or "Could not find the file" not in error.message:
            raise
        if whole.endswith("/") and not local.is_directory:
            raise not_found(f"the directory {path} does not exist in {ref}: make it first") from error
        return parent or "/", name
    if found.directory:
        return (parent or "/", name) if local.only_contents and name else (whole, local.name)
    if local.is_directory:
        raise invalid(f"cannot copy a directory to the file {path} of {ref}")
    return parent or "/", name


def _pack(place: Path, name: str, out: IO[bytes]) -> None:
    from swarmpy import archive

    archive.pack(place, name, out)


def _pass_on(source: IO[bytes], out: IO[bytes]) -> None:
    while piece := source.read(_PIECE_BYTES):
        out.write(piece)


async def _stream(write: Callable[[IO[bytes]], None]) -> AsyncIterator[bytes]:
    """Yield what `write`, in a thread of its own, writes."""
    import asyncio

    reading, writing = os.pipe()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with os.fdopen(writing, "wb") as out:
                write(out)
        except BrokenPipeError:
            pass  # the other end has said why it wants no more
        except BaseException as error:  # noqa: BLE001 - carried to whoever reads
            failed.append(error)

    thread = threading.Thread(target=work, name="pack", daemon=True)
    thread.start()
    try:
        with os.fdopen(reading, "rb", buffering=0) as source:
            while piece := await asyncio.to_thread(source.read, _PIECE_BYTES):
                yield piece
    finally:
        await asyncio.to_thread(thread.join)
    if failed:
        raise _told(failed[0])


async def _unpack(pieces: AsyncIterator[bytes], place: Path, *, rename: str, owners: bool) -> None:
    """Unpack an archive that comes in pieces, in a thread of its own."""
    import asyncio

    from swarmpy import archive

    reading, writing = os.pipe()

    def work() -> None:
        with os.fdopen(reading, "rb") as source:
            archive.unpack(source, place, rename=rename, owners=owners)

    unpacking = asyncio.get_running_loop().run_in_executor(None, work)
    with os.fdopen(writing, "wb", buffering=0) as out:
        try:
            async for piece in pieces:
                await asyncio.to_thread(out.write, piece)
        except BrokenPipeError:
            pass  # the archive was over, or could not be unpacked, which is told below
    try:
        await unpacking
    except OSError as error:
        raise _told(error) from error


def _told(error: BaseException) -> BaseException:
    if isinstance(error, OSError):
        return SwarmError(
            Code.FAILED_PRECONDITION,
            f"cannot copy {error.filename or 'files'}: {(error.strerror or str(error)).lower()}",
        )
    return error
