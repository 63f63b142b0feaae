"""A node's identity on disk: its key, its certificate, the cluster's root, and where the managers are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import msgspec

from swarmpy.errors import Code, SwarmError
from swarmpy.files import write_atomic
from swarmpy.model.base import Model
from swarmpy.model.states import NodeRole
from swarmpy.security.names import NodeName

FILE: Final = "identity.msgpack"


class Identity(Model, frozen=True):
    """All that makes this node itself. One file, so that key and certificate always belong together.

    `managers` holds `host:port` of the managers' control port, the last list known. The certificate's times are
    beside it, wall seconds, so that looking at them does not take the cryptography library.
    """

    cluster_id: str
    node_id: str
    role: NodeRole
    key_pem: bytes
    cert_pem: bytes
    root_pem: bytes
    managers: tuple[str, ...] = ()
    advertise_addr: str = ""
    listen_addr: str = ""
    data_addr: str = ""
    issued_at: float = 0.0
    expires_at: float = 0.0

    @property
    def name(self) -> NodeName:
        return NodeName(self.cluster_id, self.node_id, self.role)


def identity_directory(state_dir: Path) -> Path:
    """Return the folder below the state directory that holds the identity; the worker owns it."""
    return state_dir / "worker"


def load(state_dir: Path) -> Identity | None:
    """Return this node's identity, or None if it is in no cluster.

    Raises:
        SwarmError: CORRUPT, the file cannot be read; it is left as it is.
    """
    path = identity_directory(state_dir) / FILE
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Identity)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise SwarmError(
            Code.CORRUPT,
            f"{path} is damaged ({error}): restore a copy, or run `swarmpy swarm leave --force` and join again",
        ) from error


def save(state_dir: Path, identity: Identity) -> None:
    """Write the identity, readable by this user only.

    Raises:
        SwarmError: the disk is full or refuses; the old identity stays.
    """
    directory = identity_directory(state_dir)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(directory / FILE, msgspec.msgpack.encode(identity))


def erase(state_dir: Path) -> None:
    """Forget the cluster: the identity, and what the manager stored if there was one."""
    (identity_directory(state_dir) / FILE).unlink(missing_ok=True)
    shutil.rmtree(state_dir / "manager", ignore_errors=True)
