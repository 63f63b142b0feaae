"""Progress for people: bars that are redrawn on a terminal, lines of what changed anywhere else."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from swarmpy.cli.session import Session
from swarmpy.model.states import TaskState

if TYPE_CHECKING:
    from rich.progress import TaskID

    from swarmpy.client.convergence import Progress, SlotProgress

BAR_LIMIT: Final = 20
"""Above so many tasks only the sum is drawn."""

STAGES: Final = tuple(state for state in TaskState if state <= TaskState.RUNNING)


class Display(Protocol):
    """Shows one service on its way."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, progress: Progress) -> None: ...


def display(session: Session, *, quiet: bool, monitor_s: float) -> Display:
    """Return what fits the session's output."""
    if quiet:
        return Silent()
    return Bars(session, monitor_s) if session.terminal else Lines(session, monitor_s)


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, progress: Progress) -> None:
        return None


class Lines(Silent):
    """Writes a line for each thing that changed."""

    def __init__(self, session: Session, monitor_s: float) -> None:
        self._session = session
        self._monitor_s = monitor_s
        self._seen: dict[str, str] = {}
        self._reasons: set[str] = set()
        self._service_id = ""
        self._converged = False

    def show(self, progress: Progress) -> None:
        self._service_id = progress.service_id
        self._line("overall", f"overall progress: {progress.done} out of {progress.wanted} tasks")
        if progress.note:
            self._line("note", progress.note)
        for index, slot in enumerate(progress.slots, 1):
            text = f"{index}/{max(progress.wanted, len(progress.slots))}: {_words(slot)}"
            # A task that fails again and again is told once for each reason.
            if not (slot.reason and text in self._reasons):
                self._line(f"slot {slot.slot}", text)
            if slot.reason:
                self._reasons.add(text)
        self._converged = progress.converged
        self._line("verify", waiting_line(self._monitor_s) if progress.converged else "")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._converged:
            self._session.echo(converged_line(self._service_id))

    def _line(self, key: str, text: str) -> None:
        if self._seen.get(key, "") != text:
            self._seen[key] = text
            if text:
                self._session.echo(text)
                self._session.out.flush()


class Bars:
    """Draws a bar for each task, and one for all."""

    def __init__(self, session: Session, monitor_s: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._bars = RichProgress(
            TextColumn("{task.description}"),
            # Colours of any terminal: with sixteen of them rich's own for a full bar is that of an empty one.
            BarColumn(bar_width=16, complete_style="cyan", finished_style="green"),
            TextColumn("{task.fields[words]}", markup=False),
            console=Console(file=session.out, highlight=False),
            transient=False,
        )
        self._session = session
        self._monitor_s = monitor_s
        self._overall = self._bars.add_task("overall", total=None, words="")
        self._slots: dict[int, TaskID] = {}
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
        if error is None and self._progress is not None and self._progress.converged:
            self._session.echo(converged_line(self._progress.service_id))

    def show(self, progress: Progress) -> None:
        self._progress = progress
        words = f"{progress.done} out of {progress.wanted} tasks"
        if progress.converged:
            words += f"; verify: waiting {self._monitor_s:g} s"
        elif progress.note:
            words += f"; {progress.note}"
        self._bars.update(self._overall, total=max(progress.wanted, 1), completed=progress.done, words=words)
        shown = progress.slots if len(progress.slots) <= BAR_LIMIT else ()
        for gone in set(self._slots) - {slot.slot for slot in shown}:
            self._bars.remove_task(self._slots.pop(gone))
        for index, slot in enumerate(shown, 1):
            if slot.slot not in self._slots:
                self._slots[slot.slot] = self._bars.add_task("", total=len(STAGES), words="")
            self._bars.update(
                self._slots[slot.slot],
                description=f"{index}/{max(progress.wanted, len(shown))}",
                completed=sum(slot.state >= stage for stage in STAGES) if slot.state <= TaskState.RUNNING else 0,
                words=_words(slot),
            )


def waiting_line(monitor_s: float) -> str:
    unit = "second" if monitor_s == 1 else "seconds"
    return f"verify: Waiting {monitor_s:g} {unit} to verify that tasks are stable..."


def converged_line(service_id: str) -> str:
    return f"verify: Service {service_id} converged"


def _words(slot: SlotProgress) -> str:
    from swarmpy.client.convergence import state_word

    return state_word(slot)
