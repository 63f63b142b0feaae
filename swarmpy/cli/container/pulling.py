"""How the pull of a container's image is shown: a line as Docker has it, and on a terminal how far each layer is."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from swarmpy import units
from swarmpy.cli.session import Session

if TYPE_CHECKING:
    from swarmpy.client.containers import PullStep

_SHORT: Final = 12
_WORDS: Final = {
    "exists": "Already exists",
    "waiting": "Waiting",
    "fetching": "Downloading",
    "fetched": "Download complete",
    "unpacking": "Extracting",
    "done": "Pull complete",
}
_QUIET_STAGES: Final = ("resolving",)


class Pulling:
    """Called with each step. Lines go to standard error: what the container says is all there is on standard output."""

    def __init__(self, session: Session, image: str, *, quiet: bool) -> None:
        self._session = session
        self._image = image
        self._quiet = quiet
        self._live = session.terminal and session.err.isatty()
        self._begun = False
        self._layers: dict[str, str] = {}
        self._drawn = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def __call__(self, step: PullStep) -> None:
        if self._quiet or (step.stage == "done" and not self._begun and not step.digest):
            return  # it was here
        if not self._begun:
            self._begun = True
            self._session.warn(f"Unable to find image '{self._image}' locally")
        if not step.digest:
            if step.stage == "done":
                self._session.warn(f"Status: Downloaded newer image for {self._image}")
            return
        if step.stage in _QUIET_STAGES:
            return
        name = step.digest.partition(":")[2][:_SHORT] or step.digest
        line = f"{name}: {_WORDS.get(step.stage, step.stage)}"
        if self._live:
            if step.stage == "fetching" and step.total_bytes:
                done, total = units.human_bytes(step.done_bytes), units.human_bytes(step.total_bytes)
                line = f"{line}  {done}/{total}"
            self._redraw(name, line)
        elif self._layers.get(name) != line and step.stage in ("exists", "done"):
            self._layers[name] = line
            self._session.warn(line)

    def _redraw(self, name: str, line: str) -> None:
        err = self._session.err
        if self._drawn:
            err.write(f"\x1b[{self._drawn}A")
        self._layers[name] = line
        for text in self._layers.values():
            err.write(f"\r\x1b[2K{text}\n")
        self._drawn = len(self._layers)
        err.flush()
