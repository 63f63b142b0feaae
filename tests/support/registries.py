"""A registry that does as a test tells it: answers well, or refuses, stalls, truncates, lies, redirects.

async with ScriptedRegistry() as registry:
    registry.add("library/web", "1", busybox_image())
    registry.fail("blob", Status(500), times=2)
    ... Registry(...).manifest(parse_reference(f"{registry.host}/library/web:1"))
    registry.asked("blob")     # what came, in order
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from aiohttp import web

from tests.support.images import Built, digest_of

ROUTE: Final = re.compile(r"/v2/(?P<path>.+)/(?P<kind>manifests|blobs/uploads|blobs|tags)/?(?P<rest>.*)")
KINDS: Final = {"manifests": "manifest", "blobs": "blob", "blobs/uploads": "upload", "tags": "tags"}


class InstantClock:
    """A clock whose sleeps are over at once, and are noted."""

    def __init__(self, start_s: float = 1000.0) -> None:
        self.now_s = start_s
        self.slept: list[float] = []

    def now(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        self.now_s += delay_s
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Status:
    """Answer with a status."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Truncate:
    """Promise the whole, send so many bytes of what was asked for, and close the connection."""

    after_bytes: int


@dataclass(frozen=True)
class Stall:
    """Send so many bytes, then nothing until the test ends."""

    after_bytes: int = 0


@dataclass(frozen=True)
class Lie:
    """Send other bytes than those of the digest."""

    data: bytes


@dataclass(frozen=True)
class Redirect:
    """Send the client elsewhere: `url` with the path of the request behind it if it ends with a slash."""

    url: str
    status: int = 307


Fault = Status | Truncate | Stall | Lie | Redirect


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    kind: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]


