"""The node's local volumes: directories `volumes/<name>/_data` that outlive containers.

Owns `volumes/` below the state directory. A volume is made on first use; an anonymous one belongs to one task and goes
with it. `volume.json` beside the data says whose it is and since when.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, invalid, not_found
from swarmpy.files import write_atomic
from swarmpy.model.base import Model

NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
_LONGEST_NAME: Final = 255
_DATA: Final = "_data"
_RECORD: Final = "volume.json"
_MARK_DIGITS: Final = 16
_log = structlog.get_logger()


class Volume(Model, frozen=True):
    """One volume. `task_id` is the task that an anonymous one belongs to.

    `filled`: its first content is whole. `filling`: it is being put there, and is begun anew after an interruption.
    """

    name: str
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    created_at: float = 0.0
    task_id: str = ""
    filled: bool = False
    filling: bool = False


def anonymous_name(task_id: str, target: str) -> str:
    """Return the name of a task's anonymous volume: the same for each try at preparing the task."""
    return f"{task_id}-{hashlib.sha256(target.encode()).hexdigest()[:_MARK_DIGITS]}"


class Volumes:
    """All volumes of a node, for any thread. Blocking, but quick, except for `remove` of a large one."""

    def __init__(self, root: Path, clock: Clock) -> None:
        """
        Args:
            root: made with the first volume.
        """
        self._root = root
        self._clock = clock
        self._writing = threading.Lock()

    def data(self, name: str) -> Path:
        """Return the directory that containers see."""
        return self._root / name / _DATA

    def ensure(self, name: str, *, labels: Mapping[str, str] | None = None, task_id: str = "") -> Volume:
        """Return the volume, made if there is none; one that is there keeps its labels.

        Raises:
            SwarmError: INVALID_ARGUMENT, the name cannot be one; RESOURCE_EXHAUSTED, the disk cannot be written.
        """
        if NAME.fullmatch(name) is None or len(name) > _LONGEST_NAME:
            raise invalid(
                f"{name!r} is not a volume name: use letters, digits, '_', '.' and '-', a letter or digit first"
            )
        with self._writing:
            return self._ensure(name, labels or {}, task_id)

    def _ensure(self, name: str, labels: Mapping[str, str], task_id: str) -> Volume:
        found = self._read(name)
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o711)
            self.data(name).parent.mkdir(exist_ok=True, mode=0o711)
            self.data(name).mkdir(exist_ok=True, mode=0o755)
        except OSError as error:
            sentence = f"cannot make the volume {name} in {self._root}: {error.strerror}; free space or mend the disk"
            raise SwarmError(Code.RESOURCE_EXHAUSTED, sentence) from error
        if found is not None:
            return found
        return self._write(Volume(name=name, labels=dict(labels), created_at=self._clock.now(), task_id=task_id))

    def begin_to_fill(self, name: str) -> bool:
        """Return whether the volume is to be given its first content: it is new, or that was interrupted.

        A volume that holds anything else is as somebody wants it, and is never filled.
        """
        with self._writing:
            volume = self.get(name)
            if volume.filled:
                return False
            if volume.filling:
                self._empty(name)
            elif next(self.data(name).iterdir(), None) is not None:
                self._write(msgspec.structs.replace(volume, filled=True))
                return False
            self._write(msgspec.structs.replace(volume, filling=True))
            return True

    def end_to_fill(self, name: str) -> None:
        """Remember that the volume's first content is whole."""
        with self._writing:
            self._write(msgspec.structs.replace(self.get(name), filled=True, filling=False))

    def _empty(self, name: str) -> None:
        for path in self.data(name).iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def list(self) -> list[Volume]:
        """Return all volumes by name."""
        if not self._root.is_dir():
            return []
        found = (self._read(path.name) for path in sorted(self._root.iterdir()))
        return [volume for volume in found if volume is not None]

    def get(self, name: str) -> Volume:
        """Return one volume.

        Raises:
            SwarmError: NOT_FOUND.
        """
        found = self._read(name) if NAME.fullmatch(name) else None
        if found is None:
            raise not_found(f"there is no volume {name!r} on this node")
        return found

    def remove(self, name: str) -> None:
        """Delete a volume with its data; what cannot be deleted is said and left.

        Raises:
            SwarmError: NOT_FOUND.
        """
        self.get(name)
        # The record goes last: what an interruption leaves is still a volume, and can be removed again.
        shutil.rmtree(self.data(name), onerror=_say)
        shutil.rmtree(self._root / name, onerror=_say)

    def remove_of(self, task_id: str) -> None:
        """Delete the anonymous volumes of a task."""
        for path in self._root.glob(f"{task_id}-*"):
            found = self._read(path.name)
            if found is not None and found.task_id == task_id:
                self.remove(found.name)

    def _read(self, name: str) -> Volume | None:
        """Return the record; None if there is no volume. One without a whole record is taken as new again."""
        path = self._root / name / _RECORD
        try:
            return msgspec.json.decode(path.read_bytes(), type=Volume)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as error:
            _log.error("record of a volume is damaged; its data is kept", path=str(path), error=str(error))
            return Volume(name=name, filled=True)

    def _write(self, volume: Volume) -> Volume:
        write_atomic(self._root / volume.name / _RECORD, msgspec.json.encode(volume))
        return volume


def _say(_function: object, path: str, problem: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(problem[1], FileNotFoundError):
        _log.warning("left-over of a removed volume", path=path, error=str(problem[1]))
