"""The mounts that a service asks for and those that its image declares, as sources on this node."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmpy import units
from swarmpy.errors import invalid, precondition
from swarmpy.model.spec import ContainerSpec, Mount
from swarmpy.model.states import MountType
from worker.oci.facts import Bind, Memory
from worker.volumes import Volume, Volumes, anonymous_name

_PROPAGATIONS: Final = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_MODE: Final = re.compile(r"0?[0-7]{1,4}", re.ASCII)
_DEFAULT_MODE: Final = 0o1777


@dataclass(frozen=True, slots=True)
class Fill:
    """A new volume that begins with what the image has at `target`."""

    volume: Volume
    target: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """What is mounted, and which volumes are to be filled before."""

    mounts: tuple[Bind | Memory, ...]
    fills: tuple[Fill, ...]


def resolve_mounts(
    task_id: str,
    container: ContainerSpec,
    image_volumes: Sequence[str],
    volumes: Volumes,
    expand: Callable[[str], str],
) -> Resolved:
    """Make the volumes that are missing, and return all mounts of a container.

    Args:
        image_volumes: directories that the image declares; one that nothing is mounted on gets a volume of its own,
            which goes with the task.
        expand: fills in the placeholders of a source or target.

    Raises:
        SwarmError: FAILED_PRECONDITION, the source of a bind mount is missing; INVALID_ARGUMENT, an option makes no
            sense.
    """
    mounts: list[Bind | Memory] = []
    fills: list[Fill] = []
    for mount in container.mounts:
        target = posixpath.normpath(expand(mount.target))
        match mount.type:
            case MountType.BIND:
                mounts.append(_bind(mount, expand(mount.source), target))
            case MountType.TMPFS:
                mounts.append(_memory(mount, target))
            case MountType.VOLUME:
                name = expand(mount.source)
                volume = (
                    volumes.ensure(name) if name else volumes.ensure(anonymous_name(task_id, target), task_id=task_id)
                )
                mounts.append(Bind(str(volumes.data(volume.name)), target, read_only=mount.read_only))
                if not volume.filled and mount.options.get("nocopy", "false") != "true":
                    fills.append(Fill(volume, target))
    taken = {mount.target for mount in mounts}
    for path in image_volumes:
        target = posixpath.normpath(f"/{path}".replace("//", "/"))
        if target not in taken:
            volume = volumes.ensure(anonymous_name(task_id, target), task_id=task_id)
            mounts.append(Bind(str(volumes.data(volume.name)), target))
            if not volume.filled:
                fills.append(Fill(volume, target))
    return Resolved(tuple(mounts), tuple(fills))


def _bind(mount: Mount, source: str, target: str) -> Bind:
    if not Path(source).exists():
        raise precondition(f'invalid mount config for type "bind": bind source path does not exist: {source}')
    propagation = mount.options.get("propagation", "rprivate")
    if propagation not in _PROPAGATIONS:
        raise invalid(
            f"the propagation {propagation!r} of the mount at {target} is not one of {', '.join(_PROPAGATIONS)}"
        )
    return Bind(source, target, mount.read_only, propagation)


def _memory(mount: Mount, target: str) -> Memory:
    mode = mount.options.get("mode", "")
    if mode and _MODE.fullmatch(mode) is None:
        raise invalid(f"the mode {mode!r} of the mount at {target} is not an octal number such as 1777")
    size = mount.options.get("size", "")
    return Memory(
        target,
        units.parse_memory_bytes(size) if size else 0,
        int(mode, 8) if mode else _DEFAULT_MODE,
    )
