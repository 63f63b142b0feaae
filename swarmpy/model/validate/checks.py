"""Small checks that several rules share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from swarmpy.errors import Problem

MIN_NANO_CPUS: Final = 1_000_000
MIN_MEMORY_BYTES: Final = 4 * 1024 * 1024


def unsupported(path: str, what: str) -> Problem:
    """Return the problem of a field that is known and has no effect yet."""
    return Problem(path, f"{what} not supported yet: leave it out (see the status table in README.md)")


def duration(path: str, seconds: float, *, above_zero: bool = False) -> Iterator[Problem]:
    """A duration is finite and not negative; with `above_zero` it is not 0 either."""
    if not math.isfinite(seconds) or seconds < 0:
        yield Problem(path, f"{seconds:g}s is not a duration: give 0s or more")
    elif above_zero and seconds == 0:
        yield Problem(path, "must be longer than 0s: give a duration such as 10s")


def at_least(path: str, number: int, least: int, hint: str = "") -> Iterator[Problem]:
    """A count is not below `least`."""
    if number < least:
        yield Problem(path, f"{number} is too small: give {least} or more{hint and f' ({hint})'}")


def labels(path: str, held: Mapping[str, str]) -> Iterator[Problem]:
    """Labels have keys, and neither keys nor values hold control characters that would spoil a terminal."""
    for key, value in sorted(held.items()):
        if not key.strip() or key != key.strip():
            yield Problem(path, f"the label key {key!r} is empty or has spaces around it: give it a name")
        elif not (key + value).replace("\n", "").replace("\t", "").isprintable():
            yield Problem(f"{path}[{key!r}]", "holds control characters: remove them")


def text(path: str, value: str) -> Iterator[Problem]:
    """Text that goes to the operating system holds no NUL."""
    if "\0" in value:
        yield Problem(path, "holds a NUL character, which no program can be given: remove it")
