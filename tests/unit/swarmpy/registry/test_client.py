"""The client against a registry that does as it is told."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.client import Registry
from swarmpy.registry.credentials import Credentials, FixedKeychain
from swarmpy.registry.manifests import Descriptor, Manifest, decode
from swarmpy.registry.reference import Reference, parse_reference
from swarmpy.registry.settings import RegistrySettings
from swarmpy.registry.transport import Patience
from tests.support.images import Built, Entry, ImageBuilder, digest_of, index
from tests.support.registries import (
    Fault,
    InstantClock,
    Lie,
    Redirect,
    ScriptedRegistry,
    Stall,
    Status,
    Truncate,
)

ANNA: Final = Credentials("anna", "secret")
DATA: Final = bytes(random.Random(1).randbytes(3 << 20))
LAYER: Final = Descriptor("application/vnd.oci.image.layer.v1.tar", digest_of(DATA), len(DATA))


def image() -> Built:
    return ImageBuilder().layer([Entry("a", b"x")]).build()


def name_of(registry: ScriptedRegistry, rest: str = "library/web:1") -> Reference:
    return parse_reference(f"{registry.host}/{rest}")


@asynccontextmanager
async def client(
    known: Mapping[str, Credentials] | None = None,
    *,
    settings: RegistrySettings | None = None,
    clock: InstantClock | None = None,
    patience: Patience | None = None,
) -> AsyncIterator[Registry]:
    registry = Registry(
        settings or RegistrySettings(),
        FixedKeychain(known),
        clock=clock or InstantClock(),
        rng=random.Random(7),
        patience=patience or Patience(attempts=3),
    )
    async with registry:
        yield registry


async def read(asker: Registry, name: Reference, blob: Descriptor = LAYER, offset: int = 0) -> bytes:
    async with aclosing(asker.blob(name, blob, offset)) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_a_name_is_resolved_without_its_manifest_being_sent() -> None:
    built = index(image())
    async with ScriptedRegistry() as registry, client() as asker:
        registry.add("library/web", "1", built)
        found = await asker.resolve(name_of(registry))
        assert (found.digest, found.media_type) == (built.digest, built.top["mediaType"])
        assert [asked.method for asked in registry.asked("manifest")] == ["HEAD"]


async def test_a_registry_that_gives_no_digest_in_its_header_is_asked_for_the_manifest() -> None:
    built = image()
    async with ScriptedRegistry() as registry, client() as asker:
        registry.add("library/web", "1", built)
        registry.fail("manifest", Status(200, {"Content-Type": "text/html"}))
        assert (await asker.resolve(name_of(registry))).digest == built.digest


async def test_manifest_configuration_and_layers() -> None:
    built = image()
    async with ScriptedRegistry() as registry, client() as asker:
        registry.add("library/web", "1", built)
        found, raw = await asker.manifest(name_of(registry))
        manifest = decode(raw, found.media_type, "it")
        assert isinstance(manifest, Manifest)
        assert digest_of(await asker.blob_bytes(name_of(registry), manifest.config)) == manifest.config.digest
        assert digest_of(await read(asker, name_of(registry), manifest.layers[0])) == built.layers[0]


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_a_login_is_made_when_it_is_asked_for_and_kept(auth: str) -> None:
    built = image()
    async with ScriptedRegistry(auth) as registry, client({registry.host: ANNA}) as asker:
        registry.add("library/web", "1", built)
        await asker.manifest(name_of(registry))
        await asker.manifest(name_of(registry))
        assert len(registry.asked("manifest")) == 3  # the first is refused
        assert len(registry.asked("token")) == (1 if auth == "bearer" else 0)


async def test_a_token_is_fetched_anew_when_it_has_expired() -> None:
    clock = InstantClock()
    async with ScriptedRegistry("bearer") as registry, client({registry.host: ANNA}, clock=clock) as asker:
        registry.add("library/web", "1", image())
        await asker.manifest(name_of(registry))
        clock.now_s += registry.expires_in_s
        await asker.manifest(name_of(registry))
        assert len(registry.asked("token")) == 2


async def test_an_identity_token_is_exchanged_for_access() -> None:
    async with ScriptedRegistry("bearer") as registry:
        registry.refresh_token = "long-lived"
        registry.add("library/web", "1", image())
        async with client({registry.host: Credentials(identity_token="long-lived")}) as asker:
            await asker.manifest(name_of(registry))
        assert [asked.method for asked in registry.asked("token")] == ["POST"]


async def test_a_public_repository_needs_no_login_where_tokens_are_given_to_anyone() -> None:
    async with ScriptedRegistry("bearer") as registry, client() as asker:
        registry.public = True
        registry.add("library/web", "1", image())
        assert (await asker.manifest(name_of(registry)))[0].digest == image().digest


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_a_wrong_password_is_refused_with_what_to_do(auth: str) -> None:
    async with ScriptedRegistry(auth) as registry, client({registry.host: Credentials("anna", "wrong")}) as asker:
        registry.add("library/web", "1", image())
        with pytest.raises(SwarmError) as caught:
            await asker.manifest(name_of(registry))
    assert caught.value.code is Code.UNAUTHENTICATED
    assert "swarmpy login" in caught.value.message
    assert "wrong" not in caught.value.message
    assert not caught.value.retryable


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_login_checks_credentials(auth: str) -> None:
    async with ScriptedRegistry(auth) as registry, client() as asker:
        assert await asker.login(registry.host, ANNA) == ANNA
        with pytest.raises(SwarmError) as caught:
            await asker.login(registry.host, Credentials("anna", "wrong"))
        assert caught.value.code is Code.UNAUTHENTICATED
        if auth == "bearer":
            registry.refresh_token = "long-lived"
            assert await asker.login(registry.host, ANNA) == Credentials("anna", identity_token="long-lived")


@pytest.mark.parametrize(
    ("status", "code", "retryable", "requests"),
    [
        (403, Code.PERMISSION_DENIED, False, 1),
        (404, Code.NOT_FOUND, False, 1),
        (418, Code.FAILED_PRECONDITION, False, 1),
        (429, Code.RESOURCE_EXHAUSTED, True, 3),
        (500, Code.UNAVAILABLE, True, 3),
        (503, Code.UNAVAILABLE, True, 3),
    ],
)
async def test_each_refusal_has_its_sentence(status: int, code: Code, retryable: bool, requests: int) -> None:
    body = b'{"errors":[{"code":"X","message":"the registry says why"}]}'
    async with ScriptedRegistry() as registry, client() as asker:
        registry.fail("manifest", Status(status, body=body), times=9)
        with pytest.raises(SwarmError) as caught:
            await asker.manifest(name_of(registry))
        assert (caught.value.code, caught.value.retryable) == (code, retryable)
        assert "the registry says why" in caught.value.message
        assert f"the manifest of {registry.host}/library/web:1" in caught.value.message
        assert len(registry.asked("manifest")) == requests


async def test_a_missing_image_is_said_to_be_missing() -> None:
    async with ScriptedRegistry() as registry, client() as asker:
        with pytest.raises(SwarmError) as caught:
            await asker.resolve(name_of(registry, "library/nope:7"))
    assert caught.value.code is Code.NOT_FOUND
    assert f"does not have the image {registry.host}/library/nope:7" in caught.value.message


async def test_what_passes_is_tried_again_after_growing_pauses() -> None:
    clock = InstantClock()
    async with ScriptedRegistry() as registry, client(clock=clock) as asker:
        registry.add("library/web", "1", image())
        registry.fail("manifest", Status(500), times=2)
        assert (await asker.manifest(name_of(registry)))[0].digest == image().digest
    assert len(clock.slept) == 2
    assert 0.1 <= clock.slept[0] <= 0.2 <= clock.slept[1] <= 0.4


async def test_a_registry_that_is_busy_is_given_the_time_it_asks_for() -> None:
    clock = InstantClock()
    async with ScriptedRegistry() as registry, client(clock=clock) as asker:
        registry.add("library/web", "1", image())
        registry.fail("manifest", Status(429, {"Retry-After": "7"}))
        await asker.manifest(name_of(registry))
    assert clock.slept == [7.0]


async def test_nobody_waits_an_hour_because_a_registry_asks_for_it() -> None:
    clock = InstantClock()
    async with ScriptedRegistry() as registry, client(clock=clock) as asker:
        registry.fail("manifest", Status(429, {"Retry-After": "3600"}), times=9)
        with pytest.raises(SwarmError, match="the next in 3600 s"):
            await asker.manifest(name_of(registry))
    assert clock.slept == []


async def test_a_manifest_that_is_not_its_digest_is_refused() -> None:
    built = image()
    async with ScriptedRegistry() as registry, client() as asker:
        registry.add("library/web", "1", built)
        registry.fail("manifest", Lie(b'{"schemaVersion":2}'), times=9)
        with pytest.raises(SwarmError) as caught:
            await asker.manifest(name_of(registry).at(built.digest))
    assert caught.value.code is Code.CORRUPT
    assert built.digest in caught.value.message


async def test_a_blob_that_is_not_its_digest_is_refused() -> None:
    async with ScriptedRegistry() as registry, client() as asker:
        registry.blobs[LAYER.digest] = DATA
        registry.fail("blob", Lie(bytes(len(DATA))))
        with pytest.raises(SwarmError) as caught:
            await read(asker, name_of(registry))
    assert caught.value.code is Code.CORRUPT
    assert "its digest is" in caught.value.message


async def test_a_blob_that_is_longer_than_was_said_is_cut_off() -> None:
    async with ScriptedRegistry() as registry, client() as asker:
        registry.blobs[LAYER.digest] = DATA
        registry.fail("blob", Lie(DATA + b"more"))
        with pytest.raises(SwarmError, match="sends more than the 3145728 bytes"):
            await read(asker, name_of(registry))


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_cut_blob_is_gone_on_with(ranges: bool) -> None:
    async with ScriptedRegistry(ranges=ranges) as registry, client() as asker:
        registry.blobs[LAYER.digest] = DATA
        registry.fail("blob", Truncate(1_100_000), times=1)
        registry.fail("blob", Truncate(1_300_000 if not ranges else 1_100_000), times=1)
        assert await read(asker, name_of(registry)) == DATA
        asked = [request.headers.get("Range") for request in registry.asked("blob")]
        assert asked[0] is None
        assert all(given is not None and given.startswith("bytes=") for given in asked[1:])
        assert len(asked) >= 3


async def test_a_blob_that_is_always_cut_is_given_up_on() -> None:
    async with ScriptedRegistry() as registry, client() as asker:
        registry.blobs[LAYER.digest] = DATA
        registry.fail("blob", Truncate(10), times=99)
        with pytest.raises(SwarmError) as caught:
            await read(asker, name_of(registry))
        assert caught.value.code is Code.UNAVAILABLE
        assert len(registry.asked("blob")) == 3


async def test_the_rest_of_a_blob() -> None:
    async with ScriptedRegistry() as registry, client() as asker:
        registry.blobs[LAYER.digest] = DATA
        assert await read(asker, name_of(registry), offset=1_000_000) == DATA[1_000_000:]
        registry.fail("blob", Status(206, {"Content-Range": "bytes 5-9/10"}, b"wrong"))
        with pytest.raises(SwarmError, match="another part"):
            await read(asker, name_of(registry), offset=1_000_000)


@pytest.mark.parametrize("kind", ["manifest", "blob"])
async def test_a_registry_that_stalls_is_not_waited_for(kind: str) -> None:
    patience = Patience(idle_s=0.05, attempts=2)
    async with ScriptedRegistry() as registry, client(patience=patience) as asker:
        registry.add("library/web", "1", image())
        registry.blobs[LAYER.digest] = DATA
        registry.fail(kind, Stall(100), times=9)
        with pytest.raises(SwarmError) as caught:
            await (read(asker, name_of(registry)) if kind == "blob" else asker.manifest(name_of(registry)))
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert "nothing came in time" in caught.value.message


async def test_redirects_are_followed_without_the_credentials() -> None:
    async with ScriptedRegistry() as store, ScriptedRegistry("basic") as registry:
        store.blobs[LAYER.digest] = registry.blobs[LAYER.digest] = DATA
        async with client({registry.host: ANNA}) as asker:
            registry.fail("blob", Status(401, {"WWW-Authenticate": "Basic"}))
            registry.fail("blob", Redirect(f"{store.url}/"))
            assert await read(asker, name_of(registry)) == DATA
        assert "Authorization" in registry.asked("blob")[1].headers
        assert "Authorization" not in store.asked("blob")[0].headers


@pytest.mark.parametrize(
    ("place", "part"),
    [("ftp://127.0.0.1/x", "no place to ask"), ("http://10.255.255.1/x", "plain HTTP"), ("", "from place to place")],
)
async def test_a_redirect_that_leads_nowhere_good(place: str, part: str) -> None:
    async with ScriptedRegistry() as registry, client() as asker:
        registry.blobs[LAYER.digest] = DATA
        fault: Fault = Redirect(place) if place else Redirect(f"{registry.url}/")
        registry.fail("blob", fault, times=99)
        with pytest.raises(SwarmError) as caught:
            await read(asker, name_of(registry))
    assert part in caught.value.message


async def test_a_mirror_is_asked_first_and_passed_over_when_it_cannot() -> None:
    built = image()
    async with ScriptedRegistry() as mirror, ScriptedRegistry() as registry:
        registry.add("library/web", "1", built)
        mirror.add("library/web", "1", built)
        registry.blobs[LAYER.digest] = DATA
        settings = RegistrySettings(mirrors={registry.host: (mirror.url,)})
        async with client(settings=settings) as asker:
            await asker.manifest(name_of(registry))
            assert registry.requests == []
            mirror.fail("manifest", Status(500), times=9)
            assert (await asker.manifest(name_of(registry)))[0].digest == built.digest
            assert await read(asker, name_of(registry)) == DATA
            assert len(mirror.asked("blob")) == 1


async def test_the_registry_itself_has_the_last_word() -> None:
    async with ScriptedRegistry() as mirror, ScriptedRegistry() as registry:
        settings = RegistrySettings(mirrors={registry.host: (mirror.url,)})
        async with client(settings=settings) as asker:
            with pytest.raises(SwarmError, match=f"^{registry.host} does not have"):
                await asker.manifest(name_of(registry))


async def test_tags() -> None:
    async with ScriptedRegistry() as registry, client() as asker:
        for tag in ("2", "1", "x"):
            registry.add("library/web", tag, image())
        assert await asker.tags(name_of(registry)) == ("1", "2", "x")


async def test_what_cannot_be_reached_says_so() -> None:
    patience = Patience(attempts=1, connect_s=2.0)
    async with client(patience=patience) as asker:
        with pytest.raises(SwarmError, match=r"cannot reach the registry 127\.0\.0\.1:1: "):
            await asker.manifest(parse_reference("127.0.0.1:1/web"))
        with pytest.raises(SwarmError, match=r"the registry registry\.invalid has no address"):
            await asker.manifest(parse_reference("registry.invalid/web"))


async def test_a_registry_that_speaks_no_tls_must_be_listed() -> None:
    async with ScriptedRegistry() as registry:
        settings = RegistrySettings(mirrors={"registry.example": (registry.url.replace("http:", "https:"),)})
        async with client(settings=settings, patience=Patience(attempts=1)) as asker:
            mirror = asker.endpoints.mirrors("registry.example")[0]
            with pytest.raises(SwarmError, match="does not speak TLS"):
                await asker.ask(mirror, "GET", "/v2/", "an answer", "x")


@pytest.mark.parametrize(
    "answer", [b"no json", b"{}", b'{"token": "a\\nb"}', b'{"token": 7}', b'{"token": "\xc3\xa9"}']
)
async def test_a_token_server_that_sends_no_token(answer: bytes) -> None:
    async with ScriptedRegistry("bearer") as registry, client() as asker:
        registry.fail("token", Status(200, body=answer), times=9)
        with pytest.raises(SwarmError) as caught:
            await asker.manifest(name_of(registry))
    assert caught.value.code is Code.CORRUPT


async def test_a_flood_of_a_manifest_is_cut_off() -> None:
    async with ScriptedRegistry() as registry, client() as asker:
        registry.add("library/web", "1", image())
        registry.fail("manifest", Lie(b" " * (5 << 20)))
        with pytest.raises(SwarmError, match="sends more than"):
            await asker.manifest(name_of(registry))
