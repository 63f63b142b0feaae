"""Trees of files as tar archives, both ways, with what a hostile archive may try in mind.

Unpacking makes all links after everything else, so nothing is ever written through one that the archive brought, and
refuses names that lead out of the target. Accounts go by number alone: nothing here looks names up, so it may run where
the accounts (and the modules to look them up) are somebody else's.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Final

from swarmpy.errors import Code, SwarmError, invalid

_PIECE_BYTES: Final = 1024 * 1024
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def pack(path: Path, name: str, out: IO[bytes]) -> None:
    """Write `path`, a file or a directory with all in it, as an archive whose top entry is `name`.

    Sockets are left out: they mean nothing elsewhere.

    Raises:
        OSError: it cannot be read.
    """
    seen: dict[tuple[int, int], str] = {}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for entry, inner in _walk(path, name):
            status = entry.lstat()
            if stat.S_ISSOCK(status.st_mode):
                continue
            info = describe(entry, inner, status)
            key = (status.st_dev, status.st_ino)
            if info.isreg() and status.st_nlink > 1 and key in seen:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, seen[key], 0
            elif info.isreg():
                seen[key] = inner
            if info.isreg():
                with open(os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as data:  # noqa: PTH123 (PTH has no way to open a descriptor)
                    info.size = os.fstat(data.fileno()).st_size
                    archive.addfile(info, _Exactly(data, info.size))
            else:
                archive.addfile(info)


def describe(path: Path, name: str, status: os.stat_result) -> tarfile.TarInfo:
    """Return a file as an entry called `name`; of a regular one the size is still to be set."""
    info = tarfile.TarInfo(name)
    mode = status.st_mode
    info.mode, info.mtime = stat.S_IMODE(mode), int(status.st_mtime)
    info.uid, info.gid = status.st_uid, status.st_gid
    if stat.S_ISDIR(mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(mode):
        info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
    elif stat.S_ISFIFO(mode):
        info.type = tarfile.FIFOTYPE
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        info.type = tarfile.CHRTYPE if stat.S_ISCHR(mode) else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return info


def _walk(path: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Yield each file below `path`, itself first, with its name in the archive; links are not followed."""
    yield path, name
    if stat.S_ISDIR(path.lstat().st_mode):
        for child in sorted(path.iterdir()):
            yield from _walk(child, f"{name}/{child.name}")


class _Exactly:
    """A file of the size that was announced: one that grows is cut, one that shrinks is filled up."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._file.read(wanted)
        data += bytes(wanted - len(data))
        self._left -= len(data)
        return data


@dataclass
class Unpacked:
    """What an archive's entries became: links are made at the end, directories get their modes and times then."""

    links: list[tuple[Path, tarfile.TarInfo]] = field(default_factory=list)
    directories: list[tuple[Path, tarfile.TarInfo]] = field(default_factory=list)


def unpack(source: IO[bytes], target: Path, *, rename: str = "", owners: bool = False) -> None:
    """Put the entries of an archive into the directory `target`, in the place of files that are there.

    Args:
        rename: what the entries' first component is called instead; empty leaves it.
        owners: whether owners and set-id bits are as in the archive; without, files are whose process this is.

    Raises:
        SwarmError: INVALID_ARGUMENT, it is no archive, or a name leads out of the target; NOT_SUPPORTED, a device.
        OSError: it cannot be written.
    """
    done = Unpacked()
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for info in archive:
                place = _place(info.name, target, rename)
                if place is not None:
                    _make(archive, info, place, done, owners=owners)
    except tarfile.TarError as error:
        raise invalid(f"the input is not a tar archive, or not a whole one: {error}") from error
    for place, info in done.links:
        place.parent.mkdir(parents=True, exist_ok=True)
        _clear(place)
        if info.issym():
            place.symlink_to(info.linkname)
        else:
            origin = _place(info.linkname, target, rename)
            if origin is not None:
                os.link(origin, place, follow_symlinks=False)
        if info.issym() and owners:
            os.chown(place, info.uid, info.gid, follow_symlinks=False)
    for place, info in reversed(done.directories):
        _finish(place, info, owners=owners)


def _place(name: str, target: Path, rename: str) -> Path | None:
    """Return where an entry goes; None for the target itself."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".")]
    if ".." in parts:
        raise invalid(f"the archive's entry {name!r} leads out of the directory that it is unpacked into")
    if rename and parts:
        parts[0] = rename
    return target.joinpath(*parts) if parts else None


def _make(archive: tarfile.TarFile, info: tarfile.TarInfo, place: Path, done: Unpacked, *, owners: bool) -> None:
    if info.issym() or info.islnk():
        done.links.append((place, info))
        return
    if info.isdir():
        with contextlib.suppress(FileExistsError):
            place.mkdir(parents=True)
        if not place.is_dir():
            raise invalid(f"cannot put the directory {info.name} in the place of a file")
        done.directories.append((place, info))
        return
    if info.ischr() or info.isblk():
        raise SwarmError(Code.NOT_SUPPORTED, f"the archive's entry {info.name!r} is a device, which is not copied")
    place.parent.mkdir(parents=True, exist_ok=True)
    _clear(place)
    if info.isfifo():
        os.mkfifo(place)
    else:
        data = archive.extractfile(info)
        with open(os.open(place, _CREATE, 0o600), "wb") as file:  # noqa: PTH123 (PTH has no way to open a descriptor)
            while data is not None and (piece := data.read(_PIECE_BYTES)):
                file.write(piece)
    _finish(place, info, owners=owners)


def _clear(place: Path) -> None:
    """Remove a file that is in the way; a directory stays, and is then said by whoever makes the file."""
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
        place.unlink()


def _finish(place: Path, info: tarfile.TarInfo, *, owners: bool) -> None:
    if owners:
        os.chown(place, info.uid, info.gid)
    place.chmod(info.mode & (0o7777 if owners else 0o1777))
    os.utime(place, (info.mtime, info.mtime))
