"""What a container's spec depends on beside the service: the node's abilities, the task's places, the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmpy.model.kernel import CAPABILITIES
from worker.oci.users import User


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What this node's kernel and runtime can do for containers.

    `arch` is as in `uname -m`, with `arm64` for aarch64. `unified` says that there is cgroup version 2 alone.
    `capabilities` are those that a process of this node can hold at all. `init` is the path of a minimal init process
    on the node, empty if none is installed. `apparmor` names the profile to confine with, empty for none.
    """

    arch: str
    unified: bool = False
    seccomp: bool = True
    swap_limit: bool = True
    apparmor: str = ""
    capabilities: frozenset[str] = frozenset(CAPABILITIES)
    init: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """A device node of the host that the container is given. `kind` is `c` or `b`; `access` some of `rwm`."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o660
    uid: int = 0
    gid: int = 0
    access: str = "rwm"


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the node at `target`; both absolute. `propagation` is a mount option such as rprivate."""

    source: str
    target: str
    read_only: bool = False
    propagation: str = "rprivate"


@dataclass(frozen=True, slots=True)
class Memory:
    """A file system in memory at `target`; `size_bytes` 0 takes half of the node's memory, as the kernel does."""

    target: str
    size_bytes: int = 0
    mode: int = 0o1777


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What was looked up or made for one container.

    `env` is the whole environment. `netns` is the path of its network namespace, empty for the node's own. `cgroup`
    is the group's path below each hierarchy's mount. `mounts` come in the order in which they are made.
    """

    hostname: str
    user: User
    env: Mapping[str, str]
    netns: str
    cgroup: str
    mounts: tuple[Bind | Memory, ...] = ()
    devices: tuple[Device, ...] = ()
    privileged: bool = False
    no_new_privileges: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
