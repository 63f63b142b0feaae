"""What swarmpyd has found: which containerd this node uses, or why none."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmpy.daemon.containerd import RECORD

NOT_SAID: Final = "swarmpyd has not said which containerd this node uses; restart it"


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where containerd listens. `missing` says why there is none, empty if there is; `socket` is None then.

    `private`: it is this node's own, and `root` the directory in which it keeps images and containers.
    `driver` is the storage driver that was asked for, empty for what works.
    """

    socket: Path | None
    private: bool
    missing: str
    driver: str
    root: Path | None


def read_runtime(state_dir: Path) -> Runtime:
    """Return what swarmpyd has found for the node in `state_dir`."""
    try:
        record = json.loads((state_dir / "run" / RECORD).read_text())
        socket, private = str(record["socket"]), record["private"] is True
        missing, driver = str(record["missing"]), str(record["driver"])
    except (OSError, ValueError, KeyError, TypeError):
        return Runtime(None, False, NOT_SAID, "", None)
    if missing or not socket:
        return Runtime(None, False, missing or NOT_SAID, driver, None)
    root = state_dir / "containerd" / "root" if private else None
    return Runtime(Path(socket), private, "", driver, root)


def namespace_of(state_dir: Path) -> str:
    """Return the node's namespace in containerd: like its control groups, no other node's on the machine."""
    return f"swarmpy-{hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:12]}"
