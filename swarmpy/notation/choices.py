"""Words for the members of enumerations: `start-first`, `on-failure`."""

from __future__ import annotations

import enum
from typing import TypeVar

from swarmpy.errors import invalid
from swarmpy.model.states import word

E = TypeVar("E", bound=enum.IntEnum)


def parse_choice(text: str, choices: type[E]) -> E:
    """Return the member that `text` names.

    Raises:
        SwarmError: INVALID_ARGUMENT, with the words that are known.
    """
    for member in choices:
        if word(member) == text:
            return member
    raise invalid(f"use one of {', '.join(word(member) for member in choices)}")
