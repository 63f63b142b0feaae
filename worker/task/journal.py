"""What each task was told and how far it got, one file a task, so that a restarted worker goes on where it was.

A file is replaced by rename, never changed in place, so it is whole after a crash of the worker. It is not synced:
after a crash of the machine no task runs any more, and a file that was lost with it stands for a task that is lost.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from swarmpy.errors import Code, SwarmError
from swarmpy.model.base import Model
from swarmpy.model.states import TaskState
from swarmpy.model.task import TaskStatus
from worker.assignments import Assignment

_SUFFIX: Final = ".msgpack"
_ENCODER: Final = msgspec.msgpack.Encoder()
_log = structlog.get_logger()


class TaskRecord(Model, frozen=True):
    """One task as it is remembered.

    `boot_id` names the boot in which its process was started, `data_addr` the address at which it was told to listen.
    """

    assignment: Assignment
    status: TaskStatus
    boot_id: str
    data_addr: str = ""
    start_time: int = 0
    removed: bool = False


_DECODER: Final = msgspec.msgpack.Decoder(TaskRecord)


class Journal(Protocol):
    """Where task records are kept."""

    def load(self) -> list[TaskRecord]:
        """Return all records, in no particular order."""

    def save(self, record: TaskRecord) -> None:
        """Keep `record` in place of the task's last one.

        Raises:
            SwarmError: RESOURCE_EXHAUSTED, the disk is full or cannot be written.
        """

    def remove(self, task_id: str) -> None:
        """Forget a task; one that is not known is no error."""


def _without_spent_credentials(record: TaskRecord) -> TaskRecord:
    """Return the record without what its image was pulled with, once it is pulled: no secret stays on disk for long."""
    assignment = record.assignment
    if assignment.version.pull_auth is None or record.status.state < TaskState.READY:
        return record
    version = msgspec.structs.replace(assignment.version, pull_auth=None)
    return msgspec.structs.replace(record, assignment=msgspec.structs.replace(assignment, version=version))


class FileJournal:
    """Records in `<directory>/<task id>.msgpack`."""

    def __init__(self, directory: Path) -> None:
        """
        Args:
            directory: made if it is missing; nothing else may write to it.
        """
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def load(self) -> list[TaskRecord]:
        """Return all records. A damaged one is set aside and said: its task is then unknown, thus lost."""
        records = []
        for path in sorted(self._directory.iterdir()):
            if path.suffix == _SUFFIX:
                try:
                    records.append(_DECODER.decode(path.read_bytes()))
                except (msgspec.DecodeError, OSError) as error:
                    _log.error("task record is damaged, set aside", path=str(path), error=str(error))
                    path.replace(path.with_suffix(".damaged"))
            elif path.suffix == ".tmp":
                path.unlink(missing_ok=True)
        return records

    def save(self, record: TaskRecord) -> None:
        path = self._path(record.assignment.id)
        beside = path.with_suffix(".tmp")
        try:
            beside.write_bytes(_ENCODER.encode(_without_spent_credentials(record)))
            beside.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise SwarmError(
                Code.RESOURCE_EXHAUSTED,
                f"cannot write the task journal {path.parent}: {error.strerror}; free space or mend the disk",
            ) from error

    def remove(self, task_id: str) -> None:
        self._path(task_id).unlink(missing_ok=True)

    def _path(self, task_id: str) -> Path:
        return self._directory / f"{task_id}{_SUFFIX}"


class MemoryJournal:
    """Records of a simulated worker, which has nothing to outlive."""

    def __init__(self) -> None:
        self.records: dict[str, TaskRecord] = {}

    def load(self) -> list[TaskRecord]:
        return list(self.records.values())

    def save(self, record: TaskRecord) -> None:
        self.records[record.assignment.id] = record

    def remove(self, task_id: str) -> None:
        self.records.pop(task_id, None)
