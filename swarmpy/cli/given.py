"""The flags that one call was given, read as typed values; a wrong one is a usage error that names it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from swarmpy import units
from swarmpy.cli.flag import Flag
from swarmpy.errors import Code, SwarmError, not_supported
from swarmpy.notation.choices import parse_choice

T = TypeVar("T")
E = TypeVar("E", bound=enum.IntEnum)


class Given:
    """Flag values by name (without the dashes); None and empty are "not given"."""

    def __init__(self, values: Mapping[str, Any], flags: Iterable[Flag]) -> None:
        """Take click's values; a flag that is not supported and given is refused.

        Raises:
            SwarmError: NOT_SUPPORTED.
        """
        known = {flag.name: flag for flag in flags}
        self._values = {
            name: value for name, flag in known.items() if (value := values.get(flag.key)) not in (None, False, ())
        }
        for name in self._values:
            if not known[name].supported:
                raise not_supported(f"--{name}")

    def any(self, *names: str) -> bool:
        """Tell whether any of the flags was given."""
        return any(name in self._values for name in names)

    def changes(self, ignoring: Iterable[str] = ()) -> bool:
        """Tell whether any flag but those was given."""
        return bool(set(self._values) - set(ignoring))

    def switch(self, name: str) -> bool:
        return bool(self._values.get(name, False))

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        return None if value is None else str(value)

    def items(self, name: str) -> tuple[str, ...]:
        return tuple(self._values.get(name, ()))

    def parse(self, name: str, parser: Callable[[str], T]) -> T | None:
        """Return the flag's value as `parser` reads it."""
        text = self.text(name)
        return None if text is None else self._read(name, text, parser)

    def parse_items(self, name: str, parser: Callable[[str], T]) -> tuple[T, ...]:
        """Return each value of a flag that may be repeated."""
        return tuple(self._read(name, text, parser) for text in self.items(name))

    def number(self, name: str, *, lowest: int = 0, highest: int = 2**31 - 1) -> int | None:
        return self.parse(name, lambda text: _number(text, lowest, highest))

    def ratio(self, name: str) -> float | None:
        return self.parse(name, _ratio)

    def duration_s(self, name: str) -> float | None:
        return self.parse(name, units.parse_duration_s)

    def memory_bytes(self, name: str) -> int | None:
        return self.parse(name, units.parse_memory_bytes)

    def nano_cpus(self, name: str) -> int | None:
        return self.parse(name, units.parse_nano_cpus)

    def choice(self, name: str, choices: type[E]) -> E | None:
        return self.parse(name, lambda text: parse_choice(text, choices))

    def _read(self, name: str, text: str, parser: Callable[[str], T]) -> T:
        try:
            return parser(text)
        except (SwarmError, ValueError) as error:
            if isinstance(error, SwarmError) and error.code is Code.NOT_SUPPORTED:
                raise
            raise usage_error(f'invalid argument "{text}" for "--{name}": {error}') from error


def usage_error(sentence: str) -> click.UsageError:
    """Return a usage error of the running command."""
    return click.UsageError(sentence, click.get_current_context(silent=True))


def _number(text: str, lowest: int, highest: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ValueError("it is not a whole number") from None
    if not lowest <= number <= highest:
        raise ValueError(f"must be {lowest} or more" if number < lowest else f"must be {highest} or less")
    return number


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise ValueError("it is not a number from 0 to 1")
    return ratio
