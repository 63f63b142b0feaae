"""What every benchmark prints: a table for people, and a line of JSON for programs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

Value = float | int | str | None
Row = tuple[Value, ...]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def cell(value: Value) -> str:
    """Return a value as the tables show it: three digits that matter, a dash for nothing."""
    if value is None:
        return "-"
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def table(head: Sequence[str], rows: Sequence[Row]) -> None:
    """Print rows below their headings, aligned."""
    texts = [list(head), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(head))]
    for row in texts:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def report(bench: str, ours: float, peer: float | None, unit: str, **more: Value) -> None:
    """Print one result. `ratio` is ours over the peer's: where less is better, below 1 is better."""
    ratio = None if peer is None or not peer else round(ours / peer, 4)
    print(
        json.dumps({"bench": bench, "ours": round(ours, 4), "peer": peer, "ratio": ratio, "unit": unit, **more}),
        flush=True,
    )
