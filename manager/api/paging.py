"""Pages of a table in order of id, filtered as they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic

from manager.store.tables import T, Table
from manager.store.view import View
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.errors import invalid

DEFAULT_LIMIT: Final = 1000
MAX_LIMIT: Final = 10_000
SLICE_ROWS: Final = 100  # take about a millisecond to count and to convert
MAX_LOOKED_AT: Final = 20_000  # rows a page: a filter that passes few of a million must not hold the event loop up


@dataclass(frozen=True)
class Rows(Generic[T]):
    """One page, of any length down to none. `next_page` is empty on the last one."""

    rows: list[T]
    next_page: str
    revision: int


def read_page(view: View, table: Table[T], page: pb.Page, wanted: Callable[[T], bool]) -> Rows[T]:
    """Return the rows after `page.token` that are `wanted`, at most `page.limit` of them."""
    limit = limit_of(page)
    rows: list[T] = []
    token = page.token
    looked_at = 0
    while looked_at < MAX_LOOKED_AT:
        found = view.after(table, token, limit)
        looked_at += len(found)
        for row in found:
            if wanted(row):
                rows.append(row)
                if len(rows) == limit:
                    return Rows(rows, row.id, view.revision)
        if len(found) < limit:
            return Rows(rows, "", view.revision)
        token = found[-1].id
    return Rows(rows, token, view.revision)


async def in_slices(rows: list[T]) -> AsyncIterator[T]:
    """Give the rows of a page, and the event loop its turn every now and then."""
    for number, row in enumerate(rows, 1):
        yield row
        if number % SLICE_ROWS == 0:
            await asyncio.sleep(0)


def limit_of(page: pb.Page) -> int:
    """Return how many rows a page may hold. INVALID_ARGUMENT: less than none."""
    if page.limit < 0:
        raise invalid(f"a page of {page.limit} objects makes no sense: 0 takes the usual {DEFAULT_LIMIT}")
    return min(page.limit or DEFAULT_LIMIT, MAX_LIMIT)


def has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Tell whether all wanted labels are there; a wanted value that is empty matches any."""
    return all(key in labels and value in ("", labels[key]) for key, value in wanted.items())


def has_prefix(text: str, prefixes: tuple[str, ...]) -> bool:
    """Tell whether `text` starts with one of the prefixes; no prefixes match everything."""
    return not prefixes or text.startswith(prefixes)
