"""The folder of each task, `tasks/<id>/`: its work directory, FIFOs and logs."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

import structlog

from swarmpy.errors import Code, SwarmError

_ASIDE: Final = ".removed-"
_log = structlog.get_logger()


class TaskDirectories:
    """All folders below one `tasks` directory. Blocking: use a thread for `remove` where it may be large."""

    def __init__(self, root: Path) -> None:
        """
        Args:
            root: made if missing; its mode lets other users pass through, for tasks may run as such.
        """
        self.root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o711)

    def task(self, task_id: str) -> Path:
        return self.root / task_id

    def work(self, task_id: str) -> Path:
        return self.root / task_id / "work"

    def make(self, task_id: str, owner: tuple[int, int] | None) -> Path:
        """Make a task's folder and work directory; return the latter.

        Args:
            owner: uid and gid that the work directory is given to; None leaves it ours.

        Raises:
            SwarmError: RESOURCE_EXHAUSTED, the disk is full or cannot be written.
        """
        work = self.work(task_id)
        try:
            self.task(task_id).mkdir(mode=0o711, exist_ok=True)
            work.mkdir(mode=0o750, exist_ok=True)
            if owner is not None:
                os.chown(work, *owner)
        except OSError as error:
            raise disk_error(work, error) from error
        return work

    def remove(self, task_id: str) -> None:
        """Delete a task's folder and all in it; what cannot be deleted is said and left."""
        shutil.rmtree(self.task(task_id), onerror=_say)

    def set_aside(self, task_id: str) -> str:
        """Give a task's folder a name that is no task's, and return that, to be removed.

        It takes no time, so no task of this id can begin to use the folder between a look and its removal.
        """
        aside = f"{_ASIDE}{task_id}" if not task_id.startswith(_ASIDE) else task_id
        with contextlib.suppress(OSError):  # it has gone, or an earlier one of that name is still being removed
            self.task(task_id).rename(self.task(aside))
        return aside

    def present(self) -> list[str]:
        """Return the ids of all tasks that have a folder, and the names of folders set aside."""
        return [p.name for p in self.root.iterdir()]


def disk_error(path: Path, error: OSError) -> SwarmError:
    """Return the error of a file or directory that cannot be made."""
    return SwarmError(
        Code.RESOURCE_EXHAUSTED, f"cannot write {path}: {error.strerror or error}; free space or mend the disk"
    )


def _say(_function: object, path: str, problem: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(problem[1], FileNotFoundError):
        _log.warning("left-over of a removed task", path=path, error=str(problem[1]))
