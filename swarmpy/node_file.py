"""`node.toml` in the state directory: what the machine's administrator says of this node.

    [containerd]
    socket = "/run/containerd/containerd.sock"   # or "off"

    [storage]
    driver = "overlayfs"                         # or btrfs, zfs, native, devmapper
    [storage.options]                            # the driver's own, as in containerd's documentation
    pool_name = "containers"

    [network]
    publish-driver = "nftables"                  # or balancer

Options on the command line win. `[registry]` is read by who needs it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from swarmpy.daemon import publishing
from swarmpy.daemon.containerd import DRIVERS
from swarmpy.errors import SwarmError, invalid

NAME: Final = "node.toml"
_SECTIONS: Final = ("containerd", "storage", "registry", "network")


@dataclass(frozen=True, slots=True)
class NodeFile:
    """What the file says; empty where it says nothing."""

    containerd_socket: str = ""
    storage_driver: str = ""
    storage_options: Mapping[str, str | int | bool] = field(default_factory=dict)
    registry: Mapping[str, object] = field(default_factory=dict)
    publish_driver: str = ""


def read_node_file(state_dir: Path) -> NodeFile:
    """Return what `node.toml` of a state directory says; a missing file says nothing.

    Raises:
        SwarmError: INVALID_ARGUMENT, it cannot be read or says what makes no sense.
    """
    path = state_dir / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return NodeFile()
    except (OSError, UnicodeDecodeError) as error:
        raise invalid(f"cannot read {path}: {error}") from error
    try:
        return parse_node_file(text)
    except SwarmError as error:
        raise invalid(f"{path}: {error.message}") from error


def parse_node_file(text: str) -> NodeFile:
    """Return what the text of a `node.toml` says.

    Raises:
        SwarmError: INVALID_ARGUMENT, with the section and key.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise invalid(f"is not TOML: {error}") from error
    for section, content in found.items():
        if section not in _SECTIONS or not isinstance(content, dict):
            raise invalid(f"[{section}] is not one of the sections {', '.join(_SECTIONS)}")
    containerd, storage = found.get("containerd", {}), found.get("storage", {})
    _refuse_unknown("containerd", containerd, ("socket",))
    _refuse_unknown("storage", storage, ("driver", "options"))
    driver = _text("storage", storage, "driver")
    if driver and driver not in DRIVERS:
        raise invalid(f"[storage] driver = {driver!r} is not one of {', '.join(DRIVERS)}")
    network = found.get("network", {})
    _refuse_unknown("network", network, ("publish-driver",))
    publish_driver = _text("network", network, "publish-driver")
    if publish_driver and publish_driver not in publishing.DRIVERS:
        raise invalid(f"[network] publish-driver = {publish_driver!r} is not one of {', '.join(publishing.DRIVERS)}")
    options = storage.get("options", {})
    if not isinstance(options, dict) or not all(isinstance(value, str | int | bool) for value in options.values()):
        raise invalid("[storage.options] has to hold texts, whole numbers and true or false only")
    if options and not driver:
        raise invalid("[storage.options] are a driver's own: say which by driver in [storage]")
    return NodeFile(
        containerd_socket=_text("containerd", containerd, "socket"),
        storage_driver=driver,
        storage_options=options,
        registry=found.get("registry", {}),
        publish_driver=publish_driver,
    )


def _refuse_unknown(section: str, content: Mapping[str, object], known: tuple[str, ...]) -> None:
    for key in content:
        if key not in known:
            raise invalid(f"[{section}] knows no key {key!r}, only {', '.join(known)}")


def _text(section: str, content: Mapping[str, object], key: str) -> str:
    value = content.get(key, "")
    if not isinstance(value, str):
        raise invalid(f"[{section}] {key} has to be a text")
    return value
