"""Pushing: blobs whole and in pieces, mounted, resumed; manifests."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.client import Registry
from swarmpy.registry.credentials import Credentials, FixedKeychain
from swarmpy.registry.manifests import OCI_LAYER, OCI_MANIFEST, Descriptor
from swarmpy.registry.reference import parse_reference
from swarmpy.registry.settings import RegistrySettings
from swarmpy.registry.transport import Patience
from swarmpy.registry.upload import Source, Upload
from tests.support.images import ImageBuilder, digest_of
from tests.support.registries import InstantClock, ScriptedRegistry, Status, Truncate

DATA = random.Random(2).randbytes(300_000)
BLOB = Descriptor(OCI_LAYER, digest_of(DATA), len(DATA))


@asynccontextmanager
async def upload(registry: ScriptedRegistry, *, piece_bytes: int = 1 << 30) -> AsyncIterator[Upload]:
    asker = Registry(
        RegistrySettings(),
        FixedKeychain({registry.host: Credentials("anna", "secret")}),
        clock=InstantClock(),
        rng=random.Random(1),
        patience=Patience(attempts=3),
    )
    async with asker:
        yield Upload(asker, parse_reference(f"{registry.host}/team/web:1"), piece_bytes=piece_bytes)


def source(data: bytes = DATA) -> Source:
    async def read(offset: int, size: int) -> AsyncIterator[bytes]:
        for start in range(offset, offset + size, 50_000):
            yield data[start : min(start + 50_000, offset + size)]

    return read


@pytest.mark.parametrize("auth", ["none", "basic", "bearer"])
async def test_a_blob_goes_up_once(auth: str) -> None:
    async with ScriptedRegistry(auth) as registry, upload(registry) as up:
        assert await up.blob(BLOB, source()) == "uploaded"
        assert registry.blobs[BLOB.digest] == DATA
        assert await up.blob(BLOB, source()) == "exists"


async def test_an_empty_blob() -> None:
    async with ScriptedRegistry() as registry, upload(registry) as up:
        blob = Descriptor(OCI_LAYER, digest_of(b""), 0)
        assert await up.blob(blob, source(b"")) == "uploaded"
        assert registry.blobs[blob.digest] == b""


async def test_a_large_blob_goes_up_in_pieces() -> None:
    async with ScriptedRegistry("bearer") as registry, upload(registry, piece_bytes=100_000) as up:
        assert await up.blob(BLOB, source()) == "uploaded"
        assert registry.blobs[BLOB.digest] == DATA
        pieces = [asked.headers["Content-Range"] for asked in registry.asked("upload") if asked.method == "PATCH"]
        assert pieces == ["0-99999", "100000-199999", "200000-299999"]


async def test_a_piece_that_was_cut_goes_on_where_the_registry_has_come() -> None:
    async with ScriptedRegistry() as registry, upload(registry, piece_bytes=200_000) as up:
        registry.after("upload", 1, Truncate(70_000))
        assert await up.blob(BLOB, source()) == "uploaded"
        assert registry.blobs[BLOB.digest] == DATA
        pieces = [asked.headers["Content-Range"] for asked in registry.asked("upload") if asked.method == "PATCH"]
        assert pieces == ["0-199999", "70000-269999", "270000-299999"]


async def test_a_session_that_is_lost_is_begun_anew() -> None:
    async with ScriptedRegistry() as registry, upload(registry) as up:
        registry.after("upload", 1, Status(500))
        assert await up.blob(BLOB, source()) == "uploaded"
        assert [asked.method for asked in registry.asked("upload")] == ["POST", "PUT", "POST", "PUT"]


async def test_a_blob_of_a_neighbour_is_mounted() -> None:
    async with ScriptedRegistry("bearer") as registry, upload(registry) as up:
        registry.mountable.add(BLOB.digest)
        assert await up.blob(BLOB, source(), mount_from="other/web") == "mounted"
        assert "from=other/web" in registry.asked("upload")[-1].query
        scopes = registry.asked("token")[-1].query
        assert "repository:other/web:pull" in scopes


async def test_a_blob_that_cannot_be_mounted_is_sent() -> None:
    async with ScriptedRegistry() as registry, upload(registry) as up:
        assert await up.blob(BLOB, source(), mount_from="other/web") == "uploaded"


async def test_a_manifest_gets_the_tag() -> None:
    built = ImageBuilder().build()
    async with ScriptedRegistry("basic") as registry, upload(registry) as up:
        assert await up.manifest(built.blobs[built.digest], OCI_MANIFEST) == built.digest
        assert registry.manifests["team/web", "1"] == (built.blobs[built.digest], OCI_MANIFEST)


async def test_content_that_is_not_its_digest_is_refused_by_the_registry() -> None:
    async with ScriptedRegistry() as registry, upload(registry) as up:
        with pytest.raises(SwarmError, match="digest does not match") as caught:
            await up.blob(BLOB, source(bytes(len(DATA))))
        assert caught.value.code is Code.FAILED_PRECONDITION


async def test_who_may_not_push_is_told() -> None:
    async with ScriptedRegistry() as registry, upload(registry) as up:
        registry.fail("upload", Status(403))
        with pytest.raises(SwarmError) as caught:
            await up.blob(BLOB, source())
        assert caught.value.code is Code.PERMISSION_DENIED
