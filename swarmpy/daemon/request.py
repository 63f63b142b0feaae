"""One request of the line protocol: its fields, read with their types checked, and its answer."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeGuard


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """A request that is answered by `{"ok": false, "code": .., "error": sentence}`.

    The processes that speak this protocol import no `swarmpy.errors`; their clients turn the code into one.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class Request:
    """A JSON object with an `op`; every reader raises `Refused("invalid", ..)` for a field of another type."""

    __slots__ = ("_reply", "_take_fd", "body", "op")

    def __init__(
        self,
        body: dict[str, object],
        reply: Callable[[dict[str, object], Sequence[int]], None],
        take_fd: Callable[[], int | None],
    ) -> None:
        self.body = body
        self._reply = reply
        self._take_fd = take_fd
        self.op = self.text("op", longest=64)

    def answer(self, body: dict[str, object], fds: Sequence[int] = ()) -> None:
        """Send `body`, with the request's `seq` and copies of `fds`; of a client that is gone, nothing comes."""
        if "seq" in self.body:
            body = {"seq": self.body["seq"], **body}
        self._reply(body, fds)

    def done(self, **fields: object) -> None:
        """Answer that it went well."""
        self.answer({"ok": True, **fields})

    def refuse(self, code: str, sentence: str) -> None:
        """Answer that it did not."""
        self.answer({"ok": False, "code": code, "error": sentence})

    def take_fd(self) -> int:
        """Return the descriptor that came with the request; the caller owns it."""
        fd = self._take_fd()
        if fd is None:
            raise Refused("invalid", f"the request {self.op!r} must come with a descriptor (SCM_RIGHTS)")
        return fd

    def has(self, name: str) -> bool:
        """Return whether the field is there and not null."""
        return self.body.get(name) is not None

    def text(self, name: str, default: str | None = None, *, longest: int = 65536) -> str:
        value = self._field(name, default)
        if not isinstance(value, str) or not value or len(value) > longest or "\0" in value:
            raise self._wrong(name, f"a text of 1 to {longest} characters without a zero byte")
        return value

    def whole(self, name: str, default: int | None = None, *, least: int, most: int) -> int:
        value = self._field(name, default)
        if not is_whole(value) or not least <= value <= most:
            raise self._wrong(name, f"a whole number from {least} to {most}")
        return value

    def optional_whole(self, name: str, *, least: int, most: int) -> int | None:
        return self.whole(name, least=least, most=most) if self.has(name) else None

    def number(self, name: str, default: float | None = None, *, least: float, most: float) -> float:
        value = self._field(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self._wrong(name, f"a number from {least} to {most}")
        return float(value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        value = self._field(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def texts(self, name: str, default: list[str] | None = None) -> list[str]:
        value = self._field(name, default)
        if not isinstance(value, list) or not all(isinstance(v, str) and "\0" not in v for v in value):
            raise self._wrong(name, "a list of texts without zero bytes")
        return value

    def wholes(self, name: str, default: list[int] | None = None, *, least: int, most: int) -> list[int]:
        value = self._field(name, default)
        if not isinstance(value, list) or not all(is_whole(v) and least <= v <= most for v in value):
            raise self._wrong(name, f"a list of whole numbers from {least} to {most}")
        return value

    def mapping(self, name: str, default: dict[str, object] | None = None) -> dict[str, object]:
        value = self._field(name, default)
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return value

    def _field(self, name: str, default: object) -> object:
        value = self.body.get(name)
        return default if value is None else value

    def _wrong(self, name: str, wanted: str) -> Refused:
        problem = "is not" if self.has(name) else "is missing; it must be"
        return Refused("invalid", f"the request's field {name!r} {problem} {wanted}")


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether `value` is an int; JSON's true and false are not, though Python's are."""
    return isinstance(value, int) and not isinstance(value, bool)
