"""What is remembered of each container, one file a container, replaced by rename and synced."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import structlog

from swarmpy.files import write_atomic
from swarmpy.model.base import Model
from swarmpy.model.container import ContainerConfig, PortBinding

_SUFFIX: Final = ".msgpack"
_ENCODER: Final = msgspec.msgpack.Encoder()
_log = structlog.get_logger()


class Record(Model, frozen=True):
    """One container.

    Runs are counted: `run` is the newest one, `started_run` the newest whose program was started, `ended_run` the
    newest that has ended. `wanted` is whether that run is to go on; `by_hand` that the user stopped the container since
    he last started it. `next_run_at` is when a restart is due, 0 for none; `restarts` counts those since the user
    started it, `in_a_row` those since a run that lasted. `bindings` are what was asked for, exposed ports included;
    `ports` those in force. `has_check` is whether it has a health check. Times are wall seconds.
    """

    id: str
    name: str
    config: ContainerConfig
    created_at: float = 0.0
    image_id: str = ""
    command: tuple[str, ...] = ()
    has_check: bool = False
    bindings: tuple[PortBinding, ...] = ()
    ports: tuple[PortBinding, ...] = ()
    run: int = 0
    started_run: int = 0
    ended_run: int = 0
    wanted: bool = False
    by_hand: bool = False
    paused: bool = False
    removing: bool = False
    restarts: int = 0
    in_a_row: int = 0
    next_run_at: float = 0.0
    pid: int = 0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int | None = None
    error: str = ""
    oom_killed: bool = False

    @property
    def is_live(self) -> bool:
        """Whether a run has begun and not ended."""
        return self.run > self.ended_run

    @property
    def is_running(self) -> bool:
        """Whether the program runs."""
        return self.is_live and self.started_run == self.run


_DECODER: Final = msgspec.msgpack.Decoder(Record)


class Records:
    """Records in `<directory>/<id>.msgpack`."""

    def __init__(self, directory: Path) -> None:
        """
        Args:
            directory: made if it is missing; nothing else may write to it.
        """
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def load(self) -> list[Record]:
        """Return all records. A damaged one is set aside and said: its container is then unknown."""
        records = []
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            try:
                records.append(_DECODER.decode(path.read_bytes()))
            except (msgspec.DecodeError, OSError) as error:
                _log.error("container record is damaged, set aside", path=str(path), error=str(error))
                path.replace(path.with_suffix(".damaged"))
        return records

    def save(self, record: Record) -> None:
        """
        Raises:
            SwarmError: RESOURCE_EXHAUSTED, the disk is full or cannot be written.
        """
        write_atomic(self._path(record.id), _ENCODER.encode(record))

    def remove(self, container_id: str) -> None:
        self._path(container_id).unlink(missing_ok=True)

    def _path(self, container_id: str) -> Path:
        return self._directory / f"{container_id}{_SUFFIX}"
