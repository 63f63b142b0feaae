"""What runc says of a container that it cannot start, in words for people. Pure."""

from __future__ import annotations

import re
from typing import Final

from swarmpy.errors import Code, SwarmError

_NOT_IN_PATH: Final = re.compile(r'exec: \\?"(?P<name>[^"\\]+)\\?": executable file not found in \$PATH')
_MISSING: Final = re.compile(r'exec: \\?"(?P<name>[^"\\]+)\\?": stat [^:]+: no such file or directory')
_NOT_EXECUTABLE: Final = re.compile(r'exec: \\?"(?P<name>[^"\\]+)\\?": (?:permission denied|is a directory)')
_NO_INTERPRETER: Final = re.compile(r"exec (?P<name>\S+): no such file or directory")
_WRONG_FORMAT: Final = re.compile(r"exec (?P<name>\S+): exec format error")
_SENTENCES: Final = (
    (_NOT_IN_PATH, "command not found: {name!r} is in no directory of the container's PATH"),
    (_MISSING, "command not found: the image has no {name!r}"),
    (_NOT_EXECUTABLE, "command {name!r} of the image is not executable; set its x bit or name another"),
    (_NO_INTERPRETER, "command {name!r} cannot be run: its interpreter or loader is not in the image"),
    (_WRONG_FORMAT, "command {name!r} is for another platform than this node's, or no program"),
)
_UNDER_WAY: Final = re.compile(r"mkdir \S+/io\.containerd\.runtime\.v2\.task/\S+: file exists")
_WRAPPING: Final = re.compile(r"^.*?(?:OCI runtime \w+ failed|failed to create shim task|failed to create shim): ")


def start_failure(error: SwarmError) -> SwarmError:
    """Return the error of a start in words of its cause; one that may pass stays as it is."""
    if error.retryable:
        return error
    if _UNDER_WAY.search(error.message):
        # A killed worker's start ends or is taken back by containerd on its own, and until then is in the way.
        sentence = "an earlier start of the container, by a worker that was killed, is still under way"
        return SwarmError(Code.UNAVAILABLE, sentence)
    for pattern, sentence in _SENTENCES:
        match = pattern.search(error.message)
        if match is not None:
            return SwarmError(Code.INVALID_ARGUMENT, sentence.format(name=match["name"]))
    return SwarmError(error.code, f"the container cannot be started: {_unwrapped(error.message)}")


def _unwrapped(text: str) -> str:
    """Return the innermost message: each layer puts its own words before it."""
    while (shorter := _WRAPPING.sub("", text)) != text:
        text = shorter
    return text.removesuffix(": unknown")
