"""Health checks run in a container, whatever is left of the one before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from swarmpy.errors import Code, SwarmError
from worker.containerd.types import Exited
from worker.executor.container.files import ContainerFiles
from worker.executor.container.parts import Tasks
from worker.executor.container.probes import Probes
from worker.health.checks import Check, CheckKind
from worker.health.probe import ProbeResult


class BusyTasks:
    """A shim that forgets a command only when it has been asked `refusals` times more."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.known = refusals > 0
        self.began: list[str] = []

    async def exec(self, _task: str, exec_id: str, _process: Mapping[str, object], **_paths: str) -> None:
        if self.known:
            raise SwarmError(Code.ALREADY_EXISTS, f"id {exec_id}: already exists")
        self.known = True

    async def start(self, _task: str, exec_id: str) -> int:
        self.began.append(exec_id)
        return 1

    async def wait(self, _task: str, _exec_id: str) -> Exited:
        return Exited(0, 1.0)

    async def kill(self, _task: str, _signal: int, *, exec_id: str) -> bool:  # it has ended
        return False

    async def delete_process(self, _task: str, _exec_id: str) -> Exited:
        if self.refusals:
            self.refusals -= 1
            raise SwarmError(Code.FAILED_PRECONDITION, "cannot delete a running process")
        self.known = False
        return Exited(0, 1.0)


async def probed(place: Path, tasks: BusyTasks) -> ProbeResult:
    files = ContainerFiles(place)
    (place / "container").mkdir()
    (place / "container" / "spec.json").write_text(json.dumps({"process": {"args": ["x"], "env": [], "cwd": "/"}}))
    check = Check(CheckKind.COMMAND, argv=("true",), timeout_s=5.0)
    return await Probes(cast(Tasks, tasks)).run("one", files, check)


class NeverStarted(BusyTasks):
    """The last check was cancelled when its command had been made."""

    async def kill(self, _task: str, _signal: int, *, exec_id: str) -> bool:
        raise SwarmError(Code.FAILED_PRECONDITION, f"cannot signal {exec_id}: process not created")


async def test_a_command_that_was_never_started_is_forgotten(tmp_path: Path) -> None:
    tasks = NeverStarted(0)
    tasks.known = True
    assert (await probed(tmp_path, tasks)).passed


@pytest.mark.parametrize("refusals", [0, 1, 3])
async def test_a_check_waits_until_the_last_one_is_forgotten(tmp_path: Path, refusals: int) -> None:
    tasks = BusyTasks(refusals)
    assert (await probed(tmp_path, tasks)).passed
    assert len(tasks.began) == 1
