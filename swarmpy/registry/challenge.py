"""What a registry asks for in WWW-Authenticate, and what access an operation needs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART: Final = re.compile(
    rf"""\s*,?\s*(?:
        (?P<key>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s,"]+))
        |(?P<scheme>{_TOKEN})(?=\s|,|$)
    )""",
    re.VERBOSE | re.ASCII,
)
MAX_HEADER: Final = 8192


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme (lower case) and its parameters (names in lower case)."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Return the challenges of WWW-Authenticate headers in order; what cannot be read ends a header."""
    found: list[Challenge] = []
    for header in headers:
        place, scheme, parameters = 0, "", dict[str, str]()
        text = header[:MAX_HEADER]
        while place < len(text) and (match := _PART.match(text, place)):
            place = match.end()
            if match["scheme"] is not None:
                if scheme:
                    found.append(Challenge(scheme, parameters))
                scheme, parameters = match["scheme"].lower(), {}
            elif scheme:
                quoted = match["quoted"]
                parameters[match["key"].lower()] = match["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if scheme:
            found.append(Challenge(scheme, parameters))
    return tuple(found)


def choose_challenge(challenges: Iterable[Challenge]) -> Challenge | None:
    """Return the one that we answer: bearer tokens before passwords; None if there is neither."""
    usable = [c for c in challenges if c.scheme == "basic" or (c.scheme == "bearer" and c.parameters.get("realm"))]
    return min(usable, key=lambda c: c.scheme != "bearer", default=None)


def scope(path: str, actions: str = "pull") -> str:
    """Return the access to a repository in the words of token servers; `actions` such as `pull,push`."""
    return f"repository:{path}:{actions}"
