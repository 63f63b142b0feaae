"""A client of registries: resolve names, read manifests, blobs and tags, log in. Importing it loads aiohttp."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import msgspec
import structlog

from swarmpy.clock import Clock, SystemClock
from swarmpy.errors import Code, SwarmError
from swarmpy.registry.access import Access, Endpoint, Grant
from swarmpy.registry.blobs import read_blob
from swarmpy.registry.challenge import scope
from swarmpy.registry.credentials import Credentials, FixedKeychain, Keychain
from swarmpy.registry.endpoints import Endpoints
from swarmpy.registry.failures import RegistryError, lying
from swarmpy.registry.manifests import ACCEPT, MAX_MANIFEST_BYTES, Descriptor, digest_of, media_type_of
from swarmpy.registry.reference import Reference, is_digest
from swarmpy.registry.reply import Answer, Reply, host_of, origin
from swarmpy.registry.settings import RegistrySettings
from swarmpy.registry.transport import MAX_ERROR_BYTES, Body, Patience, Request, Transport

log = structlog.get_logger(__name__)

Result = TypeVar("Result")
MAX_TAG_PAGES: Final = 1000
GOOD: Final = frozenset({200})


class Registry:
    """Asks registries. One object serves any number of them, and any number of tasks at a time; `close` it.

    Calls raise RegistryError (a SwarmError). Failures that may pass are tried again, a bounded number of times, before.
    """

    def __init__(
        self,
        settings: RegistrySettings | None = None,
        keychain: Keychain | None = None,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        patience: Patience | None = None,
    ) -> None:
        clock, settings = clock or SystemClock(), settings or RegistrySettings()
        self.transport = Transport(settings, clock, rng or random.Random(), patience)
        self.endpoints = Endpoints(settings, self.transport)
        self._access = Access(self.transport, keychain or FixedKeychain(), clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self.transport.close()

    async def login(self, domain: str, credentials: Credentials) -> Credentials:
        """Check credentials with a registry; return what to keep: an identity token, if the registry gives them."""
        endpoint = await self.endpoints.own(domain)

        async def attempt() -> Credentials:
            request = Request("GET", f"{endpoint.base}/v2/", "a login", {})
            answer = await self.transport.call(request)
            if answer.status == 401:
                grant = await self._access.login(endpoint, credentials, answer)
                if grant is not None:
                    headers = {"Authorization": grant.header}
                    request = Request("GET", request.url, request.what, headers)
                    answer = await self.transport.call(request)
                    if answer.status == 200 and grant.identity_token:
                        return Credentials(credentials.username, identity_token=grant.identity_token)
            if answer.status != 200:
                raise self.transport.refused(answer, request, authenticated=True)
            return credentials

        return await self.transport.retrying(attempt)

    async def resolve(self, name: Reference) -> Descriptor:
        """Return what a name stands for now, index or manifest; its `size` is 0 if the registry does not say it."""
        what = f"the image {name.familiar()}"

        async def ask(endpoint: Endpoint) -> Descriptor:
            answer = await self.ask(endpoint, "HEAD", _manifest_path(name), what, name.path, headers={"Accept": ACCEPT})
            digest = answer.headers.get("docker-content-digest", "")
            kind = answer.headers.get("content-type", "").partition(";")[0].strip()
            size = answer.headers.get("content-length", "0")
            if is_digest(digest) and kind and name.digest in ("", digest):
                return Descriptor(kind, digest, int(size) if size.isdigit() else 0)
            found, _ = await self._read_manifest(endpoint, name, what)
            return found

        return await self._somewhere(name.domain, ask)

    async def manifest(self, name: Reference) -> tuple[Descriptor, bytes]:
        """Return a name's manifest or index, verified against the digest if the name has one."""
        what = f"the manifest of {name.familiar()}"
        return await self._somewhere(name.domain, lambda endpoint: self._read_manifest(endpoint, name, what))

    def blob(
        self, name: Reference, wanted: Descriptor, offset: int = 0, *, verify: bool = True
    ) -> AsyncGenerator[bytes, None]:
        """Yield a blob of the repository from `offset` on, in pieces; cuts are mended by asking for the rest.

        The content is verified against its digest at the end if `offset` is 0 and `verify` is not off. Who may leave
        the loop early closes the generator (`contextlib.aclosing`).
        """
        return read_blob(self, name, wanted, offset, verify=verify)

    async def blob_bytes(self, name: Reference, wanted: Descriptor, limit_bytes: int = MAX_MANIFEST_BYTES) -> bytes:
        """Return a small blob, such as an image's configuration, verified."""
        if wanted.size > limit_bytes:
            sentence = f"{wanted.digest} of {name.familiar()} has {wanted.size} bytes, more than {limit_bytes}"
            raise RegistryError(Code.RESOURCE_EXHAUSTED, sentence)
        async with aclosing(self.blob(name, wanted)) as pieces:
            return b"".join([piece async for piece in pieces])

    async def tags(self, name: Reference) -> tuple[str, ...]:
        """Return the tags of a repository, sorted."""
        endpoint = await self.endpoints.own(name.domain)
        path: str = f"/v2/{name.path}/tags/list?n=1000"
        found: set[str] = set()
        for _ in range(MAX_TAG_PAGES):
            answer = await self.ask(
                endpoint, "GET", path, f"the tags of {name.familiar()}", name.path, limit_bytes=MAX_MANIFEST_BYTES
            )
            try:
                found |= set(msgspec.json.decode(answer.body, type=_Tags).tags or ())
            except msgspec.MsgspecError as error:
                sentence = f"{host_of(endpoint.base)} did not answer with a list of tags"
                raise RegistryError(Code.CORRUPT, sentence) from error
            link = answer.headers.get("link", "")
            if 'rel="next"' not in link or not link.startswith("<"):
                break
            following = urljoin(answer.url, link[1:].partition(">")[0])
            if origin(following) != origin(endpoint.base):
                raise RegistryError(Code.CORRUPT, f"{host_of(endpoint.base)} continues its list of tags elsewhere")
            parts = urlsplit(following)
            path = f"{parts.path}?{parts.query}".removeprefix(urlsplit(endpoint.base).path)
        return tuple(sorted(found))

    async def ask(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        what: str,
        repository: str,
        *,
        actions: str = "pull",
        more_scopes: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        good: frozenset[int] = GOOD,
        limit_bytes: int = MAX_ERROR_BYTES,
        deadline_s: float | None = None,
        once: bool = False,
    ) -> Answer:
        """Return the whole answer of an endpoint, whose status is one of `good`; logs in as needed.

        Tried again while it may help, unless `once`. `deadline_s` is that of one answer.
        """
        scopes = (scope(repository, actions), *more_scopes)

        async def attempt() -> Answer:
            grant = await self._access.known(endpoint, scopes)
            for _ in range(2):
                request = self.request(endpoint, method, path, what, grant, headers, body)
                answer = await self.transport.call(request, limit_bytes=limit_bytes, deadline_s=deadline_s)
                if (
                    answer.status != 401
                    or (fresh := await self._access.answer(endpoint, scopes, answer, grant)) is None
                ):
                    break
                grant = fresh
            if answer.status not in good:
                raise self.transport.refused(answer, request, authenticated=bool(grant and grant.authenticated))
            return answer

        return await (attempt() if once else self.transport.retrying(attempt))

    @asynccontextmanager
    async def stream(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        what: str,
        repository: str,
        *,
        actions: str = "pull",
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        good: frozenset[int] = GOOD,
    ) -> AsyncIterator[Reply]:
        """Yield an answer with its body unread, after one attempt (two, if a login is asked for)."""
        scopes = (scope(repository, actions),)
        grant = await self._access.known(endpoint, scopes)
        for final in (False, True):
            request = self.request(endpoint, method, path, what, grant, headers, body)
            async with self.transport.open(request) as reply:
                if reply.status in good:
                    yield reply
                    return
                answer = await reply.whole(MAX_ERROR_BYTES)
            fresh = None
            if answer.status == 401 and not final:
                fresh = await self._access.answer(endpoint, scopes, answer, grant)
            if fresh is None:
                raise self.transport.refused(answer, request, authenticated=bool(grant and grant.authenticated))
            grant = fresh

    def request(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        what: str,
        grant: Grant | None,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
    ) -> Request:
        """Return a request below an endpoint, or of a whole URL; credentials go to the endpoint's own origin only."""
        url = path if "://" in path else endpoint.base + path
        sent = dict(headers or {})
        if grant is not None and origin(url) == origin(endpoint.base):
            sent["Authorization"] = grant.header
        return Request(method, url, what, sent, body)

    async def _read_manifest(self, endpoint: Endpoint, name: Reference, what: str) -> tuple[Descriptor, bytes]:
        answer = await self.ask(
            endpoint,
            "GET",
            _manifest_path(name),
            what,
            name.path,
            headers={"Accept": ACCEPT},
            limit_bytes=MAX_MANIFEST_BYTES,
        )
        raw, host = answer.body, host_of(endpoint.base)
        said = answer.headers.get("docker-content-digest", "")
        wanted = name.digest or (said if is_digest(said) else "")
        digest = digest_of(raw, wanted.partition(":")[0] or "sha256")
        if wanted not in ("", digest):
            raise lying(host, what, wanted, digest)
        kind = media_type_of(raw, answer.headers.get("content-type", ""), what)
        return Descriptor(kind, digest, len(raw)), raw

    async def _somewhere(self, domain: str, ask: Callable[[Endpoint], Awaitable[Result]]) -> Result:
        """Return the first answer of a mirror, else that of the registry itself."""
        for endpoint in self.endpoints.mirrors(domain):
            try:
                return await ask(endpoint)
            except SwarmError as error:
                # The registry itself has the last word, and its error is the one to show.
                log.info("mirror_passed_over", mirror=endpoint.base, reason=error.message)
        return await ask(await self.endpoints.own(domain))


class _Tags(msgspec.Struct, frozen=True):
    tags: tuple[str, ...] | None = None


def _manifest_path(name: Reference) -> str:
    return f"/v2/{name.path}/manifests/{quote(name.identifier, safe=':')}"
