"""TLS: whose certificates are believed."""

from __future__ import annotations

import datetime
import ipaddress
import random
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.client import Registry
from swarmpy.registry.failures import RegistryError
from swarmpy.registry.reference import parse_reference
from swarmpy.registry.settings import RegistrySettings
from swarmpy.registry.transport import Patience
from tests.support.registries import InstantClock


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1 that signs itself; return it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[str]:
    """Serve an empty registry by TLS; yield its host and port."""

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.json_response({"name": "web", "tags": ["tls"]})

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(folder, "server"))
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextmanager
def believed(folder: Path, host: str, authority: Path) -> Iterator[RegistrySettings]:
    (folder / host).mkdir()
    (folder / host / "ca.crt").write_bytes(authority.read_bytes())
    yield RegistrySettings(certificates=str(folder))


async def tags(settings: RegistrySettings, host: str) -> tuple[str, ...]:
    registry = Registry(settings, clock=InstantClock(), rng=random.Random(1), patience=Patience(attempts=1))
    async with registry:
        return await registry.tags(parse_reference(f"{host}/web"))


async def test_loopback_may_show_any_certificate(tmp_path: Path) -> None:
    async with served(tmp_path) as host:
        assert await tags(RegistrySettings(), host) == ("tls",)


async def test_an_authority_of_the_directory_is_believed(tmp_path: Path) -> None:
    async with served(tmp_path) as host:
        with believed(tmp_path, host, tmp_path / "server.pem") as settings:
            assert await tags(settings, host) == ("tls",)


async def test_another_certificate_than_the_directorys_is_not_and_plain_http_is_no_way_around(tmp_path: Path) -> None:
    async with served(tmp_path) as host:
        other, _ = certificate(tmp_path, "other")
        with believed(tmp_path, host, other) as settings, pytest.raises(RegistryError) as caught:
            await tags(settings, host)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert f"the certificate of {host} is not trusted" in caught.value.message


async def test_a_directory_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    async with served(tmp_path) as host:
        (tmp_path / "bad").write_text("no certificate")
        with (
            believed(tmp_path, host, tmp_path / "bad") as settings,
            pytest.raises(SwarmError, match="cannot use the certificates in"),
        ):
            await tags(settings, host)
