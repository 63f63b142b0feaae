from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import HostPort
from swarmpy.model.service import RegistryAuth
from swarmpy.model.states import TaskState
from swarmpy.model.task import TaskStatus
from tests.support.dispatcher import service_version
from worker.assignments import Assignment
from worker.task.journal import FileJournal, TaskRecord


def record(task_id: str = "a", state: TaskState = TaskState.RUNNING) -> TaskRecord:
    version = service_version(command=("sleep", "1"), env=("A=1",))
    status = TaskStatus(state=state, pid=5, host_ports=(HostPort(target=80, port=20000),))
    return TaskRecord(
        assignment=Assignment(id=task_id, service_id=version.service_id, slot=1, version=version),
        status=status,
        boot_id="boot",
        start_time=7,
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "tasks")
    journal.save(record("a"))
    journal.save(record("b"))
    journal.save(record("b", TaskState.FAILED))
    loaded = FileJournal(tmp_path / "tasks").load()
    assert sorted(loaded, key=lambda r: r.assignment.id) == [record("a"), record("b", TaskState.FAILED)]
    journal.remove("a")
    journal.remove("a")
    assert FileJournal(tmp_path / "tasks").load() == [record("b", TaskState.FAILED)]


def test_a_damaged_record_is_set_aside(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal.save(record("a"))
    path = tmp_path / "a.msgpack"
    path.write_bytes(path.read_bytes()[:20])
    (tmp_path / "b.tmp").write_bytes(b"half")
    assert journal.load() == []
    assert [p.name for p in tmp_path.iterdir()] == ["a.damaged"]


def test_a_disk_that_cannot_be_written_is_said_and_the_old_record_stays(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "tasks")
    journal.save(record("a"))
    (tmp_path / "tasks" / "a.tmp").mkdir()  # what is written beside cannot be made
    with pytest.raises(SwarmError, match="cannot write the task journal") as caught:
        journal.save(record("a", TaskState.FAILED))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    (tmp_path / "tasks" / "a.tmp").rmdir()
    assert journal.load() == [record("a")]


def test_what_an_image_was_pulled_with_is_kept_until_it_is_pulled(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    for state, is_kept in ((TaskState.PREPARING, True), (TaskState.READY, False), (TaskState.RUNNING, False)):
        plain = record("a", state)
        version = msgspec.structs.replace(
            plain.assignment.version, pull_auth=RegistryAuth(registry="hub", username="anna", password="secret")
        )
        given = msgspec.structs.replace(plain, assignment=msgspec.structs.replace(plain.assignment, version=version))
        journal.save(given)
        assert journal.load() == [given if is_kept else plain]
        assert (b"secret" in (tmp_path / "a.msgpack").read_bytes()) is is_kept
