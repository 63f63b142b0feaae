"""`KEY=value` pairs: labels, environments, and files of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from swarmpy.errors import invalid


def parse_labels(items: Iterable[str]) -> dict[str, str]:
    """Return labels from `key=value` items; `key` alone has an empty value."""
    labels = {}
    for item in items:
        key, _, value = item.partition("=")
        if not key.strip():
            raise invalid(f'invalid label "{item}": it has no key')
        labels[key.strip()] = value
    return labels


def parse_env(items: Iterable[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return `KEY=value` entries; `KEY` alone takes its value from `environ`, and is left out where it is not set.

    A later entry of the same key wins, in the place of the first.
    """
    values: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or any(c.isspace() for c in key):
            raise invalid(f'invalid environment variable "{item}": use KEY=value')
        if equals:
            values[key] = value
        elif key in environ:
            values[key] = environ[key]
    return tuple(f"{key}={value}" for key, value in values.items())


def read_env_file(path: Path) -> list[str]:
    """Return the entries of a file: one `KEY=value` or `KEY` a line, between empty lines and `#` comments.

    Raises:
        SwarmError: INVALID_ARGUMENT, the file cannot be read or a line is not an entry (named by file and line).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise invalid(f"cannot read environment file {path}: {reason}") from error
    entries = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        key = line.partition("=")[0]
        if not key or any(c.isspace() for c in key):
            raise invalid(f'{path}:{number}: invalid environment variable "{line}": use KEY=value')
        entries.append(line)
    return entries


def merge_env(present: Iterable[str], added: Iterable[str], removed: Iterable[str] = ()) -> tuple[str, ...]:
    """Return `present` without the keys in `removed`, and with the entries of `added` in the place of theirs."""
    gone = set(removed)
    entries = {key: entry for entry in present if (key := entry.partition("=")[0]) not in gone}
    entries.update({entry.partition("=")[0]: entry for entry in added})
    return tuple(entries.values())
