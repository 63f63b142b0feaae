"""Giving content to a registry: blobs it lacks, whole, in pieces, or mounted from a neighbour; manifests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final
from urllib.parse import quote, urljoin

from swarmpy.errors import Code
from swarmpy.registry.access import Endpoint
from swarmpy.registry.challenge import scope
from swarmpy.registry.client import Registry
from swarmpy.registry.failures import RegistryError, lying
from swarmpy.registry.manifests import Descriptor, digest_of
from swarmpy.registry.reference import Reference
from swarmpy.registry.reply import Answer, host_of

Source = Callable[[int, int], AsyncIterator[bytes]]
"""Yields `size` bytes of a blob from an offset on; called again for each attempt."""
PIECE_BYTES: Final = 128 << 20
SLOWEST_BYTES_PER_S: Final = 64 << 10
OCTETS: Final = "application/octet-stream"
PUSH: Final = "pull,push"


class Upload:
    """Gives content to the repository of `name`. Blobs above `piece_bytes` go up in pieces of that size."""

    def __init__(self, registry: Registry, name: Reference, *, piece_bytes: int = PIECE_BYTES) -> None:
        self._registry = registry
        self._name = name
        self._piece_bytes = piece_bytes

    async def has_blob(self, digest: str) -> bool:
        """Return whether the repository has a blob."""
        answer = await self._ask("HEAD", f"blobs/{digest}", self._what(digest), good=frozenset({200, 404}))
        return answer.status == 200

    async def blob(self, blob: Descriptor, source: Source, *, mount_from: str = "") -> str:
        """Make the repository have a blob; return how: `exists`, `mounted` or `uploaded`.

        `mount_from` is the path of another repository of the same registry that may have it.
        """
        if await self.has_blob(blob.digest):
            return "exists"
        if mount_from and mount_from != self._name.path:
            query = f"blobs/uploads/?mount={quote(blob.digest, safe=':')}&from={quote(mount_from, safe='/')}"
            more = (scope(mount_from),)
            answer = await self._ask("POST", query, self._what(blob.digest), good=frozenset({201, 202}), more=more)
            if answer.status == 201:
                return "mounted"
        await self._registry.transport.retrying(lambda: self._upload(blob, source))
        return "uploaded"

    async def manifest(self, raw: bytes, media_type: str, identifier: str = "") -> str:
        """Store a manifest under the name's tag, or under `identifier`; return its digest."""
        digest = digest_of(raw)
        under = identifier or self._name.tag or digest
        what = f"the manifest of {self._name.familiar()}"
        headers = {"Content-Type": media_type}
        answer = await self._ask(
            "PUT", f"manifests/{under}", what, good=frozenset({200, 201}), headers=headers, body=raw
        )
        said = answer.headers.get("docker-content-digest", digest)
        if said != digest:
            raise lying(self._name.domain, what, digest, said)
        return digest

    async def _upload(self, blob: Descriptor, source: Source) -> None:
        """Upload a blob in a session of its own: what a failed one left behind is the registry's to forget."""
        what = self._what(blob.digest)
        answer = await self._ask("POST", "blobs/uploads/", what, good=frozenset({202}), once=True)
        place = _place(answer)
        offset = 0
        if blob.size > self._piece_bytes:
            while offset < blob.size:
                place, offset = await self._piece(place, blob, source, offset)
        rest = blob.size - offset
        mark = "&" if "?" in place else "?"
        headers = {"Content-Type": OCTETS, "Content-Length": str(rest)}
        await self._ask(
            "PUT",
            f"{place}{mark}digest={quote(blob.digest, safe=':')}",
            what,
            good=frozenset({201, 204}),
            headers=headers,
            body=(lambda: source(0, rest)) if rest else b"",
            deadline_s=self._deadline_s(rest),
            once=True,
        )

    async def _piece(self, place: str, blob: Descriptor, source: Source, offset: int) -> tuple[str, int]:
        """Send one piece; return the session's next place and offset. A piece that was cut goes on where it was."""
        size = min(self._piece_bytes, blob.size - offset)
        what = self._what(blob.digest)
        headers = {
            "Content-Type": OCTETS,
            "Content-Length": str(size),
            "Content-Range": f"{offset}-{offset + size - 1}",
        }
        good, within_s = frozenset({202}), self._deadline_s(size)
        try:
            answer = await self._ask(
                "PATCH",
                place,
                what,
                good=good,
                headers=headers,
                body=lambda: source(offset, size),
                deadline_s=within_s,
                once=True,
            )
        except RegistryError as error:
            if not error.again:
                raise
            # One question where the session stands; a session that is gone fails here, and another is begun.
            await self._registry.transport.pause(1, error)
            answer = await self._ask("GET", place, what, good=frozenset({204, 202}))
            reached = _reached(answer, blob.size)
            if reached <= offset:
                raise
            return _place(answer, place), reached
        return _place(answer, place), _reached(answer, blob.size) or offset + size

    async def _ask(
        self,
        method: str,
        path: str,
        what: str,
        *,
        good: frozenset[int],
        headers: dict[str, str] | None = None,
        body: bytes | Callable[[], AsyncIterator[bytes]] | None = None,
        more: tuple[str, ...] = (),
        deadline_s: float | None = None,
        once: bool = False,
    ) -> Answer:
        endpoint: Endpoint = await self._registry.endpoints.own(self._name.domain)
        where = path if "://" in path else f"/v2/{self._name.path}/{path}"
        return await self._registry.ask(
            endpoint,
            method,
            where,
            what,
            self._name.path,
            actions=PUSH,
            more_scopes=more,
            headers=headers,
            body=body,
            good=good,
            deadline_s=deadline_s,
            once=once,
        )

    def _what(self, digest: str) -> str:
        return f"{digest[:19]}… of {self._name.familiar()}"

    def _deadline_s(self, size_bytes: int) -> float:
        return self._registry.transport.patience.call_s + size_bytes / SLOWEST_BYTES_PER_S


def _place(answer: Answer, before: str = "") -> str:
    """Return where an upload goes on."""
    place = answer.headers.get("location", "")
    if not place and not before:
        raise RegistryError(Code.CORRUPT, f"{host_of(answer.url)} takes an upload without saying where to send it")
    return urljoin(answer.url, place) if place else before


def _reached(answer: Answer, size_bytes: int) -> int:
    """Return how many bytes an upload session holds: `Range: 0-99` is 100."""
    _, dash, end = answer.headers.get("range", "").rpartition("-")
    return min(int(end) + 1, size_bytes) if dash and end.isdigit() and end != "0" else 0
