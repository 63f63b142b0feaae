"""The node's images for people: listed, inspected, named, removed, and what nobody uses reclaimed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from swarmpy.errors import Code, SwarmError, invalid, not_found, precondition
from swarmpy.registry.platforms import Platform
from swarmpy.registry.reference import Reference, parse_reference
from worker.containerd.client import Containerd
from worker.containerd.types import Container, ImageRecord
from worker.image.local import LocalImages
from worker.image.types import IMAGE_LABEL, Image, as_registry

SHORTEST_ID: Final = 4


@dataclass(frozen=True, slots=True)
class Listed:
    """An image with all its names, the familiar ones sorted. `created_at_s` is when this node got it, wall seconds.

    `image` is None where it is damaged, incomplete or for another platform: `problem` then says what is wrong.
    """

    digest: str
    names: tuple[str, ...]
    created_at_s: float
    image: Image | None
    problem: str = ""
    used_by: tuple[str, ...] = ()

    @property
    def tags(self) -> tuple[str, ...]:
        """The names that have a tag."""
        return tuple(name for name in self.names if "@" not in name)


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal did: names that are gone, and digests of images that nothing names any more."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]
    reclaimed_bytes: int = 0


class Catalog:
    """Looks after the image records of one namespace."""

    def __init__(self, client: Containerd, local: LocalImages, platform: Platform) -> None:
        self._client = client
        self._local = local
        self._platform = platform

    async def list(self) -> tuple[Listed, ...]:
        """Return all images, the newest first."""
        users = users_of(await self._client.containers.list())
        found = [await self._listed(group, users) for group in by_digest(await self._client.images.list())]
        return tuple(sorted(found, key=lambda row: (-row.created_at_s, row.names)))

    async def find(self, text: str) -> Listed:
        """Return the image that a name, a digest, or the beginning of an image's ID stands for.

        Raises:
            SwarmError: NOT_FOUND; INVALID_ARGUMENT, several begin so.
        """
        rows = await self.list()
        if (row := _by_name(rows, text)) is not None:
            return row
        start = text.removeprefix("sha256:")
        if len(start) >= SHORTEST_ID and all(letter in "0123456789abcdef" for letter in start):
            fits = [row for row in rows if any(digest[7:].startswith(start) for digest in _digests(row))]
            if len(fits) > 1:
                raise invalid(f"{len(fits)} images have IDs that begin with {start}: write more of it")
            if fits:
                return fits[0]
        raise not_found(f"there is no image {text} on this node: see `swarmpy image ls`, or pull it")

    async def tag(self, source: str, target: str) -> str:
        """Give an image another name; return it in full. A name that another image had moves.

        Raises:
            SwarmError: NOT_FOUND; INVALID_ARGUMENT, the name has a digest, which nobody can choose.
        """
        row = await self.find(source)
        name = parse_reference(target)
        if name.digest:
            raise invalid(f"{target} has a digest: a new name is NAME:TAG")
        record = await self._client.images.get(str(parse_reference(row.names[0])))
        await self._client.images.put(ImageRecord(str(name), record.target))
        return str(name)

    async def remove(self, text: str, *, force: bool = False) -> Removed:
        """Remove one name of an image, and the image with its last name. By ID, all its names.

        Args:
            force: removes names though containers use the image (which is kept as long as they do), or though an ID
                has several names.
        Raises:
            SwarmError: NOT_FOUND; FAILED_PRECONDITION, containers use it.
        """
        row = await self.find(text)
        named = _by_name((row,), text) is not None
        names = (_familiar(text),) if named else row.names
        left = tuple(name for name in row.names if name not in names)
        if named and not [name for name in left if "@" not in name] and "@" not in names[0]:
            names, left = row.names, ()  # the digest's own name goes with the last tag
        if not named and len(row.tags) > 1 and not force:
            raise precondition(f"image {text} has the names {', '.join(row.tags)}: remove them, or use --force")
        if not left and row.used_by and not force:
            raise precondition(f"image {text} is used by {_some(row.used_by)}: remove those first")
        return await self._delete([(row, names, not left)])

    async def prune(
        self,
        *,
        every: bool = False,
        created_before_s: float | None = None,
        labels: Mapping[str, str] = MappingProxyType({}),
    ) -> Removed:
        """Remove images that no container uses: those without a tag, or with `every` all of them.

        Args:
            created_before_s: only those that came here before that wall time.
            labels: only those that have these labels; an empty value asks for the key alone.
        """
        rows = [
            row
            for row in await self.list()
            if not row.used_by
            and (every or not row.tags)
            and (created_before_s is None or row.created_at_s < created_before_s)
            and _has_labels(row, labels)
        ]
        return await self._delete([(row, row.names, True) for row in rows])

    async def limit_history(self, repository: str, keep: int, created_before_s: float) -> Removed:
        """Remove images of a repository that have no tag and are not used, but for the newest `keep`.

        Only those that came here before that wall time go: a younger one may be about to be used.
        """
        rows = [row for row in await self.list() if _of(row, repository) and not row.tags and not row.used_by]
        old = [row for row in rows[keep:] if row.created_at_s < created_before_s]
        return await self._delete([(row, row.names, True) for row in old])

    async def _delete(self, chosen: Sequence[tuple[Listed, tuple[str, ...], bool]]) -> Removed:
        names = [name for _, found, _ in chosen for name in found]
        before_bytes = await self._stored_bytes() if names else 0
        for place, name in enumerate(names, 1):
            try:
                # What nothing refers to any more is collected once, with the last of them.
                await self._client.images.delete(str(parse_reference(name)), sync=place == len(names))
            except SwarmError as error:
                if error.code is not Code.NOT_FOUND:
                    raise
        freed = max(0, before_bytes - await self._stored_bytes()) if names else 0
        return Removed(tuple(names), tuple(row.digest for row, _, whole in chosen if whole), freed)

    async def _stored_bytes(self) -> int:
        return sum(info.size_bytes for info in await self._client.content.list())

    async def _listed(self, group: Sequence[ImageRecord], users: Mapping[str, tuple[str, ...]]) -> Listed:
        target = as_registry(group[0].target)
        names = tuple(sorted(_familiar(record.name) for record in group))
        problem, image = "", None
        try:
            parts = await self._local.parts(target, self._platform, names[0])
            image = parts.image(group[0].name) if parts else None
            problem = "" if parts else "part of its content is missing: pull it again"
        except SwarmError as error:
            problem = error.message
        keys = {record.name for record in group} | ({image.manifest_digest} if image else set())
        used_by = tuple(sorted({user for key in keys for user in users.get(key, ())}))
        return Listed(target.digest, names, max(r.updated_at_s for r in group), image, problem, used_by)


def by_digest(records: Iterable[ImageRecord]) -> list[list[ImageRecord]]:
    """Return the records of each image, images and names in order."""
    groups: dict[str, list[ImageRecord]] = {}
    for record in sorted(records, key=lambda record: record.name):
        groups.setdefault(record.target.digest, []).append(record)
    return [groups[digest] for digest in sorted(groups)]


def users_of(containers: Iterable[Container]) -> dict[str, tuple[str, ...]]:
    """Return the containers of each image: by its manifest's digest, or its record's name where that is not noted."""
    found: dict[str, tuple[str, ...]] = {}
    for container in containers:
        key = container.labels.get(IMAGE_LABEL) or container.image
        found[key] = (*found.get(key, ()), container.id)
    return found


def _by_name(rows: Iterable[Listed], text: str) -> Listed | None:
    name = _familiar(text)
    return next((row for row in rows if name in row.names), None)


def _familiar(text: str) -> str:
    """Return a name in its short form; what is no name stays as it is, and is found nowhere."""
    try:
        found: Reference = parse_reference(text)
    except SwarmError:
        return text
    return found.familiar()


def _digests(row: Listed) -> tuple[str, ...]:
    image = row.image
    return (row.digest, *((image.config_digest, image.manifest_digest) if image else ()))


def _of(row: Listed, repository: str) -> bool:
    return any(parse_reference(name).repository == repository for name in row.names)


def _has_labels(row: Listed, wanted: Mapping[str, str]) -> bool:
    labels = row.image.config.labels if row.image is not None else {}
    return all(key in labels and value in ("", labels[key]) for key, value in wanted.items())


def _some(users: Sequence[str]) -> str:
    shown = ", ".join(users[:3])
    rest = f" and {len(users) - 3} more" if len(users) > 3 else ""
    return f"container{'s' if len(users) > 1 else ''} {shown}{rest}"
