"""The file systems of a container beside its root: the kernel's own ones, then those of the service. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Any, Final

from worker.oci.facts import Bind, Memory

_MASKED: Final = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
)
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_SHM_BYTES: Final = 64 * 1024 * 1024


def masked_paths(*, privileged: bool) -> list[str]:
    """Return what a container must not see: the host's hardware, keys and kernel memory."""
    return [] if privileged else list(_MASKED)


def read_only_paths(*, privileged: bool) -> list[str]:
    """Return what a container must not change: the kernel has no namespace for it."""
    return [] if privileged else list(_READ_ONLY)


def mounts(wanted: Iterable[Bind | Memory], *, privileged: bool = False) -> list[dict[str, Any]]:
    """Return `mounts`: outer directories before those below them; a wanted one replaces ours at the same place."""
    chosen = {mount["destination"]: mount for mount in _kernel(privileged=privileged)}
    for mount in wanted:
        made = _bind(mount) if isinstance(mount, Bind) else _memory(mount)
        chosen.pop(made["destination"], None)
        chosen[made["destination"]] = made
    return sorted(chosen.values(), key=lambda m: _depth(m["destination"]))  # a stable sort: equals keep their order


def _depth(path: str) -> int:
    return 0 if path == "/" else path.count("/")


def _kernel(*, privileged: bool) -> list[dict[str, Any]]:
    guarded = ["nosuid", "noexec", "nodev"]
    system = guarded if privileged else [*guarded, "ro"]
    return [
        _mount("/proc", "proc", "proc", guarded),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/sys", "sysfs", "sysfs", system),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", guarded),
        _mount("/dev/shm", "tmpfs", "shm", [*guarded, "mode=1777", f"size={_SHM_BYTES}"]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*system, "relatime"]),
    ]


def _bind(bind: Bind) -> dict[str, Any]:
    options = ["rbind", bind.propagation, "ro" if bind.read_only else "rw"]
    return _mount(_clean(bind.target), "bind", bind.source, options)


def _memory(memory: Memory) -> dict[str, Any]:
    options = ["nosuid", "nodev", "noexec", f"mode={memory.mode:o}"]
    if memory.size_bytes:
        options.append(f"size={memory.size_bytes}")
    return _mount(_clean(memory.target), "tmpfs", "tmpfs", options)


def _clean(target: str) -> str:
    return posixpath.normpath(f"/{target.lstrip('/')}")


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}
