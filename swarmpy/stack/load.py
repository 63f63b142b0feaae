"""Reading stack files: parse, put variables in, merge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from swarmpy.errors import invalid
from swarmpy.notation.pairs import read_env_file
from swarmpy.stack.interpolate import interpolate
from swarmpy.stack.merge import merge
from swarmpy.stack.tree import Node, map_text, parse


@dataclass(frozen=True)
class Loaded:
    """A merged document, the directory that its paths are relative to, and the names of variables without a value."""

    document: Node
    directory: Path
    missing: tuple[str, ...] = ()


def load(
    files: Sequence[str],
    environ: Mapping[str, str],
    *,
    stdin: Callable[[], TextIO],
    skip_interpolation: bool = False,
) -> Loaded:
    """Return the files as one document.

    Args:
        files: paths, `-` for standard input; later ones change earlier ones.
        environ: variables; those in `.env` beside the first file come after them.

    Raises:
        SwarmError: INVALID_ARGUMENT, with file and line where there is one.
    """
    directory = Path.cwd() if files[0] == "-" else Path(files[0]).absolute().parent
    variables = {**_dot_env(directory), **environ}
    missing: list[str] = []
    documents = []
    for file in files:
        document = parse(_read(file, stdin), "stdin" if file == "-" else file)
        if not skip_interpolation:
            document = map_text(document, lambda text: interpolate(text, variables, missing=missing.append))
        documents.append(document)
    return Loaded(merge(*documents), directory, tuple(dict.fromkeys(missing)))


def _read(file: str, stdin: Callable[[], TextIO]) -> str:
    try:
        return stdin().read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise invalid(f"cannot read stack file {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise invalid(f"cannot read stack file {file}: it is not UTF-8 text") from error


def _dot_env(directory: Path) -> dict[str, str]:
    file = directory / ".env"
    if not file.is_file():
        return {}
    pairs = (entry.partition("=") for entry in read_env_file(file))
    return {key: _unquoted(value) for key, equals, value in pairs if equals}


def _unquoted(value: str) -> str:
    value = value.strip()
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'" else value
