"""Puts a container's OCI runtime spec together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from swarmpy.model.spec import TaskSpec
from worker.oci.capabilities import chosen, ordered
from worker.oci.command import argv, workdir
from worker.oci.facts import Abilities, Bundle
from worker.oci.image import ImageDefaults
from worker.oci.limits import DEFAULT_SYSCTLS, device_nodes, resources, rlimits
from worker.oci.mounts import masked_paths, mounts, read_only_paths
from worker.oci.seccomp import profile

_VERSION: Final = "1.0.2"
ROOT: Final = "rootfs"
"""The root file system, below the bundle that containerd makes."""


def build_spec(task: TaskSpec, image: ImageDefaults, bundle: Bundle, abilities: Abilities) -> dict[str, Any]:
    """Return the runtime spec, ready for JSON.

    Raises:
        SwarmError: the service asks for what cannot be: no command, an unknown capability.
    """
    container = task.container
    spec: dict[str, Any] = {
        "ociVersion": _VERSION,
        "process": _process(task, image, bundle, abilities),
        "root": {"path": ROOT, "readonly": container.read_only},
        "hostname": bundle.hostname,
        "mounts": mounts(bundle.mounts, privileged=bundle.privileged),
        "linux": _linux(task, bundle, abilities),
    }
    if bundle.annotations:
        spec["annotations"] = dict(bundle.annotations)
    return spec


def exec_process(spec: Mapping[str, Any], command: tuple[str, ...], *, terminal: bool = False) -> dict[str, Any]:
    """Return the process of a command run in a container beside its own: as its own, but for what it runs.

    Args:
        spec: the container's spec.
    """
    return {**spec["process"], "args": list(command), "terminal": terminal}


def _process(task: TaskSpec, image: ImageDefaults, bundle: Bundle, abilities: Abilities) -> dict[str, Any]:
    container = task.container
    held = _capabilities(task, bundle, abilities)
    process: dict[str, Any] = {
        "terminal": container.tty,
        "user": {"uid": bundle.user.uid, "gid": bundle.user.gid, "additionalGids": list(bundle.user.groups)},
        "args": list(argv(container, image)),
        "env": [f"{name}={value}" for name, value in bundle.env.items()],
        "cwd": workdir(container, image),
        # Nothing is inheritable or ambient: a program of another user than root starts without any of them.
        "capabilities": {"bounding": held, "effective": held, "permitted": held},
        "noNewPrivileges": bundle.no_new_privileges,
        "oomScoreAdj": container.oom_score_adj,
    }
    if container.ulimits:
        process["rlimits"] = rlimits(container.ulimits)
    if abilities.apparmor and not bundle.privileged:
        process["apparmorProfile"] = abilities.apparmor
    return process


def _capabilities(task: TaskSpec, bundle: Bundle, abilities: Abilities) -> list[str]:
    if bundle.privileged:
        return list(ordered(abilities.capabilities))
    return list(chosen(task.container.cap_add, task.container.cap_drop, abilities.capabilities))


def _linux(task: TaskSpec, bundle: Bundle, abilities: Abilities) -> dict[str, Any]:
    linux: dict[str, Any] = {
        "cgroupsPath": bundle.cgroup,
        "namespaces": _namespaces(bundle, abilities),
        "resources": resources(task.limits, task.reservations, abilities, bundle.devices, privileged=bundle.privileged),
        "maskedPaths": masked_paths(privileged=bundle.privileged),
        "readonlyPaths": read_only_paths(privileged=bundle.privileged),
    }
    sysctls = {**(DEFAULT_SYSCTLS if bundle.netns else {}), **task.container.sysctls}
    if sysctls:
        linux["sysctl"] = sysctls
    if bundle.devices:
        linux["devices"] = device_nodes(bundle.devices)
    if abilities.seccomp and not bundle.privileged:
        seccomp = profile(abilities.arch, frozenset(_capabilities(task, bundle, abilities)))
        if seccomp is not None:
            linux["seccomp"] = seccomp
    return linux


def _namespaces(bundle: Bundle, abilities: Abilities) -> list[dict[str, str]]:
    made = [{"type": kind} for kind in ("mount", "pid", "ipc", "uts")]
    if bundle.netns:
        made.append({"type": "network", "path": bundle.netns})
    if abilities.unified:
        # Version 1 shows each container its own group through mounts; version 2 needs the namespace for that.
        made.append({"type": "cgroup"})
    return made
