"""Images in tar files, read: OCI layouts and what `docker save` wrote before them. Nothing is extracted to a disk."""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

import msgspec

from swarmpy.errors import Code, SwarmError, invalid
from swarmpy.registry.manifests import (
    MAX_MANIFEST_BYTES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    decode,
    digest_of,
)

MAX_MEMBERS: Final = 100_000
MAX_LINKS: Final = 8
PIECE_BYTES: Final = 1 << 20
NAME_ANNOTATIONS: Final = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
MAGIC: Final = ((b"\x1f\x8b", "+gzip"), (b"\x28\xb5\x2f\xfd", "+zstd"))


@dataclass(frozen=True, slots=True)
class Found:
    """An image of an archive: what it stands for, and the names that the archive gives it."""

    target: Descriptor
    names: tuple[str, ...]


class _SavedRow(msgspec.Struct, rename="pascal"):
    config: str
    layers: tuple[str, ...] = ()
    repo_tags: tuple[str, ...] | None = None


class Tarball:
    """An open archive. Blocking: use it in a thread. `blobs` are its contents by digest.

    Raises:
        SwarmError: INVALID_ARGUMENT, there is no image in it; CORRUPT, it is damaged. From any method.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._name = name
        self._made: dict[str, bytes] = {}
        self._places: dict[str, tarfile.TarInfo] = {}
        try:
            self._archive = tarfile.open(fileobj=file, mode="r:*")  # noqa: SIM115  # close() does it
            self._members = self._listed()
        except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise self._damaged(error) from error

    def close(self) -> None:
        self._archive.close()

    def images(self) -> tuple[Found, ...]:
        """Return the images of the archive."""
        if "oci-layout" in self._members and "index.json" in self._members:
            return self._layout()
        if "manifest.json" in self._members:
            return self._saved()
        raise invalid(f"{self._name} holds no image: neither an OCI layout nor what `docker save` writes")

    def has(self, digest: str) -> bool:
        return digest in self._made or self._place(digest) is not None

    def size_bytes(self, digest: str) -> int:
        place = self._place(digest)
        return place.size if place is not None else len(self._made[digest])

    def read(self, digest: str) -> bytes:
        """Return a small blob, verified."""
        if self.size_bytes(digest) > MAX_MANIFEST_BYTES:
            raise invalid(f"{digest} in {self._name} is too large for a manifest or a configuration")
        data = b"".join(self.pieces(digest))
        if digest_of(data, digest.partition(":")[0]) != digest:
            raise SwarmError(Code.CORRUPT, f"{digest} in {self._name} is something else: the archive is damaged")
        return data

    def pieces(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """Yield a blob from `offset` on."""
        place = self._place(digest)
        if place is None:
            if digest not in self._made:
                raise SwarmError(Code.CORRUPT, f"{self._name} lacks {digest}: the archive is incomplete")
            yield self._made[digest][offset:]
            return
        yield from self._member(place, offset)

    def _layout(self) -> tuple[Found, ...]:
        index = decode(
            self._small("index.json"), "application/vnd.oci.image.index.v1+json", f"index.json of {self._name}"
        )
        if not isinstance(index, Index):
            raise SwarmError(Code.CORRUPT, f"index.json of {self._name} is no index")
        found: dict[str, tuple[Descriptor, list[str]]] = {}
        for row in index.manifests:
            name = next((row.annotations[key] for key in NAME_ANNOTATIONS if row.annotations.get(key)), "")
            target = Descriptor(row.media_type, row.digest, row.size)
            found.setdefault(row.digest, (target, []))[1].extend([name] if name else [])
        return tuple(Found(target, tuple(names)) for target, names in found.values())

    def _saved(self) -> tuple[Found, ...]:
        """Make a manifest for each image, as the format has none."""
        try:
            rows = msgspec.json.decode(self._small("manifest.json"), type=tuple[_SavedRow, ...])
        except msgspec.MsgspecError as error:
            raise SwarmError(Code.CORRUPT, f"manifest.json of {self._name} cannot be read: {error}") from error
        return tuple(Found(self._manifest(row), tuple(row.repo_tags or ())) for row in rows)

    def _manifest(self, row: _SavedRow) -> Descriptor:
        config = self._blob(row.config, OCI_CONFIG)
        layers = tuple(self._blob(path, OCI_LAYER) for path in row.layers)
        manifest = Manifest(config, layers, media_type=OCI_MANIFEST)
        raw = msgspec.json.encode(manifest)
        digest = digest_of(raw)
        self._made[digest] = raw
        return Descriptor(OCI_MANIFEST, digest, len(raw))

    def _blob(self, path: str, kind: str) -> Descriptor:
        """Return what a member holds, found by its content; its compression is told by its first bytes."""
        place = self._resolved(path)
        hasher, first = hashlib.sha256(), b""
        for piece in self._member(place, 0):
            first = first or piece[:4]
            hasher.update(piece)
        digest = f"sha256:{hasher.hexdigest()}"
        self._places[digest] = place
        suffix = next((suffix for magic, suffix in MAGIC if first.startswith(magic)), "") if kind == OCI_LAYER else ""
        return Descriptor(kind + suffix, digest, place.size)

    def _place(self, digest: str) -> tarfile.TarInfo | None:
        return self._places.get(digest) or self._members.get(f"blobs/{digest.replace(':', '/')}")

    def _small(self, path: str) -> bytes:
        place = self._resolved(path)
        if place.size > MAX_MANIFEST_BYTES:
            raise invalid(f"{path} of {self._name} has {place.size} bytes, more than {MAX_MANIFEST_BYTES}")
        return b"".join(self._member(place, 0))

    def _member(self, place: tarfile.TarInfo, offset: int) -> Iterator[bytes]:
        try:
            file = self._archive.extractfile(place)
            if file is None:
                raise SwarmError(Code.CORRUPT, f"{place.name} in {self._name} is no file")
            with file:
                file.seek(offset)
                left = place.size - offset
                while left > 0 and (piece := file.read(min(PIECE_BYTES, left))):
                    left -= len(piece)
                    yield piece
        except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise self._damaged(error) from error
        if left > 0:
            raise SwarmError(Code.CORRUPT, f"{self._name} ends in the middle of {place.name}: it is incomplete")

    def _listed(self) -> dict[str, tarfile.TarInfo]:
        found: dict[str, tarfile.TarInfo] = {}
        for count, member in enumerate(self._archive, 1):
            if count > MAX_MEMBERS:
                raise invalid(f"{self._name} has more than {MAX_MEMBERS} members: it is no image")
            if member.isfile() or member.issym() or member.islnk():
                found[str(PurePosixPath(member.name))] = member
        return found

    def _resolved(self, path: str) -> tarfile.TarInfo:
        """Return a member, through the links by which old archives name a layer twice."""
        name = str(PurePosixPath(path))
        for _ in range(MAX_LINKS):
            member = self._members.get(name)
            if member is None:
                break
            if member.isfile():
                return member
            parent = PurePosixPath(name).parent if member.issym() else PurePosixPath()
            parts: list[str] = []
            for part in (parent / member.linkname).parts:
                if part == "..":
                    parts = parts[:-1]
                else:
                    parts.append(part)
            name = "/".join(parts)
        raise SwarmError(Code.CORRUPT, f"{self._name} lacks {path}: the archive is incomplete")

    def _damaged(self, error: Exception) -> SwarmError:
        return SwarmError(
            Code.CORRUPT,
            f"{self._name} cannot be read as a tar file: {str(error).partition(os.linesep)[0].rstrip(':')}",
        )


def open_tarball(path: Path, called: str = "") -> Tarball:
    """Return the archive in a file, plain or compressed; `called` is its name in sentences, empty for its path.

    Raises:
        SwarmError: NOT_FOUND or FAILED_PRECONDITION, the file cannot be read; CORRUPT, it is no archive.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise SwarmError(Code.NOT_FOUND, f"there is no file {path}") from error
    except OSError as error:
        raise SwarmError(Code.FAILED_PRECONDITION, f"cannot read {path}: {error.strerror}") from error
    try:
        return OwnedTarball(file, called or str(path))
    except SwarmError:
        file.close()
        raise


class OwnedTarball(Tarball):
    """A Tarball that closes its file."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        super().__init__(file, name)
        self._file = file

    def close(self) -> None:
        super().close()
        self._file.close()
