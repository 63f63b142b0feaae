"""`-f key=value`: what a list is narrowed to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from swarmpy.errors import invalid

Command = TypeVar("Command", bound=Callable[..., Any])


def filter_option(command: Command) -> Command:
    """Add `-f/--filter` to a command."""
    return click.option(
        "-f",
        "--filter",
        "filters",
        multiple=True,
        metavar="KEY=VALUE",
        help="Show only what matches; the same key again is an alternative.",
    )(command)


def parse_filters(filters: Iterable[str], known: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the values of each known key, empty where it was not given.

    Raises:
        SwarmError: INVALID_ARGUMENT, an unknown key or a filter without a value.
    """
    values: dict[str, tuple[str, ...]] = dict.fromkeys(known, ())
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals:
            raise invalid(f'invalid filter "{text}": use KEY=VALUE')
        if key not in values:
            raise invalid(f'invalid filter "{key}": use one of {", ".join(values)}')
        values[key] = (*values[key], value)
    return values


def label_filter(values: Iterable[str]) -> dict[str, str]:
    """Return labels to match; an empty value only asks for the key."""
    return {key: value for key, _, value in (text.partition("=") for text in values)}


def matches_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Tell whether all the wanted labels are there."""
    return all(key in labels and value in ("", labels[key]) for key, value in wanted.items())