class ScriptedRegistry:
    """One registry on a free loopback port. `auth`: `none`, `basic`, or `bearer` with a token server of its own."""

    def __init__(self, auth: str = "none", user: tuple[str, str] = ("anna", "secret"), *, ranges: bool = True) -> None:
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[Asked] = []
        self.public = False
        self.mountable: set[str] = set()
        self.refresh_token = ""
        self.expires_in_s = 300
        self.host = ""
        self._auth = auth
        self._user = user
        self._ranges = ranges
        self._faults: list[tuple[str, Fault, list[int]]] = []
        self._uploads: dict[str, bytearray] = {}
        self._tokens: dict[str, tuple[str, ...]] = {}
        self._numbers = itertools.count(1)
        self._over = asyncio.Event()
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=1.0)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.host = f"127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def add(self, path: str, tag: str, image: Built) -> None:
        """Store an image, and each manifest of an index, under the tag and under their digests."""
        kinds = {image.digest: str(image.top["mediaType"])}
        for data in image.blobs.values():
            if data[:1] == b"{":
                kinds |= {row["digest"]: row["mediaType"] for row in json.loads(data).get("manifests", ())}
        for digest, data in image.blobs.items():
            self.blobs[digest] = data
            if digest in kinds:
                self.manifests[path, digest] = (data, kinds[digest])
        self.manifests[path, tag] = (image.blobs[image.digest], kinds[image.digest])

    def fail(self, kind: str, fault: Fault, *, times: int = 1) -> None:
        """Have the next `times` requests of a kind (`ping`, `manifest`, `blob`, `upload`, `tags`, `token`) go wrong."""
        self._faults.append((kind, fault, [0, times]))

    def after(self, kind: str, good: int, fault: Fault) -> None:
        """Have one request of a kind go wrong after `good` more of them."""
        self._faults.append((kind, fault, [good, 1]))

    def asked(self, kind: str) -> list[Asked]:
        return [request for request in self.requests if request.kind == kind]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        match = ROUTE.fullmatch(request.path)
        kind = KINDS[match["kind"]] if match else {"/v2/": "ping", "/token": "token"}.get(request.path, "")
        self.requests.append(
            Asked(kind, request.method, request.path, request.query_string, dict(request.headers.items()))
        )
        fault = self._fault(kind)
        if isinstance(fault, Status):
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        if isinstance(fault, Redirect):
            place = fault.url + (request.path_qs.lstrip("/") if fault.url.endswith("/") else "")
            return web.Response(status=fault.status, headers={"Location": place})
        if kind == "token":
            return await self._token(request)
        if (refused := self._refused(request, kind, match["path"] if match else "")) is not None:
            return refused
        if kind == "ping":
            return web.json_response({})
        if match is None:
            return web.Response(status=404)
        match kind:
            case "manifest":
                return await self._manifest(request, match["path"], match["rest"], fault)
            case "blob":
                return await self._blob(request, match["rest"], fault)
            case "tags":
                tags = sorted(tag for path, tag in self.manifests if path == match["path"] and ":" not in tag)
                return web.json_response({"name": match["path"], "tags": tags})
        return await self._upload(request, match["path"], match["rest"], fault)

    def _fault(self, kind: str) -> Fault | None:
        for known, fault, left in self._faults:
            if known != kind or left[1] == 0:
                continue
            if left[0]:
                left[0] -= 1
                return None
            left[1] -= 1
            return fault
        return None

    def _refused(self, request: web.BaseRequest, kind: str, path: str) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        if self._auth == "none" or (self.public and kind != "ping" and self._auth == "basic"):
            return None
        if self._auth == "basic":
            wanted = "Basic " + base64.b64encode(":".join(self._user).encode()).decode()
            challenge = 'Basic realm="tests"'
            good = given == wanted
        else:
            scope = f"repository:{path}:" + ("pull" if request.method in ("GET", "HEAD") else "pull,push")
            challenge = f'Bearer realm="{self.url}/token",service="tests"' + (f',scope="{scope}"' if path else "")
            scopes = self._tokens.get(given.removeprefix("Bearer "))
            wanted_actions = set(scope.rpartition(":")[2].split(","))
            good = scopes is not None and (not path or any(_grants(s, path, wanted_actions) for s in scopes))
        if good:
            return None
        body = json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}).encode()
        return web.Response(status=401, headers={"WWW-Authenticate": challenge}, body=body)

    async def _token(self, request: web.BaseRequest) -> web.Response:
        basic = "Basic " + base64.b64encode(":".join(self._user).encode()).decode()
        if request.method == "POST":
            form = await request.post()
            scopes = str(form.get("scope", "")).split()
            good = bool(self.refresh_token) and form.get("refresh_token") == self.refresh_token
        else:
            scopes = list(request.query.getall("scope", []))
            given = request.headers.get("Authorization", "")
            good = given == basic or (self.public and not given)
        if not good:
            return web.json_response({"details": "no"}, status=401)
        token = f"token-{next(self._numbers)}"
        self._tokens[token] = tuple(scopes)
        answer: dict[str, object] = {"token": token, "expires_in": self.expires_in_s}
        if request.query.get("offline_token") and self.refresh_token:
            answer["refresh_token"] = self.refresh_token
        return web.json_response(answer)

    async def _manifest(
        self, request: web.BaseRequest, path: str, name: str, fault: Fault | None
    ) -> web.StreamResponse:
        if request.method == "PUT":
            raw = await request.read()
            digest = digest_of(raw)
            kind = request.headers.get("Content-Type", "")
            self.manifests[path, name] = self.manifests[path, digest] = (raw, kind)
            return web.Response(status=201, headers={"Docker-Content-Digest": digest})
        found = self.manifests.get((path, name))
        if found is None:
            body = json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}).encode()
            return web.Response(status=404, body=body)
        raw, kind = found
        headers = {"Docker-Content-Digest": digest_of(raw), "Content-Type": kind}
        return await self._send(request, raw, headers, fault)

    async def _blob(self, request: web.BaseRequest, digest: str, fault: Fault | None) -> web.StreamResponse:
        data = self.blobs.get(digest)
        if data is None:
            return web.Response(status=404)
        begin = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if begin and self._ranges:
            offset = int(begin[1])
            headers = {"Content-Range": f"bytes {offset}-{len(data) - 1}/{len(data)}"}
            return await self._send(request, data[offset:], headers, fault, 206)
        return await self._send(request, data, {"Docker-Content-Digest": digest}, fault)

    async def _upload(self, request: web.BaseRequest, path: str, name: str, fault: Fault | None) -> web.StreamResponse:
        if request.method == "POST":
            mount = request.query.get("mount", "")
            if mount in self.mountable:
                return web.Response(status=201, headers={"Docker-Content-Digest": mount})
            name = f"session-{next(self._numbers)}"
            self._uploads[name] = bytearray()
            return web.Response(status=202, headers={"Location": f"/v2/{path}/blobs/uploads/{name}?state=x"})
        held = self._uploads.get(name)
        if held is None:
            return web.Response(status=404)
        where = {"Location": f"/v2/{path}/blobs/uploads/{name}?state=x", "Range": f"0-{max(0, len(held) - 1)}"}
        if request.method == "GET":
            return web.Response(status=204, headers=where)
        if isinstance(fault, Truncate):
            held += await request.content.readexactly(fault.after_bytes)
            assert request.transport is not None, "it is served"
            request.transport.abort()
            return web.Response(status=500)
        held += await request.read()
        if request.method == "PATCH":
            return web.Response(status=202, headers={**where, "Range": f"0-{len(held) - 1}"})
        digest = request.query["digest"]
        if digest_of(bytes(held)) != digest:
            body = json.dumps({"errors": [{"code": "DIGEST_INVALID", "message": "digest does not match"}]}).encode()
            return web.Response(status=400, body=body)
        self.blobs[digest] = bytes(held)
        return web.Response(status=201)

    async def _send(
        self, request: web.BaseRequest, data: bytes, headers: Mapping[str, str], fault: Fault | None, status: int = 200
    ) -> web.StreamResponse:
        if isinstance(fault, Lie):
            data = fault.data
        answer = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(data))})
        await answer.prepare(request)
        if request.method == "HEAD":
            return answer
        if isinstance(fault, Truncate | Stall):
            await answer.write(data[: fault.after_bytes])
            if isinstance(fault, Stall):
                await self._over.wait()
            if request.transport is not None:  # the client may have left
                request.transport.abort()
            return answer
        await answer.write(data)
        await answer.write_eof()
        return answer


def _grants(scope: str, path: str, actions: set[str]) -> bool:
    kind, _, rest = scope.partition(":")
    name, _, granted = rest.rpartition(":")
    return kind == "repository" and name == path and actions <= set(granted.split(","))
