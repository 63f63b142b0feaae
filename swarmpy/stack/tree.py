"""A YAML document in which everything knows its file and line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

from swarmpy.errors import SwarmError, invalid

Scalar: TypeAlias = str | int | float | bool | None

MAX_NODES: Final = 100_000
"""Aliases can make a small file stand for a huge document; beyond this it is refused."""


@dataclass(frozen=True)
class Place:
    """Where something is written; lines count from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Node:
    """A value and where its key (or list item) is written."""

    value: Scalar | list[Node] | dict[str, Node]
    place: Place

    @property
    def mapping(self) -> dict[str, Node]:
        """The value as a mapping; an empty value is an empty one.

        Raises:
            SwarmError: INVALID_ARGUMENT, it is something else.
        """
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise invalid(f"must be a mapping, not {kind(self.value)}")
        return self.value

    @property
    def items(self) -> list[Node]:
        """The value as a list; an empty value is an empty one.

        Raises:
            SwarmError: INVALID_ARGUMENT, it is something else.
        """
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise invalid(f"must be a list, not {kind(self.value)}")
        return self.value

    def plain(self) -> Any:
        """Return the value without places."""
        match self.value:
            case dict():
                return {key: node.plain() for key, node in self.value.items()}
            case list():
                return [node.plain() for node in self.value]
        return self.value


def kind(value: object) -> str:
    """Return what a person calls a value's type."""
    match value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case None:
            return "empty"
    return "text"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: `yes` is text, and `22:22` is no number in base 60."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # as in the base class


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), list(_first))


def parse(text: str, file: str) -> Node:
    """Return the document of a YAML text.

    Args:
        file: what its places name.

    Raises:
        SwarmError: INVALID_ARGUMENT, with file and line.
    """
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return Node({}, Place(file, 1))
            return _Builder(file, loader).build(root, Place(file, root.start_mark.line + 1))
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise invalid(f"{file}:{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise invalid(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise invalid(f"{file}: its values are nested too deep") from error


class _Builder:
    def __init__(self, file: str, loader: _Loader) -> None:
        self._file = file
        self._loader = loader
        self._built = 0
        self._open: set[int] = set()

    def build(self, node: yaml.Node, place: Place) -> Node:
        self._built += 1
        if self._built > MAX_NODES:
            raise invalid(f"{place}: the document has more than {MAX_NODES} values once its aliases are expanded")
        if id(node) in self._open:
            raise invalid(f"{place}: an alias refers to a value that contains it")
        self._open.add(id(node))
        try:
            match node:
                case yaml.MappingNode():
                    return Node(self._mapping(node), place)
                case yaml.SequenceNode():
                    return Node([self.build(item, self._place(item)) for item in node.value], place)
            return Node(self._scalar(node, place), place)
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: yaml.Node, place: Place) -> Scalar:
        if node.tag == "tag:yaml.org,2002:int" and re.fullmatch(r"[-+]?[0-9]+", str(node.value)):
            return int(node.value)  # 0123 is 123, as in YAML 1.2
        value = self._loader.construct_object(node)
        if not isinstance(value, str | int | float | bool | None):
            raise invalid(f"{place}: {node.tag} values are not supported")
        return value

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in node.value:
            place = self._place(key)
            if key.tag == "tag:yaml.org,2002:merge":
                merged = {**self._merged(value, place), **merged}
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise invalid(f"{place}: a key must be text")
            if key.value in entries:
                raise invalid(
                    f'{place}: the key "{key.value}" is there twice (first on line {entries[key.value].place.line})'
                )
            entries[key.value] = self.build(value, place)
        return {**merged, **entries}

    def _merged(self, value: yaml.Node, place: Place) -> dict[str, Node]:
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        merged: dict[str, Node] = {}
        for source in reversed(sources):
            if not isinstance(source, yaml.MappingNode):
                raise invalid(f"{place}: << needs a mapping, or a list of mappings")
            merged.update(self.build(source, place).mapping)
        return merged

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._file, node.start_mark.line + 1)


def map_text(node: Node, change: Callable[[str], Scalar], path: str = "") -> Node:
    """Return the tree with every text replaced by what `change` makes of it; its errors gain place and path."""
    match node.value:
        case dict():
            children = {key: map_text(child, change, f"{path}.{key}".lstrip(".")) for key, child in node.value.items()}
            return Node(children, node.place)
        case list():
            return Node([map_text(child, change, f"{path}[{i}]") for i, child in enumerate(node.value)], node.place)
        case str():
            try:
                return Node(change(node.value), node.place)
            except SwarmError as error:
                raise SwarmError(error.code, f"{node.place}: {path}: {error.message}") from error
    return node
