"""A node's identity on disk: its key, its certificate, the cluster's root, and where the managers are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import msgspec

from swarmpy.addresses import Address, parse_address
from swarmpy.errors import Code, SwarmError
from swarmpy.files import write_atomic
from swarmpy.model.base import Model
from swarmpy.model.states import NodeRole
from swarmpy.security.names import NodeName

FILE: Final = "identity.msgpack"


class Identity(Model, frozen=True):
    """All that makes this node itself. One file, so that key and certificate always belong together.

    `managers` holds `host:port` of the managers' control port, the last list known. `node_addr` is the node's own
    address that the others here were made for. The certificate's times are beside it, wall seconds, so that looking at
    them does not take the cryptography library.
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
    node_addr: str = ""
    issued_at: float = 0.0
    expires_at: float = 0.0

    @property
    def name(self) -> NodeName:
        return NodeName(self.cluster_id, self.node_id, self.role)


def at_address(identity: Identity, node_addr: str) -> Identity:
    """Return the identity of a node that has the address `node_addr` now; the same object if nothing changes.

    Where its manager listens and is reached goes with the node, if that was the node's own address; what was given as
    something else stays. The certificate names the node and no address, so it stays good.
    """
    if identity.node_addr == node_addr:
        return identity
    # Whatever was stored before there was such a field: unless it was told otherwise, the manager listens there.
    former = identity.node_addr or (identity.listen_addr and _address(identity.listen_addr).host)

    def moved(text: str) -> str:
        address = _address(text) if text else None
        return str(Address(node_addr, address.port)) if address is not None and address.host == former else text

    advertise_addr = moved(identity.advertise_addr)
    return msgspec.structs.replace(
        identity,
        node_addr=node_addr,
        advertise_addr=advertise_addr,
        listen_addr=moved(identity.listen_addr),
        managers=tuple(advertise_addr if a == identity.advertise_addr else a for a in identity.managers),
    )


def _address(text: str) -> Address:
    return parse_address(text, "this node's address")


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
