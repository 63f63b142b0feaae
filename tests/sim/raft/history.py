"""What the clients did and were told, in the order in which it happened."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

UNKNOWN: Final = None


class Kind(enum.Enum):
    """What an operation does to the one string behind its key; a key that was never written holds ""."""

    READ = "read"
    WRITE = "write"
    CAS = "cas"
    APPEND = "append"


@dataclass(slots=True, eq=False)
class Operation:
    """One operation, from its first call to its last answer, however often it was tried in between.

    Attributes:
        argument: what is written or appended; a cas writes it in place of `expected`.
        invoked, returned: places in the order of all calls and answers; `returned` is None if no answer ever came.
        result: READ, APPEND: the string after it; CAS: "yes" or "no"; WRITE: "".
    """

    client: int
    kind: Kind
    key: str
    argument: str
    expected: str
    invoked: int
    returned: int | None = None
    result: str = ""

    def __str__(self) -> str:
        what = f"{self.expected!r} -> {self.argument!r}" if self.kind is Kind.CAS else repr(self.argument)
        told = "no answer" if self.returned is None else f"{self.result!r} at {self.returned}"
        return f"client {self.client} {self.kind.value} {self.key} {what}, called at {self.invoked}: {told}"


class History:
    """Records operations; `place` counts calls and answers, so no two are at the same time."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._place = 0

    def invoke(self, client: int, kind: Kind, key: str, argument: str = "", expected: str = "") -> Operation:
        self._place += 1
        operation = Operation(client, kind, key, argument, expected, self._place)
        self.operations.append(operation)
        return operation

    def answer(self, operation: Operation, result: str) -> None:
        assert operation.returned is None, "an operation is answered once"
        self._place += 1
        operation.returned, operation.result = self._place, result

    def by_key(self) -> dict[str, list[Operation]]:
        """Return the operations of each key: linearizable each for itself means linearizable together."""
        keys: dict[str, list[Operation]] = {}
        for operation in self.operations:
            keys.setdefault(operation.key, []).append(operation)
        return keys
