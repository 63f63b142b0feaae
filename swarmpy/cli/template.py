r"""The part of Go's templates that `--format` needs: text, `{{.A.B}}`, and a few functions.

    {{.Name}}: {{json .Labels}}\t{{index .Labels "zone"}}

An unknown field is an error that names the known ones, where Go would print `<no value>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from swarmpy.errors import SwarmError, invalid

_ACTION: Final = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_TOKEN: Final = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|`[^`]*`|\d+|\.[\w.]*|\w+)""")
_ESCAPES: Final = {"\\t": "\t", "\\n": "\n"}

Value = Any
Function = Callable[..., Value]

FUNCTIONS: Final[Mapping[str, tuple[int, Function]]] = {
    "json": (1, lambda value: json.dumps(value, ensure_ascii=False)),
    "len": (1, len),
    "upper": (1, lambda value: str(value).upper()),
    "lower": (1, lambda value: str(value).lower()),
    "join": (2, lambda values, by: by.join(map(str, values))),
    "index": (2, lambda values, key: values[key]),
}
"""Name of each function: how many arguments it takes, and itself."""


@dataclass(frozen=True)
class Template:
    """A parsed template: texts and expressions (lists of tokens) in order."""

    parts: tuple[str | tuple[str, ...], ...]

    def render(self, data: Mapping[str, Value]) -> str:
        """Return the text for `data`.

        Raises:
            SwarmError: INVALID_ARGUMENT, a field that `data` does not have.
        """
        return "".join(part if isinstance(part, str) else text_of(_evaluate(part, data)) for part in self.parts)

    def fields(self) -> tuple[str, ...]:
        """Return the name of the first field of each expression, for a table's header."""
        return tuple(
            next((token[1:] for token in part if token.startswith(".")), "")
            for part in self.parts
            if not isinstance(part, str)
        )


def parse(source: str) -> Template:
    """Return the template that `source` stands for; `\\t` and `\\n` in its text are tab and newline.

    Raises:
        SwarmError: INVALID_ARGUMENT, an unclosed action or one that is not supported.
    """
    parts: list[str | tuple[str, ...]] = []
    position = 0
    for match in _ACTION.finditer(source):
        parts.append(_literal(source[position : match.start()], source))
        parts.append(_tokens(match.group(1), source))
        position = match.end()
    parts.append(_literal(source[position:], source))
    return Template(tuple(part for part in parts if part != ""))


def text_of(value: Value) -> str:
    """Return `value` as a template prints it."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case None:
            return ""
        case dict() | list() | tuple():
            return json.dumps(value, ensure_ascii=False)
    return str(value)


def _literal(text: str, source: str) -> str:
    if "{{" in text or "}}" in text:
        raise invalid(f"the template {source!r} has a {'{{' if '{{' in text else '}}'} without its counterpart")
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    return text


def _tokens(action: str, source: str) -> tuple[str, ...]:
    tokens = []
    position = 0
    while position < len(action):
        match = _TOKEN.match(action, position)
        if match is None:
            break
        tokens.append(match.group(1))
        position = match.end()
    head, *arguments = tokens or [""]
    is_field = head.startswith(".") and not arguments
    is_call = head in FUNCTIONS and len(arguments) == FUNCTIONS[head][0]
    if position < len(action) or not (is_field or is_call):
        known = ", ".join(FUNCTIONS)
        raise invalid(
            f"{{{{{action}}}}} in the template {source!r} is not supported: use a field (such as"
            f" {{{{.ID}}}}) or one of the functions {known} with its arguments"
        )
    return tuple(tokens)


def _evaluate(tokens: Sequence[str], data: Mapping[str, Value]) -> Value:
    head, *arguments = tokens
    if head.startswith("."):
        return _field(head, data)
    _, function = FUNCTIONS[head]
    try:
        return function(*(_argument(token, data) for token in arguments))
    except (LookupError, TypeError, AttributeError) as error:
        raise invalid(f"{' '.join(tokens)}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)


def _argument(token: str, data: Mapping[str, Value]) -> Value:
    if token.startswith("."):
        return _field(token, data)
    if token.isdigit():
        return int(token)
    return json.loads(token) if token.startswith('"') else token.strip("`")


def _field(path: str, data: Mapping[str, Value]) -> Value:
    value: Value = data
    seen = ""
    for name in filter(None, path.split(".")):
        if not isinstance(value, Mapping) or name not in value:
            raise _unknown(f"{seen}.{name}", value, seen)
        value = value[name]
        seen += f".{name}"
    return value


def _unknown(path: str, value: Value, inside: str) -> SwarmError:
    if not isinstance(value, Mapping):
        return invalid(f"there is no field {path}: {inside} has no fields")
    known = " ".join(f"{inside}.{name}" for name in value)
    return invalid(f"there is no field {path}; known fields: {known}")
