"""The keys that leave a session while what runs goes on: `ctrl-p,ctrl-q`. Pure."""

from __future__ import annotations

from typing import Final

from swarmpy.errors import invalid

DEFAULT: Final = "ctrl-p,ctrl-q"
_CONTROL: Final = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_keys(text: str) -> bytes:
    """Return the bytes of a sequence such as `ctrl-p,ctrl-q` or `a,b`; empty for none.

    Raises:
        SwarmError: INVALID_ARGUMENT.
    """
    return bytes(_code(word) for word in text.split(",")) if text else b""


def _code(word: str) -> int:
    name = word.removeprefix("ctrl-")
    if name == word and len(word) == 1 and word.isascii():
        return ord(word)
    if name != word and len(name) == 1:
        if name.isascii() and name.isalpha():
            return ord(name.lower()) - ord("a") + 1
        if name in _CONTROL:
            return _CONTROL[name]
    raise invalid(f'unknown key "{word}": use characters and ctrl-a to ctrl-z, separated by commas')


class DetachKeys:
    """Finds the keys in what is typed; what may be their beginning is held back until it is known."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what is to be passed on, and whether the keys were typed; what follows them is dropped."""
        if not self._keys:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    self._matched = 0
                    return bytes(out), True
                continue
            out += self._keys[: self._matched]
            self._matched = 1 if byte == self._keys[0] else 0
            if not self._matched:
                out.append(byte)
        return bytes(out), False
