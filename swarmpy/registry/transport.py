"""HTTP to registries: connections, time-outs, redirects without credentials, and retries."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
import tenacity
from yarl import URL

from swarmpy.clock import Clock
from swarmpy.errors import Code
from swarmpy.registry.failures import RegistryError, refusal, retry_after_s
from swarmpy.registry.reply import Answer, Reply, host_of, origin, translated
from swarmpy.registry.settings import RegistrySettings, may_be_plain
from swarmpy.registry.trust import Trust

MAX_REDIRECTS: Final = 5
MAX_ERROR_BYTES: Final = 64 << 10
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
AGENT: Final = "swarmpy"
Body = bytes | Callable[[], AsyncIterator[bytes]] | None
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a registry is waited for, in seconds, and how often it is asked.

    `connect_s` for a connection, `idle_s` without a byte, `call_s` for a whole answer that is no blob. `attempts` >= 1
    requests, with pauses that double from `first_pause_s` to `longest_pause_s`, less chance.
    """

    connect_s: float = 10.0
    idle_s: float = 30.0
    call_s: float = 60.0
    attempts: int = 5
    first_pause_s: float = 0.2
    longest_pause_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `what` is asked for, in words. A body that is called is a stream, made anew for each attempt."""

    method: str
    url: str
    what: str
    headers: Mapping[str, str]
    body: Body = None


class Transport:
    """Sends requests. Holds the connections; `close` them."""

    def __init__(
        self, settings: RegistrySettings, clock: Clock, rng: random.Random, patience: Patience | None = None
    ) -> None:
        self.patience = patience or Patience()
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._trust = Trust(settings)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def retrying(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Return what `call` returns; it is called again, after a pause, while its failure says `again`."""

        async def attempt() -> Result:
            return await call()

        return await tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, RegistryError) and error.again),
            wait=lambda state: self.pause_s(state.attempt_number, state.outcome.exception() if state.outcome else None),
            stop=tenacity.stop_after_attempt(self.patience.attempts),
            sleep=self._clock.sleep,
            reraise=True,
        )(attempt)

    def pause_s(self, failures: int, error: BaseException | None) -> float:
        """Return the seconds to wait after so many failures (>= 1) in a row: what the registry asked for, if it did."""
        if isinstance(error, RegistryError) and error.retry_after_s is not None:
            return error.retry_after_s
        grown_s = self.patience.first_pause_s * 2.0 ** min(failures - 1, 30)
        return min(grown_s, self.patience.longest_pause_s) * self._rng.uniform(0.5, 1.0)

    async def pause(self, failures: int, error: BaseException | None) -> None:
        await self._clock.sleep(self.pause_s(failures, error))

    async def call(
        self, request: Request, *, limit_bytes: int = MAX_ERROR_BYTES, deadline_s: float | None = None
    ) -> Answer:
        """Return the whole answer, whatever its status. `deadline_s` beats the usual one.

        Raises:
            RegistryError: there was none, or it is longer than `limit_bytes`.
        """
        within_s = self.patience.call_s if deadline_s is None else deadline_s
        try:
            async with asyncio.timeout(within_s), self.open(request) as reply:
                return await reply.whole(limit_bytes)
        except TimeoutError as error:
            sentence = f"{host_of(request.url)} did not finish {request.what} within {within_s:g} s"
            raise RegistryError(Code.DEADLINE_EXCEEDED, sentence, again=True) from error

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Reply]:
        """Yield the answer with its body unread. Redirects of reads are followed; credentials stay at their origin."""
        host = host_of(request.url)
        with translated(host, request.what):
            response = await self._follow(request)
        reply = Reply(response, host, request.what)
        try:
            yield reply
        finally:
            reply.close()

    def refused(self, answer: Answer, request: Request, *, authenticated: bool) -> RegistryError:
        """Return the error that an answer stands for."""
        return refusal(
            answer.status,
            host=host_of(request.url),
            what=request.what,
            body=answer.body,
            authenticated=authenticated,
            wait_s=retry_after_s(answer.headers.get("retry-after", ""), self._clock.now()),
        )

    async def _follow(self, request: Request) -> aiohttp.ClientResponse:
        url, headers = request.url, dict(request.headers)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._send(request, url, headers)
            if response.status not in REDIRECTS or request.method not in ("GET", "HEAD"):
                return response
            target = urljoin(url, response.headers.get("Location", ""))
            response.release()
            self._check_redirect(request, url, target)
            if origin(target) != origin(url):
                headers.pop("Authorization", None)
            url = target
        sentence = f"{host_of(request.url)} sends us from place to place for {request.what}: {MAX_REDIRECTS} redirects"
        raise RegistryError(Code.FAILED_PRECONDITION, sentence)

    async def _send(self, request: Request, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        parts = urlsplit(url)
        if parts.scheme == "http" and not may_be_plain(self._settings, parts.netloc):
            sentence = f"{parts.netloc} would get {request.what} by plain HTTP, which is for loopback and registries"
            raise RegistryError(Code.FAILED_PRECONDITION, f"{sentence} that the node's configuration lists as insecure")
        return await self._connections().request(
            request.method,
            # The registry's own spelling is kept: signed places break when they are written anew.
            URL(url, encoded=True),
            headers=headers,
            data=request.body() if callable(request.body) else request.body,
            ssl=self._trust.context(parts.netloc) if parts.scheme == "https" else True,
            allow_redirects=False,
        )

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            patience = self.patience
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=64, limit_per_host=16),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=patience.connect_s, sock_read=patience.idle_s),
                headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=1 << 20,
            )
        return self._session

    def _check_redirect(self, request: Request, url: str, target: str) -> None:
        parts, host = urlsplit(target), host_of(request.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            sentence = f"{host} sends us to {target[:200]!r} for {request.what}, which is no place to ask"
            raise RegistryError(Code.FAILED_PRECONDITION, sentence)
        if url.startswith("https:") and parts.scheme == "http" and not may_be_plain(self._settings, parts.netloc):
            sentence = f"{host} sends us from HTTPS to plain HTTP at {parts.netloc} for {request.what}"
            raise RegistryError(Code.FAILED_PRECONDITION, sentence)
