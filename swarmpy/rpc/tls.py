"""Credentials of both ends from a node's identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from swarmpy.security.identity import Identity  # the command line imports this room, and has no identity


def client_credentials(identity: Identity) -> grpc.ChannelCredentials:
    """Return credentials with which this node dials others of its cluster."""
    return grpc.ssl_channel_credentials(
        root_certificates=identity.root_pem,
        private_key=identity.key_pem,
        certificate_chain=identity.cert_pem,
    )


def server_credentials(identity: Identity) -> grpc.ServerCredentials:
    """Return credentials that admit only holders of a certificate of this cluster."""
    return grpc.ssl_server_credentials(
        [(identity.key_pem, identity.cert_pem)],
        root_certificates=identity.root_pem,
        require_client_auth=True,
    )
