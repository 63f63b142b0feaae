"""How each task of this node is wired, a file a task, written before the first of its links is made.

So whatever a killed worker has left is known by name, and a network is known to be in use until its last task has left.
The directory is below `run/`, which the supervisor clears after a reboot, when no link is there any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
import structlog

from swarmpy.files import write_atomic
from worker.network.wiring import Wiring

_SUFFIX: Final = ".msgpack"
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Wiring)
_log = structlog.get_logger()


class WiringRecords:
    """The records of one node; read once, then kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._rows: dict[str, Wiring] = {}
        for path in sorted(directory.glob(f"*{_SUFFIX}")):
            try:
                row = _DECODER.decode(path.read_bytes())
            except msgspec.DecodeError as error:
                # Its pin is still swept by the task's name.
                _log.error("record of a task's links is damaged", path=str(path), error=str(error))
                path.unlink()
            else:
                self._rows[row.task_id] = row

    @property
    def rows(self) -> Mapping[str, Wiring]:
        return MappingProxyType(self._rows)

    def keep(self, wiring: Wiring) -> None:
        """
        Raises:
            SwarmError: RESOURCE_EXHAUSTED, the disk is full or cannot be written.
        """
        if self._rows.get(wiring.task_id) != wiring:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            # No link outlives the machine, so its record need not either.
            write_atomic(self._path(wiring.task_id), _ENCODER.encode(wiring), durable=False)
            self._rows[wiring.task_id] = wiring

    def forget(self, task_id: str) -> None:
        """Forget a task; of an unknown one it is done already."""
        self._rows.pop(task_id, None)
        self._path(task_id).unlink(missing_ok=True)

    def on(self, network_id: str) -> tuple[str, ...]:
        """Return the tasks that are on a network."""
        return tuple(sorted(row.task_id for row in [*self._rows.values()] if network_id in row.networks))

    def networks(self) -> frozenset[str]:
        """Return the networks that have a task here."""
        return frozenset(one for row in [*self._rows.values()] for one in row.networks)

    def _path(self, task_id: str) -> Path:
        return self._directory / f"{task_id}{_SUFFIX}"
