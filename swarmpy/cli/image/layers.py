"""How far the layers of an image are, one line each: redrawn on a terminal, elsewhere said once they are done."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TextIO

from swarmpy import units

if TYPE_CHECKING:
    from swarmpy.client.containers import PullStep

PULL: Final[Mapping[str, str]] = MappingProxyType(
    {
        "exists": "Already exists",
        "waiting": "Waiting",
        "fetching": "Downloading",
        "fetched": "Download complete",
        "unpacking": "Extracting",
        "done": "Pull complete",
    }
)
PUSH: Final[Mapping[str, str]] = MappingProxyType(
    {
        "exists": "Layer already exists",
        "waiting": "Waiting",
        "fetching": "Pushing",
        "fetched": "Pushed",
        "done": "Pushed",
    }
)
_OVER: Final = frozenset({"exists", "done"})
_MOVES: Final = frozenset({"fetched", "unpacking"})
_SHORT: Final = 12
_BAR: Final = 50


class Layers:
    """Called with each step."""

    def __init__(self, out: TextIO, words: Mapping[str, str], *, live: bool) -> None:
        """
        Args:
            words: what each stage is called.
            live: whether `out` is a terminal.
        """
        self._out = out
        self._words = words
        self._live = live
        self._lines: dict[str, str] = {}
        self._moved: set[str] = set()
        self._drawn = 0

    def __call__(self, step: PullStep) -> None:
        if not step.digest or step.stage not in self._words:
            return
        name = step.digest.partition(":")[2][:_SHORT] or step.digest
        stage = step.stage
        if stage in _MOVES:
            self._moved.add(name)
        elif stage == "done" and self._words is PULL and name not in self._moved:
            stage = "exists"  # it was unpacked already, and nothing came
        line = f"{name}: {self._words[stage]}"
        if self._live:
            if stage == "fetching" and step.total_bytes:
                line = f"{line} {bar(step.done_bytes, step.total_bytes)}"
            self._redraw(name, line)
        elif stage in _OVER and name not in self._lines:
            self._lines[name] = line
            self._out.write(f"{line}\n")
            self._out.flush()

    def _redraw(self, name: str, line: str) -> None:
        if self._lines.get(name) == line:
            return
        self._lines[name] = line
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._out.write(up + "".join(f"\r\x1b[2K{text}\n" for text in self._lines.values()))
        self._drawn = len(self._lines)
        self._out.flush()


def bar(done_bytes: int, total_bytes: int) -> str:
    """Return a bar with figures: `[=====>     ]  1.5MiB/3MiB`."""
    width = min(_BAR, _BAR * done_bytes // max(1, total_bytes))
    drawn = ("=" * width)[:-1] + (">" if width else "")
    return f"[{drawn.ljust(_BAR)}]  {units.human_bytes(done_bytes)}/{units.human_bytes(total_bytes)}"
