"""Finds out what this node's kernel and programs can do for containers."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

from swarmpy.errors import precondition
from worker.oci.capabilities import of_bits
from worker.oci.facts import Abilities

# Static ones first: a linked one needs the image to have its library.
_INITS: Final = ("docker-init", "tini-static", "tini")
_PACKAGE: Final = "tini"


def find_abilities(arch: str, *, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> Abilities:
    """Ask the machine.

    Args:
        arch: as in `uname -m`, `arm64` for aarch64.
    """
    status = (proc / "self/status").read_text()
    bounding = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    unified = (cgroup / "cgroup.controllers").exists()
    return Abilities(
        arch=arch,
        unified=unified,
        seccomp=re.search(r"^Seccomp:", status, re.MULTILINE) is not None,
        swap_limit=_limits_swap(cgroup, unified=unified),
        capabilities=of_bits(int(bounding[1], 16)) if bounding else frozenset(),
        init=next((path for name in _INITS if (path := shutil.which(name))), ""),
    )


def _limits_swap(cgroup: Path, *, unified: bool) -> bool:
    if unified:
        return any(cgroup.glob("*/memory.swap.max"))
    return (cgroup / "memory" / "memory.memsw.limit_in_bytes").exists()


def init_program(abilities: Abilities) -> str:
    """Return the path of the init process.

    Raises:
        SwarmError: FAILED_PRECONDITION, none is installed.
    """
    if not abilities.init:
        raise precondition(
            f"--init needs a minimal init process and this node has none: install the package {_PACKAGE}"
            f" (looked for {', '.join(_INITS)})"
        )
    return abilities.init
