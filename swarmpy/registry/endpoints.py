"""Where a registry is asked: its mirrors first, then itself, by HTTPS or where that is allowed by plain HTTP."""

from __future__ import annotations

import asyncio

from swarmpy.registry.access import Endpoint
from swarmpy.registry.failures import RegistryError, UntrustedError
from swarmpy.registry.reference import endpoint_of
from swarmpy.registry.reply import host_of
from swarmpy.registry.settings import RegistrySettings, may_be_plain
from swarmpy.registry.transport import Request, Transport


class Endpoints:
    """Knows the endpoints of each registry; finds out once which scheme an insecure one speaks."""

    def __init__(self, settings: RegistrySettings, transport: Transport) -> None:
        self._settings = settings
        self._transport = transport
        self._own: dict[str, Endpoint] = {}
        self._lock = asyncio.Lock()

    def mirrors(self, domain: str) -> tuple[Endpoint, ...]:
        """Return the mirrors of a registry, in the order in which they are asked."""
        urls = self._settings.mirrors.get(domain, ())
        return tuple(Endpoint(url.rstrip("/"), host_of(url), is_mirror=True) for url in urls)

    async def own(self, domain: str) -> Endpoint:
        """Return the registry itself.

        Raises:
            RegistryError: it may speak plain HTTP, and answers neither that nor HTTPS.
        """
        host = endpoint_of(domain)
        if not may_be_plain(self._settings, host):
            return Endpoint(f"https://{host}", domain)
        async with self._lock:
            found = self._own.get(domain)
            if found is None:
                scheme = await self._transport.retrying(lambda: self._scheme(host))
                found = self._own[domain] = Endpoint(f"{scheme}://{host}", domain)
            return found

    async def _scheme(self, host: str) -> str:
        try:
            await self._ping(f"https://{host}")
        except UntrustedError:
            raise
        except RegistryError as first:
            # The failure of plain HTTP says more of a host that is down than a failed TLS handshake does.
            try:
                await self._ping(f"http://{host}")
            except RegistryError as second:
                raise second from first
            return "http"
        return "https"

    async def _ping(self, base: str) -> None:
        await self._transport.call(Request("GET", f"{base}/v2/", "an answer", {}))
