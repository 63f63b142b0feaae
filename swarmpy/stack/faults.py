"""What is wrong with a stack file: collected, so that a person sees everything at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from swarmpy.errors import Code, SwarmError
from swarmpy.stack.tree import Node, Place

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where, at which path, and a sentence that names the path.

    A structural one is a value of the wrong shape: what is below it cannot be read.
    """

    place: Place
    path: str
    sentence: str
    is_structural: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.sentence}"


class Faults:
    """Collects faults; what a faulty value would have been is None until they are raised."""

    def __init__(self, found: Iterable[Fault] = ()) -> None:
        self._found = list(found)

    def add(self, node: Node, path: str, sentence: str) -> None:
        """Note that the value at `path` is wrong; the sentence goes on after the path."""
        self._found.append(Fault(node.place, path, f"{path}: {sentence}"))

    def read(self, parent: dict[str, Node], key: str, path: str, parser: Callable[[Node], T]) -> T | None:
        """Return what `parser` makes of `parent[key]`; None where it is absent, empty or faulty."""
        node = parent.get(key)
        if node is None or node.value is None:
            return None
        try:
            return parser(node)
        except (SwarmError, ValueError) as error:
            self.add(node, f"{path}.{key}".lstrip("."), str(error))
            return None

    def raise_if_structural(self) -> None:
        """Raise what there is, if reading on makes no sense."""
        if any(fault.is_structural for fault in self._found):
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Raise one error with all faults, in order of place.

        Raises:
            SwarmError: INVALID_ARGUMENT.
        """
        if not self._found:
            return
        lines = [str(fault) for fault in sorted(self._found, key=lambda f: (f.place.file, f.place.line, f.path))]
        lines = list(dict.fromkeys(lines))
        if len(lines) == 1:
            raise SwarmError(Code.INVALID_ARGUMENT, lines[0])
        head = f"the stack file has {len(lines)} faults, and nothing was deployed:"
        raise SwarmError(Code.INVALID_ARGUMENT, "\n  ".join((head, *lines)))
