"""A group whose commands are imported when they are called, so that help costs nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import click


@dataclass(frozen=True)
class Entry:
    """Where a command lives (`module:attribute`; empty: it is refused), and its line in the group's help."""

    target: str
    help: str


class LazyGroup(click.Group):
    """A group made from a table of `Entry`; `aliases` are commands that its help does not list."""

    def __init__(
        self,
        *args: Any,
        entries: Mapping[str, Entry],
        aliases: Mapping[str, Entry] = MappingProxyType({}),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._entries = entries
        self._callable = {**entries, **aliases}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._callable.get(cmd_name)
        if entry is None:
            return None
        if not entry.target:
            return refused(f"`{ctx.command_path} {cmd_name}`", cmd_name, entry.help)
        module, _, attribute = entry.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{entry.target} is not a command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self._callable:
            import difflib  # for who mistypes only

            close = difflib.get_close_matches(args[0], self._callable, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            ctx.fail(f"{ctx.command_path} has no command {args[0]}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self._entries.items()])


def refused(what: str, name: str, help_text: str) -> click.Command:
    """Return a command that takes anything and answers that it is not supported yet."""

    @click.command(
        name,
        help=f"{help_text} (not supported yet).",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def command() -> None:
        from swarmpy.errors import not_supported

        raise not_supported(what)

    return command
