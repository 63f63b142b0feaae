"""What the containers of a node use now, and which processes run in them."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmpy.clock import Clock
from swarmpy.model import network
from swarmpy.model.container import Container
from worker.containerd.types import TaskMetrics
from worker.containers.desk import Desk

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one container. `cpu_ratio` 1 is one core, over the time since the last look; the rest are counts since its
    start, all zero for one that does not run.
    """

    id: str
    name: str
    running: bool = False
    cpu_ratio: float = 0.0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """The counters of containers, by id, at a monotonic time."""

    at_s: float
    metrics: Mapping[str, TaskMetrics]


async def look(desk: Desk, containers: Sequence[Container], clock: Clock) -> Look:
    """Read the counters of the containers that run."""
    running = [one.id for one in containers if one.state.pid]
    metrics = await desk.containers.client.tasks.metrics(*running) if running else {}
    return Look(clock.monotonic(), metrics)


def figures(container: Container, before: Look, now: Look, memory_bytes: int) -> Figures:
    """Return a container's figures between two looks.

    Args:
        memory_bytes: what the machine has: the limit of a container without one.
    """
    found, earlier = now.metrics.get(container.id), before.metrics.get(container.id)
    if found is None:
        return Figures(container.id, container.name)
    passed_s = now.at_s - before.at_s
    cpu_ns = found.cpu_ns - earlier.cpu_ns if earlier is not None else 0
    on_host = any(joined.target == network.HOST for joined in container.config.task.networks)
    received, sent = (0, 0) if on_host else traffic(container.state.pid)
    limit = found.memory_limit_bytes
    return Figures(
        id=container.id,
        name=container.name,
        running=True,
        cpu_ratio=max(0.0, cpu_ns / _NANO / passed_s) if passed_s > 0 else 0.0,
        memory_bytes=max(0, found.memory_bytes - found.memory_cache_bytes),
        memory_limit_bytes=min(limit, memory_bytes) if limit else memory_bytes,
        received_bytes=received,
        sent_bytes=sent,
        read_bytes=found.read_bytes,
        written_bytes=found.written_bytes,
        pids=found.pids,
    )


def traffic(pid: int) -> tuple[int, int]:
    """Return the bytes that a process's network namespace has received and sent, its loopback left out."""
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    except OSError:
        return 0, 0
    received = sent = 0
    for line in lines:
        name, _, rest = line.partition(":")
        counters = rest.split()
        if name.strip() != "lo" and len(counters) >= 9:
            received += int(counters[0])
            sent += int(counters[8])
    return received, sent


@dataclass(frozen=True, slots=True)
class Running:
    """A process in a container, by its numbers on the node. `started_at` is wall seconds."""

    pid: int
    parent_pid: int
    user: str
    started_at: float
    cpu_s: float
    command: str


def processes(pids: Sequence[int], now: float) -> list[Running]:
    """Return what is known of processes; those that have gone meanwhile are left out.

    Args:
        now: wall seconds.
    """
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    found = (_process(pid, now - up_s) for pid in sorted(pids))
    return [process for process in found if process is not None]


def _process(pid: int, booted_at: float) -> Running | None:
    folder = Path(f"/proc/{pid}")
    try:
        text = (folder / "stat").read_text("utf-8", "replace")
        words = (folder / "cmdline").read_bytes().split(b"\0")
        uid = folder.stat().st_uid
    except OSError:
        return None
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    command = b" ".join(words).decode("utf-8", "replace").strip() or f"[{head.partition('(')[2]}]"
    return Running(
        pid=pid,
        parent_pid=int(fields[1]),
        user=_user(uid),
        started_at=booted_at + int(fields[19]) / _TICKS,
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS,
        command=command,
    )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
