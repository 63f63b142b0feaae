"""Whose certificates are believed: the machine's authorities, those of Docker's certs.d, anyone's of insecure hosts."""

from __future__ import annotations

import ssl
from pathlib import Path

from swarmpy.errors import precondition
from swarmpy.registry.settings import RegistrySettings, may_be_plain


class Trust:
    """TLS contexts by host, each made once."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._contexts: dict[str, ssl.SSLContext] = {}

    def context(self, endpoint: str) -> ssl.SSLContext:
        """Return the context for `host:port`.

        Raises:
            SwarmError: FAILED_PRECONDITION, a certificate of the directory cannot be used.
        """
        found = self._contexts.get(endpoint)
        if found is None:
            found = self._contexts[endpoint] = self._make(endpoint)
        return found

    def _make(self, endpoint: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if may_be_plain(self._settings, endpoint):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if not self._settings.certificates:
            return context
        folder = Path(self._settings.certificates) / endpoint
        try:
            for authority in sorted(folder.glob("*.crt")):
                context.load_verify_locations(authority)
                context.check_hostname, context.verify_mode = True, ssl.CERT_REQUIRED
            for certificate in sorted(folder.glob("*.cert")):
                context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        except (OSError, ssl.SSLError) as error:
            raise precondition(f"cannot use the certificates in {folder}: {error}") from error
        return context
