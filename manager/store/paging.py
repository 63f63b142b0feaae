"""Ids in order, for pages, without a sort of the whole table at each call."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator
from heapq import merge
from typing import Final

_FOLD_AT: Final = 1024


class SortedIds:
    """The sorted ids of a table, made when first asked for and kept up from then on.

    New ids wait in a short list of their own that is merged while reading, and is folded into the long one when
    it is no longer short. Removed ids stay until half of the long list is gone; reading passes them over.
    """

    __slots__ = ("_fresh", "_fresh_sorted", "_live", "_main", "_removed")

    def __init__(self, live: Collection[str]) -> None:
        """`live` is what the ids are of: looked at, never changed."""
        self._live = live
        self._main: list[str] | None = None
        self._fresh: list[str] = []
        self._fresh_sorted = True
        self._removed = 0

    def added(self, row_id: str) -> None:
        if self._main is not None:
            self._fresh.append(row_id)
            self._fresh_sorted = False

    def removed(self) -> None:
        if self._main is not None:
            self._removed += 1

    def after(self, row_id: str) -> Iterator[str]:
        """Give the live ids greater than `row_id` in order; valid until the next change."""
        main = self._ordered()
        old = _from(main, bisect_right(main, row_id))
        if not self._fresh:
            candidates = old
        else:
            if not self._fresh_sorted:
                self._fresh.sort()
                self._fresh_sorted = True
            candidates = merge(old, _from(self._fresh, bisect_right(self._fresh, row_id)))
        last = None
        for each in candidates:
            # An id that was removed and created again stands in both lists.
            if each != last and each in self._live:
                last = each
                yield each

    def _ordered(self) -> list[str]:
        main = self._main
        if main is None or len(self._fresh) > max(_FOLD_AT, len(main) // 8) or self._removed > len(main) // 2:
            main = self._main = sorted(self._live)
            self._fresh = []
            self._fresh_sorted = True
            self._removed = 0
        return main


def _from(ids: list[str], start: int) -> Iterator[str]:
    for at in range(start, len(ids)):
        yield ids[at]
