"""An HTTP answer whose body is read as it is needed, and aiohttp's errors as sentences."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.failures import RegistryError, UntrustedError, too_long


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Names of headers are in lower case; `url` is where it came from in the end."""

    status: int
    headers: Mapping[str, str]
    challenges: tuple[str, ...]
    body: bytes
    url: str


class Reply:
    """An answer with its body unread; `close` it. `host` and `what` are for sentences."""

    def __init__(self, response: aiohttp.ClientResponse, host: str, what: str) -> None:
        self._response = response
        self._host = host
        self._what = what

    @property
    def status(self) -> int:
        return self._response.status

    def header(self, name: str) -> str:
        return self._response.headers.get(name, "")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces of up to some MiB.

        Raises:
            RegistryError: it ends early, or nothing comes in time.
        """
        with translated(self._host, self._what):
            piece = await self._response.content.readany()
        while piece:
            yield piece
            with translated(self._host, self._what):
                piece = await self._response.content.readany()

    async def whole(self, limit_bytes: int) -> Answer:
        """Return the answer with its body.

        Raises:
            RegistryError: also CORRUPT, if it is longer than `limit_bytes`.
        """
        parts: list[bytes] = []
        size = 0
        async for piece in self.chunks():
            size += len(piece)
            if size > limit_bytes:
                raise too_long(self._host, self._what, limit_bytes)
            parts.append(piece)
        headers = {name.lower(): value for name, value in self._response.headers.items()}
        challenges = tuple(self._response.headers.getall("WWW-Authenticate", ()))
        return Answer(self.status, headers, challenges, b"".join(parts), str(self._response.url))

    def close(self) -> None:
        """Give the connection back if all was read, else close it."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


@contextmanager
def translated(host: str, what: str) -> Iterator[None]:
    """Turn aiohttp's errors inside the block into RegistryErrors."""
    try:
        yield
    except SwarmError:
        raise
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _failure(host, what, error) from error


def _failure(host: str, what: str, error: Exception) -> RegistryError:
    match error:
        case aiohttp.ClientConnectorDNSError():
            sentence = f"the registry {host} has no address: check its name and this machine's DNS"
            return RegistryError(Code.UNAVAILABLE, sentence, again=True)
        case aiohttp.ClientConnectorCertificateError():
            cause = error.certificate_error
            why = getattr(cause, "verify_message", "") or str(cause)
            hint = "put its authority into the directory of certificates, or list it as insecure"
            return UntrustedError(f"the certificate of {host} is not trusted ({why}): {hint}")
        case aiohttp.ClientSSLError():
            hint = "if it speaks plain HTTP, list it as insecure in the node's configuration"
            return RegistryError(Code.FAILED_PRECONDITION, f"{host} does not speak TLS as we do: {hint}")
        case aiohttp.ConnectionTimeoutError():
            sentence = f"{host} did not take our connection in time to give {what}"
            return RegistryError(Code.DEADLINE_EXCEEDED, sentence, again=True)
        case TimeoutError():
            sentence = f"{host} stopped sending {what}: nothing came in time"
            return RegistryError(Code.DEADLINE_EXCEEDED, sentence, again=True)
        case aiohttp.ClientConnectorError():
            sentence = f"cannot reach the registry {host}: {error.strerror or error}"
            return RegistryError(Code.UNAVAILABLE, sentence, again=True)
        case aiohttp.ClientPayloadError():
            return RegistryError(Code.UNAVAILABLE, f"{host} broke off {what} before its end", again=True)
        case aiohttp.ClientConnectionError() | OSError():
            return RegistryError(Code.UNAVAILABLE, f"{host} closed the connection over {what}", again=True)
        case aiohttp.ClientResponseError() | aiohttp.InvalidURL():
            return RegistryError(Code.FAILED_PRECONDITION, f"{host} does not speak HTTP as we do: it is no registry")
    return RegistryError(Code.FAILED_PRECONDITION, f"the request to {host} for {what} failed: {error}")


def host_of(url: str) -> str:
    """Return the host, with its port if it is given."""
    return urlsplit(url).netloc


def origin(url: str) -> tuple[str, str, int]:
    """Return what credentials belong to: scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
