"""A flag as a row of a table, and the decorator that gives a command such rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True)
class Flag:
    """One flag. `metavar` empty is a switch; `supported` False is refused when it is given."""

    name: str
    metavar: str
    help: str
    short: str = ""
    many: bool = False
    supported: bool = True

    @property
    def key(self) -> str:
        """The name under which click hands the value over."""
        return self.name.replace("-", "_")


def add_flags(flags: Iterable[Flag]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command these flags, sorted by name."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for flag in sorted(flags, key=lambda f: f.name, reverse=True):
            names = [f"--{flag.name}", flag.key, *([f"-{flag.short}"] if flag.short else [])]
            command = click.option(
                *names,
                is_flag=not flag.metavar,
                multiple=flag.many,
                metavar=flag.metavar or None,
                help=f"{flag.help}.",
                default=None if flag.metavar or flag.many else False,
                hidden=not flag.supported,
            )(command)
        return command

    return decorate
