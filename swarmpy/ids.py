"""Identifiers: 25 characters of base 36, as Docker's, from an injected random source."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
ID_LENGTH: Final = 25
_ID = re.compile(r"[0-9a-z]{25}")

RandomBytes = Callable[[int], bytes]


def base36(number: int, width: int) -> str:
    """Return `number` (>= 0) in base 36, padded with zeros to at least `width` digits."""
    digits = []
    while number:
        number, digit = divmod(number, 36)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits)).rjust(width, "0")


def new_id(random_bytes: RandomBytes) -> str:
    """Return a new id: 128 random bits, 25 characters.

    Args:
        random_bytes: returns that many random bytes (`os.urandom` in a process, seeded in a test).
    """
    return base36(int.from_bytes(random_bytes(16), "big"), ID_LENGTH)


def is_id(text: str) -> bool:
    """Tell whether `text` has the form of a full id."""
    return _ID.fullmatch(text) is not None
