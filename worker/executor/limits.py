"""The cgroups of this node's tasks: made with their limits, asked about out-of-memory kills, and removed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import structlog
from tenacity import AsyncRetrying, RetryError, retry_if_exception, stop_after_delay, wait_exponential

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.model.node import Capability
from swarmpy.model.spec import Resources
from worker.executor.cgroups import CONTROLLER, Hierarchy, groups_of, limited, oom_kills, settings

_TOP: Final = "swarmpy"
_REMOVE_WITHIN_S: Final = 5.0
_OOM_FILE: Final = {1: "memory.oom_control", 2: "memory.events"}
_NO_LIMIT_BYTES: Final = 1 << 60
"""Version 1 has no word for "no limit", only a number that no machine has the memory for."""

_LIMIT_FILE: Final = {1: "memory.limit_in_bytes", 2: "memory.max"}
_log = structlog.get_logger()


class Cgroups:
    """Groups `swarmpy/<node key>/<task id>` in each controller's hierarchy."""

    def __init__(
        self, at: Mapping[str, Hierarchy], node_key: str, clock: Clock, *, others: Iterable[Path] = ()
    ) -> None:
        """
        Args:
            at: where each controller is.
            node_key: tells this node's groups from those of other nodes on the machine.
            others: mounts of further hierarchies, in which a container's runtime makes groups of the same name.
        """
        self._at = at
        self._mounts = tuple(dict.fromkeys((*(h.mount for h in at.values()), *others)))
        self._key = node_key
        self._clock = clock
        self.missing: dict[Capability, str] = {}
        self._probe()

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """Which limits this node can enforce; `missing` says why the others not."""
        return tuple(c for c in CONTROLLER if c not in self.missing)

    @property
    def directories(self) -> tuple[Path, ...]:
        """This node's own directory in each hierarchy."""
        return tuple(mount / _TOP / self._key for mount in self._mounts)

    def path(self, task_id: str) -> str:
        """Return the path of the task's group below each hierarchy's mount."""
        return f"/{_TOP}/{self._key}/{task_id}"

    def _probe(self) -> None:
        """Find out by doing: make this node's groups and see whether a task's group can be made in them."""
        for capability, controller in CONTROLLER.items():
            hierarchy = self._at.get(controller)
            if hierarchy is None:
                self.missing[capability] = f"no cgroup hierarchy on this node has the {controller} controller"
                continue
            probe = self._base(hierarchy) / "probe"
            try:
                self._make_parents(hierarchy, controller)
                probe.mkdir(exist_ok=True)
                probe.rmdir()
            except OSError as error:
                self.missing[capability] = f"cannot make a cgroup in {hierarchy.mount}: {error.strerror}"

    def _base(self, hierarchy: Hierarchy) -> Path:
        return hierarchy.mount / _TOP / self._key

    def _make_parents(self, hierarchy: Hierarchy, controller: str) -> None:
        self._base(hierarchy).mkdir(parents=True, exist_ok=True)
        if hierarchy.version == 2:
            for group in (hierarchy.mount, hierarchy.mount / _TOP, self._base(hierarchy)):
                (group / "cgroup.subtree_control").write_text(f"+{controller}")

    def create(self, task_id: str, limits: Resources) -> None:
        """Make the task's groups with their limits; nothing is made for no limits.

        Raises:
            SwarmError: FAILED_PRECONDITION, this node cannot enforce one of the limits.
        """
        for capability in limited(limits):
            if capability in self.missing:
                raise precondition(f"this node cannot enforce {capability.value}: {self.missing[capability]}")
        wanted = settings(limits, self._at)
        try:
            for controller in groups_of(wanted):
                self._group(controller, task_id).mkdir(exist_ok=True)
            for setting in wanted:
                path = self._group(setting.controller, task_id) / setting.file
                if not setting.optional or path.exists():
                    path.write_text(setting.value)
        except OSError as error:
            raise precondition(f"cannot set the limits of task {task_id}: {error}") from error

    def procs_files(self, task_id: str, limits: Resources) -> tuple[str, ...]:
        """Return the files into which the task's process is to be written before it runs."""
        controllers = groups_of(settings(limits, self._at)) if limited(limits) else ()
        return tuple(
            dict.fromkeys(str(self._group(controller, task_id) / "cgroup.procs") for controller in controllers)
        )

    def oom_limit(self, task_id: str) -> int:
        """Return the limit in bytes at which the kernel killed in the task's group; 0 if it did not."""
        hierarchy = self._at.get("memory")
        if hierarchy is None:
            return 0
        group = self._group("memory", task_id)
        try:
            if oom_kills((group / _OOM_FILE[hierarchy.version]).read_text()):
                limit = int((group / _LIMIT_FILE[hierarchy.version]).read_text())
                return limit if limit < _NO_LIMIT_BYTES else 0
        except (OSError, ValueError):
            return 0  # a task without a memory limit has no such group, or "max" for a limit
        return 0

    async def remove(self, task_id: str) -> None:
        """End what is left in the task's groups and remove them.

        Raises:
            SwarmError: UNAVAILABLE, a group stays busy.
        """
        for directory in self.directories:
            group = directory / task_id
            if group.exists():
                await self._remove(group)

    async def _remove(self, group: Path) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda e: isinstance(e, OSError) and e.errno == errno.EBUSY),
            wait=wait_exponential(multiplier=0.005, max=0.5),
            stop=stop_after_delay(_REMOVE_WITHIN_S),
            sleep=self._clock.sleep,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    _kill_and_remove(group)
        except FileNotFoundError:
            return
        except (RetryError, OSError) as error:
            raise SwarmError(Code.UNAVAILABLE, f"cannot remove the cgroup {group}: {error}") from error

    async def sweep(self, is_held: Callable[[str], bool]) -> None:
        """Remove the groups of tasks that are not held: a former worker died before it could."""
        for base in self.directories:
            names = [p.name for p in base.iterdir() if p.is_dir()] if base.is_dir() else []
            for name in names:
                if not is_held(name):
                    try:
                        await self._remove(base / name)
                    except SwarmError as error:
                        _log.warning("left-over cgroup", group=str(base / name), error=error.message)

    def close(self) -> None:
        """Remove this node's own group where it is empty; tasks that go on keep it."""
        for directory in self.directories:
            with contextlib.suppress(OSError):
                directory.rmdir()
                directory.parent.rmdir()

    def _group(self, controller: str, task_id: str) -> Path:
        return self._base(self._at[controller]) / task_id


def _kill_and_remove(group: Path) -> None:
    """Kill what has left the task's process group, for a cgroup cannot be left, and remove the cgroup."""
    for pid in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    group.rmdir()
