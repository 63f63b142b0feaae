"""`$NAME`, `${NAME:-default}` and their kind in a text: pure.

    $N ${N}       the value, empty (with a word of warning) where it is not set
    ${N:-w} ${N-w}  `w` where N is unset or empty / where it is unset
    ${N:?w} ${N?w}  an error with the words `w` in the same cases
    ${N:+w} ${N+w}  `w` where N is set and not empty / where it is set
    $$            a dollar sign

A word `w` may hold variables itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from swarmpy.errors import invalid

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS: Final = (":-", ":?", ":+", "-", "?", "+")

Missing = Callable[[str], None]


def interpolate(text: str, variables: Mapping[str, str], *, missing: Missing = lambda name: None) -> str:
    """Return `text` with its variables replaced.

    Args:
        missing: called with the name of each variable that is not set and has no default.

    Raises:
        SwarmError: INVALID_ARGUMENT, a malformed `$`, or a variable that `?` asks for.
    """
    try:
        result, end = _expand(text, 0, variables, missing, nested=False)
    except RecursionError as error:
        raise invalid("its variables are nested too deep") from error
    assert end == len(text), "the outermost text ends at its end"
    return result


def _expand(
    text: str, position: int, variables: Mapping[str, str], missing: Missing, *, nested: bool
) -> tuple[str, int]:
    """Return what `text` from `position` stands for, and where it ends: at the `}` of the word if nested."""
    parts: list[str] = []
    while position < len(text):
        character = text[position]
        if nested and character == "}":
            return "".join(parts), position
        if character != "$":
            parts.append(character)
            position += 1
            continue
        part, position = _variable(text, position, variables, missing)
        parts.append(part)
    if nested:
        raise invalid(f'"{text}" has a "${{" without its "}}"')
    return "".join(parts), position


def _variable(text: str, position: int, variables: Mapping[str, str], missing: Missing) -> tuple[str, int]:
    """Return what the `$` at `position` stands for, and the position behind it."""
    if text.startswith("$$", position):
        return "$", position + 2
    braced = text.startswith("${", position)
    match = _NAME.match(text, position + (2 if braced else 1))
    if match is None:
        raise invalid(f'"{text}" has a "$" without a name: write "$$" for a dollar sign')
    name = match.group()
    position = match.end()
    if not braced:
        return _value(name, variables, missing), position
    if text.startswith("}", position):
        return _value(name, variables, missing), position + 1
    operator = next((op for op in _OPERATORS if text.startswith(op, position)), "")
    if not operator:
        raise invalid(f'"{text}": after "${{{name}" comes one of }} :- - :? ? :+ +')
    # A word that is not used must not complain about its variables.
    used = _uses_word(operator, variables.get(name))
    word, end = _expand(text, position + len(operator), variables, missing if used else _ignore, nested=True)
    return _apply(name, operator, word, variables.get(name), used=used), end + 1


def _uses_word(operator: str, value: str | None) -> bool:
    absent = not value if operator.startswith(":") else value is None
    return absent is not operator.endswith("+")


def _apply(name: str, operator: str, word: str, value: str | None, *, used: bool) -> str:
    if operator.endswith("?") and used:
        raise invalid(f"the variable {name} is {'not set' if value is None else 'empty'}{f': {word}' if word else ''}")
    if operator.endswith("+"):
        return word if used else ""
    return word if used else value or ""


def _value(name: str, variables: Mapping[str, str], missing: Missing) -> str:
    if name not in variables:
        missing(name)
    return variables.get(name, "")


def _ignore(name: str) -> None:
    return None
