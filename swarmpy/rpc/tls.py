"""Credentials of both ends from a node's identity."""

from __future__ import annotations

from collections.abc import Callable
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


def live_server_credentials(current: Callable[[], Identity]) -> grpc.ServerCredentials:
    """Return the same for a server that outlives its certificate: `current` is asked at every handshake."""
    shown = current()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        identity = current()
        if identity is shown:
            return None
        shown = identity
        return _certificate(identity)

    return grpc.dynamic_ssl_server_credentials(
        _certificate(shown),
        renewed,  # type: ignore[arg-type]  # None, "as before", is missing in the stubs
        require_client_authentication=True,
    )


def _certificate(identity: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key_pem, identity.cert_pem)], root_certificates=identity.root_pem
    )
