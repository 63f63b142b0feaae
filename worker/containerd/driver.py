"""The storage driver: chosen once for a state directory, and kept to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from swarmpy.daemon.containerd import driver_record
from swarmpy.errors import precondition
from swarmpy.files import write_atomic
from worker.containerd.client import Containerd

PREFERRED: Final = ("overlayfs", "btrfs", "zfs", "native")
"""Best first. Others, such as devmapper, need preparation by a person, so they are used only when asked for."""


async def choose_driver(client: Containerd, state_dir: Path, asked: str) -> str:
    """Return the storage driver that this node uses, and note it the first time.

    Args:
        asked: the driver that has to be used, empty for what works.
    Raises:
        SwarmError: FAILED_PRECONDITION, it does not work here or the state directory was begun with another.
    """
    record = Path(driver_record(str(state_dir)))
    begun = begun_with(record)
    driver = pick(asked, begun, await client.introspection.snapshotters())
    if driver != begun:
        record.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        write_atomic(record, f"{driver}\n".encode())
    return driver


def begun_with(record: Path) -> str:
    """Return the driver in the record, empty if there is none."""
    try:
        return record.read_text().strip()
    except FileNotFoundError:
        return ""


def pick(asked: str, begun: str, known: Mapping[str, str]) -> str:
    """Return the driver to use.

    Args:
        asked: what has to be used, empty for what works.
        begun: what the state directory was begun with, empty if it is new.
        known: containerd's drivers, each with why it does not work; empty if it does.
    Raises:
        SwarmError: FAILED_PRECONDITION, see `choose_driver`.
    """
    if asked and begun and asked != begun:
        raise precondition(
            f"this node's images and containers are kept by the storage driver {begun}, and {asked} would not see "
            f"them: use {begun}, or begin with another state directory"
        )
    wanted = asked or begun
    if not wanted:
        wanted = next((driver for driver in PREFERRED if known.get(driver, "absent") == ""), "")
        if not wanted:
            reasons = "; ".join(f"{driver}: {why}" for driver, why in sorted(known.items()))
            raise precondition(f"containerd has no storage driver that works here ({reasons})")
    elif wanted not in known:
        raise precondition(f"containerd has no storage driver {wanted}, only {', '.join(sorted(known))}")
    elif known[wanted]:
        raise precondition(f"the storage driver {wanted} does not work on this node: {known[wanted]}")
    return wanted
