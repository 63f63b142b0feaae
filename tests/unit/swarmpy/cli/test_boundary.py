"""The edge of the program: pipes that close, Ctrl-C, bugs, terminals."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swarmpy.cli import main as entry
from swarmpy.cli.progress import Bars, Lines, Silent, display
from swarmpy.cli.session import Session
from swarmpy.client.convergence import Progress, SlotProgress
from swarmpy.model.states import TaskState
from tests.support.control import FakeCluster
from tests.unit.swarmpy.cli.conftest import Shell


class ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def make_session(out: io.StringIO, **fields: Any) -> Session:
    return Session(out=out, err=io.StringIO(), environ=fields.pop("environ", {}), **fields)


def test_a_reader_that_goes_away_is_no_news() -> None:
    session = make_session(ClosedPipe())
    assert entry.run(["version"], session) == 1
    assert session.err.getvalue() == ""  # type: ignore[attr-defined]  # a StringIO here


def test_a_bug_is_a_sentence_and_its_traceback_is_there_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(entry.cli, "main", broken)
    session = make_session(io.StringIO())
    assert entry.run(["version"], session) == 1
    assert "swarmpy failed (KeyError: 'oops'); this is a bug" in session.err.getvalue()  # type: ignore[attr-defined]  # a StringIO here
    with pytest.raises(KeyError):
        entry.run(["version"], make_session(io.StringIO(), environ={"SWARMPY_DEBUG": "1"}))


def test_ctrl_c_while_waiting_says_that_the_change_goes_on(
    manager: Shell, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("swarmpy.client.waiting.converge", interrupted)
    outcome = manager("swarmpy service create --process --name web sleep 1")
    assert outcome.status == 130
    assert outcome.err == "The change goes on in the background; see how far it is with `swarmpy service ps web`.\n"
    assert [service.name for service in cluster.services.values()] == ["web"]


def test_a_group_without_a_command_shows_its_help(shell: Shell) -> None:
    outcome = shell("swarmpy service")
    assert outcome.status == 0
    assert "rollback  Put a service's previous spec back" in outcome.out


def test_the_display_fits_the_output() -> None:
    out = io.StringIO()
    assert isinstance(display(make_session(out), quiet=False, monitor_s=5.0), Lines)
    assert isinstance(display(make_session(out, terminal=True), quiet=False, monitor_s=5.0), Bars)
    assert isinstance(display(make_session(out, terminal=True), quiet=True, monitor_s=5.0), Silent)


def progress(state: TaskState, *, done: bool = False, slots: int = 1, **fields: Any) -> Progress:
    shown = tuple(SlotProgress(slot=n, state=state, done=done, **fields) for n in range(1, slots + 1))
    return Progress(service_id="abc", name="web", wanted=slots, done=slots if done else 0, slots=shown, converged=done)


def test_lines_tell_what_changed_and_nothing_twice() -> None:
    out = io.StringIO()
    with Lines(make_session(out), monitor_s=1.0) as lines:
        lines.show(progress(TaskState.PREPARING))
        for _ in range(3):
            lines.show(progress(TaskState.REJECTED, reason="no such command: foo"))
            lines.show(progress(TaskState.NEW, reason="no such command: foo", retrying=True))
        lines.show(progress(TaskState.RUNNING, done=True))
        lines.show(progress(TaskState.RUNNING, done=True))
    assert out.getvalue().splitlines() == [
        "overall progress: 0 out of 1 tasks",
        "1/1: preparing",
        "1/1: rejected: no such command: foo",
        "1/1: trying again: no such command: foo",
        "overall progress: 1 out of 1 tasks",
        "1/1: running",
        "verify: Waiting 1 second to verify that tasks are stable...",
        "verify: Service abc converged",
    ]


def test_bars_show_each_task_until_there_are_too_many() -> None:
    for slots, drawn in ((3, True), (30, False)):
        out = io.StringIO()
        with Bars(make_session(out, terminal=True), monitor_s=5.0) as bars:
            bars.show(progress(TaskState.PREPARING, slots=slots, reason="waits"))
            bars.show(progress(TaskState.RUNNING, slots=slots, done=True))
        assert f"{slots} out of {slots} tasks" in out.getvalue()
        assert (f"{slots}/{slots}" in out.getvalue()) is drawn
        assert out.getvalue().endswith("verify: Service abc converged\n")


def test_env_files_and_the_order_of_their_entries(manager: Shell, cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "web.env"
    file.write_text("# defaults\nA=1\nB=2\nHOME\n")
    manager.environ["HOME"] = "/home/ann"
    outcome = manager(f"swarmpy service create --process --name web -d --env-file {file} -e B=3 -e C sleep 1")
    assert outcome.err == ""
    (service,) = cluster.services.values()
    assert service.spec.task.container.env == ("A=1", "B=3", "HOME=/home/ann")


@pytest.mark.parametrize("words", ["--help", "version", "swarm --help"])
def test_an_output_that_takes_nothing_is_a_sentence(words: str) -> None:
    command = f"{shlex.join([sys.executable, '-c', 'from swarmpy.cli.main import main; main()'])} {words}"
    ended = subprocess.run(["sh", "-c", f"exec {command} >/dev/full"], stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.stderr, ended.returncode) == (
        "Error: cannot write the output: no space left on device; a change that was asked for may have been made\n",
        1,
    )


def test_an_output_that_is_closed_is_no_news() -> None:
    command = shlex.join([sys.executable, "-c", "from swarmpy.cli.main import main; main()", "version"])
    ended = subprocess.run(["sh", "-c", f"exec {command} >&-"], stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_a_file_that_cannot_be_opened_is_not_taken_for_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device", "/some/file")

    monkeypatch.setattr(entry.cli, "main", broken)
    session = make_session(io.StringIO())
    assert entry.run(["version"], session) == 1
    assert "this is a bug" in session.err.getvalue()  # type: ignore[attr-defined]  # a StringIO here
