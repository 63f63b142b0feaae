"""The one error type: a stable code, a sentence for a person, and whether a retry can help.

Every error of a library is translated into a `SwarmError` at the edge where it is caught, with the cause
kept by `raise ... from`. The codes cross the wire (see `swarmpy.rpc.status`), so they are never renamed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Final


class Code(enum.StrEnum):
    """What kind of failure it was. The value is what crosses the wire."""

    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    OUT_OF_SEQUENCE = "out_of_sequence"
    FAILED_PRECONDITION = "failed_precondition"
    PERMISSION_DENIED = "permission_denied"
    UNAUTHENTICATED = "unauthenticated"
    NOT_SUPPORTED = "not_supported"
    NOT_LEADER = "not_leader"
    UNAVAILABLE = "unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    COMPACTED = "compacted"
    CORRUPT = "corrupt"
    INTERNAL = "internal"


RETRYABLE: Final = frozenset({Code.UNAVAILABLE, Code.NOT_LEADER, Code.DEADLINE_EXCEEDED})


class SwarmError(Exception):
    """A failure that a person can read and a program can act on.

    Args:
        code: the kind of failure.
        message: one sentence that says what is wrong, where, and what to do.
        retryable: whether the same call may succeed later; None takes the code's usual answer.
    """

    def __init__(self, code: Code, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = code in RETRYABLE if retryable is None else retryable

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"SwarmError({self.code.value}: {self.message})"


class NotLeaderError(SwarmError):
    """The manager that was asked does not lead; `leader` is `host:port` of the one that does, empty if unknown.

    `managers` are the places of all that it knows of, for who has not heard that some have moved.
    """

    def __init__(self, message: str, leader: str = "", managers: Sequence[str] = ()) -> None:
        super().__init__(Code.NOT_LEADER, message)
        self.leader = leader
        self.managers = tuple(managers)


class Problem(tuple[str, str]):
    """One fault of an input: `(field path, sentence)`, such as `("task.resources.limits", "...")`."""

    __slots__ = ()

    def __new__(cls, path: str, message: str) -> Problem:
        return super().__new__(cls, (path, message))

    @property
    def path(self) -> str:
        return self[0]

    @property
    def message(self) -> str:
        return self[1]

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidSpecError(SwarmError):
    """An input with one or more faults, all reported at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(Code.INVALID_ARGUMENT, "; ".join(str(p) for p in self.problems))


def invalid(message: str) -> SwarmError:
    """Return an INVALID_ARGUMENT error."""
    return SwarmError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> SwarmError:
    """Return a NOT_FOUND error."""
    return SwarmError(Code.NOT_FOUND, message)


def precondition(message: str) -> SwarmError:
    """Return a FAILED_PRECONDITION error: right in form, impossible in the present state."""
    return SwarmError(Code.FAILED_PRECONDITION, message)


def not_supported(what: str) -> SwarmError:
    """Return the error for something that swarmpy knows of but does not do yet."""
    return SwarmError(Code.NOT_SUPPORTED, f"{what} is not supported yet (see the status table in README.md)")
