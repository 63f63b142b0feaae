"""How channels are made: options that every caller shares, and the name that is checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio

from swarmpy.model.states import NodeRole
from swarmpy.rpc.tls import client_credentials
from swarmpy.security.names import NodeName, node_name, role_name

if TYPE_CHECKING:
    from swarmpy.security.identity import Identity  # the command line dials without one

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024

Options = tuple[tuple[str, int | str], ...]

COMMON: Final[Options] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
    # A connection of its own: one from the pool may be to a server that has just ended, or wait out its back-off.
    ("grpc.use_local_subchannel_pool", 1),
)
# A peer that vanished without a word is noticed in 10 s even on a stream on which nothing is sent.
NETWORK: Final[Options] = (
    *COMMON,
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In spite of its name the time that one connection attempt may take, handshake included: with less, a slow link
    # or a manager that a thousand workers come back to at once would see every handshake given up and begun again.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
SERVER: Final[Options] = (
    *COMMON,
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
    ("grpc.http2.max_ping_strikes", 0),
    # A write to a peer that vanished ends in 15 s, not when TCP gives up after as many minutes.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)
# Who has no certificate can only take up room: he is let go soon, and leaves the process the descriptors it needs.
HANDSHAKE_DEADLINE_MS: Final = 5_000
SPARE_DESCRIPTORS: Final = 256
FEWEST_CONNECTIONS: Final = 32


def server_options(open_files: int) -> Options:
    """Return the options of a server on the network, whose process may have so many files open."""
    most = max(FEWEST_CONNECTIONS, open_files - SPARE_DESCRIPTORS)
    return (
        *SERVER,
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_DEADLINE_MS),
        ("grpc.max_allowed_incoming_connections", most),
    )


def unix_channel(path: Path, interceptors: Sequence[grpc.aio.ClientInterceptor] = ()) -> grpc.aio.Channel:
    """Return a channel to a local socket. The authority is fixed: a path is not a valid one."""
    options = (*COMMON, ("grpc.default_authority", "localhost"))
    return grpc.aio.insecure_channel(f"unix:{path}", options=options, interceptors=interceptors)


def manager_channel(identity: Identity, address: str) -> grpc.aio.Channel:
    """Return a channel to any manager of our cluster at `address` (host:port).

    TLS checks the role name, so a host that took over the address is refused unless it is a manager of ours.
    """
    return _named_channel(identity, role_name(identity.cluster_id, NodeRole.MANAGER), address)


def peer_channel(identity: Identity, node_id: str, address: str) -> grpc.aio.Channel:
    """Return a channel to the manager on node `node_id` at `address` (host:port), and to no other."""
    return _named_channel(identity, node_name(NodeName(identity.cluster_id, node_id, NodeRole.MANAGER)), address)


def _named_channel(identity: Identity, name: str, address: str) -> grpc.aio.Channel:
    options = (*NETWORK, ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name))
    return grpc.aio.secure_channel(address, client_credentials(identity), options=options)
