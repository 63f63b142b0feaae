"""What an operator says of registries: mirrors, which may speak plain HTTP, certificates, limits. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from swarmpy.errors import invalid
from swarmpy.units import parse_memory_bytes

GIB: Final = 1 << 30
KEYS: Final = frozenset(
    {
        "mirrors",
        "insecure",
        "certificates",
        "layers_at_once",
        "max_unpacked_layer",
        "max_unpacked_image",
        "keep_versions",
    }
)


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """All that there is to set.

    Args:
        mirrors: by registry, the URLs that are asked before it, in this order.
        insecure: hosts (`10.0.0.5:5000`, `10.0.0.5`) and networks (`10.0.0.0/8`) that may speak plain HTTP, or HTTPS
            with a certificate that nobody signed. Loopback may always.
        certificates: directory with a folder for each `host:port`: `*.crt` are its authorities, `*.cert` and `*.key`
            what we show it. Docker's layout; empty for none.
        layers_at_once: layers of one image that are fetched at the same time.
        max_unpacked_layer_bytes: what one layer may hold when it is unpacked.
        max_unpacked_image_bytes: what all layers of an image may hold.
        keep_versions: images of a repository that services pulled by digest and nobody uses any more, which are kept.
    """

    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    insecure: tuple[str, ...] = ()
    certificates: str = ""
    layers_at_once: int = 3
    max_unpacked_layer_bytes: int = 32 * GIB
    max_unpacked_image_bytes: int = 64 * GIB
    keep_versions: int = 5


def read_settings(table: Mapping[str, object], where: str) -> RegistrySettings:
    """Return what the table `[registry]` of a node's configuration file says; `where` names it in errors.

    Raises:
        SwarmError: INVALID_ARGUMENT.
    """
    if unknown := sorted(set(table) - KEYS):
        raise invalid(f"{where} has no key {unknown[0]!r}; there are {', '.join(sorted(KEYS))}")
    defaults = RegistrySettings()
    certificates = table.get("certificates", "")
    if not isinstance(certificates, str):
        raise invalid(f"{where}: certificates is the path of a directory, not {certificates!r}")
    insecure = _texts(table.get("insecure", []), f"{where}: insecure")
    for host in insecure:
        _check_host(host, f"{where}: insecure")
    settings = RegistrySettings(
        mirrors=_mirrors(table.get("mirrors", {}), where),
        insecure=insecure,
        certificates=certificates,
        layers_at_once=_count(table, "layers_at_once", defaults.layers_at_once, range(1, 65), where),
        keep_versions=_count(table, "keep_versions", defaults.keep_versions, range(1001), where),
        max_unpacked_layer_bytes=_size(table, "max_unpacked_layer", defaults.max_unpacked_layer_bytes, where),
        max_unpacked_image_bytes=_size(table, "max_unpacked_image", defaults.max_unpacked_image_bytes, where),
    )
    for url in (url for urls in settings.mirrors.values() for url in urls):
        parts = urlsplit(url)
        if parts.scheme == "http" and not may_be_plain(settings, parts.netloc):
            raise invalid(f"{where}: the mirror {url} speaks plain HTTP: list {parts.netloc} under insecure if it may")
    return settings


def may_be_plain(settings: RegistrySettings, endpoint: str) -> bool:
    """Return whether `endpoint` (`host`, `host:port`) may speak plain HTTP: loopback and listed hosts may."""
    parts = urlsplit(f"//{endpoint}")
    host = parts.hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or endpoint in settings.insecure or host in settings.insecure
    if address.is_loopback or endpoint in settings.insecure or host in settings.insecure:
        return True
    networks = (ipaddress.ip_network(entry) for entry in settings.insecure if "/" in entry)
    return any(address in network for network in networks)


def _mirrors(table: object, where: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(table, Mapping):
        raise invalid(
            f'{where}: mirrors is a table of lists, such as mirrors."registry.example" = ["https://10.0.0.5"]'
        )
    found: dict[str, tuple[str, ...]] = {}
    for domain, urls in table.items():
        place = f"{where}: mirrors of {domain}"
        found[str(domain)] = _texts(urls, place)
        for url in found[str(domain)]:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise invalid(f"{place}: {url!r} is not a URL such as https://10.0.0.5:5000")
            if parts.username is not None:
                raise invalid(f"{place}: the URL of a mirror holds no password; log in to it instead")
    return found


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise invalid(f"{where} is a list of texts, not {value!r}")
    return tuple(value)


def _check_host(host: str, where: str) -> None:
    try:
        if "/" in host:
            ipaddress.ip_network(host)
            return
        parts = urlsplit(f"//{host}")
        if parts.hostname and parts.port != 0 and not parts.path and parts.username is None:
            return
    except ValueError:
        pass
    raise invalid(f"{where}: {host!r} is neither HOST, HOST:PORT nor a network such as 10.0.0.0/8")


def _count(table: Mapping[str, object], key: str, default: int, allowed: range, where: str) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        raise invalid(f"{where}: {key} is a number from {allowed.start} to {allowed.stop - 1}, not {value!r}")
    return value


def _size(table: Mapping[str, object], key: str, default: int, where: str) -> int:
    value = table.get(key)
    if value is None:
        return default
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise invalid(f'{where}: {key} is an amount such as "32g", not {value!r}')
    return parse_memory_bytes(str(value))
