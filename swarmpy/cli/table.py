"""Tables in Docker's layout: columns at least 10 wide, 3 apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MIN_WIDTH: Final = 10
GAP: Final = 3


def render(rows: Sequence[Sequence[str]]) -> str:
    """Return `rows` (the first may be the header) as lines, without the last line's end."""
    if not rows:
        return ""
    widths = [max(MIN_WIDTH, *(len(row[i]) + GAP for row in rows)) for i in range(max(map(len, rows)))]
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows
    )


def shorten(text: str, width: int) -> str:
    """Return `text` in at most `width` characters, its end replaced by an ellipsis where it is longer."""
    return text if len(text) <= width else text[: width - 1] + "…"
