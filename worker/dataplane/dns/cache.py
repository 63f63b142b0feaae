"""Encoded answers by the packet that asks for them: the DNS server's hot path is one look-up here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

_OVERHEAD_BYTES: Final = 600  # an entry's own objects, measured on CPython 3.11


class Body(NamedTuple):
    """A response but for its id and question: the header's other ten bytes, and what follows the question."""

    head: bytes
    tail: bytes


class Hit(NamedTuple):
    """An answer: endless rotations of its bodies, where the question ends, and a one-cell count of its uses."""

    bodies: Iterator[Body]
    end: int
    uses: list[int]


class AnswerCache:
    """Answers by key, with the tokens (service names) each depends on; the oldest goes when it is full.

    `hits` is for the hot path to look into; only this class changes it.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self.hits: dict[bytes, Hit] = {}
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: dict[bytes, tuple[int, tuple[str, ...]]] = {}
        self._keys: dict[str, set[bytes]] = {}

    def put(self, key: bytes, hit: Hit, *, size_bytes: int, tokens: tuple[str, ...]) -> None:
        """Keep an answer of `size_bytes` until one of `tokens` is dropped or room is needed."""
        self._remove(key)
        size_bytes += _OVERHEAD_BYTES + 2 * len(key)
        self.hits[key] = hit
        self._kept[key] = (size_bytes, tokens)
        self._bytes += size_bytes
        for token in tokens:
            self._keys.setdefault(token, set()).add(key)
        self._make_room()

    def limit(self, max_bytes: int) -> None:
        """Say anew what all answers together may take."""
        self._max_bytes = max_bytes
        self._make_room()

    def _make_room(self) -> None:
        while self._bytes > self._max_bytes:
            self._remove(next(iter(self._kept)))

    def drop(self, tokens: Iterable[str]) -> None:
        """Forget every answer that depends on one of `tokens`."""
        for token in tokens:
            for key in tuple(self._keys.get(token, ())):
                self._remove(key)

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self.hits, self._kept, self._keys):
            kept.clear()
        self._bytes = 0

    def _remove(self, key: bytes) -> None:
        if self.hits.pop(key, None) is None:
            return
        size_bytes, tokens = self._kept.pop(key)
        self._bytes -= size_bytes
        for token in tokens:
            keys = self._keys[token]
            keys.discard(key)
            if not keys:
                del self._keys[token]
