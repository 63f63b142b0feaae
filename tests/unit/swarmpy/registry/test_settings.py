"""The table [registry] of a node's configuration file."""

from __future__ import annotations

import subprocess
import sys

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.settings import GIB, RegistrySettings, may_be_plain, read_settings


def test_all_keys() -> None:
    table = {
        "mirrors": {"registry.example": ["https://10.0.0.5:5000/cache", "http://10.0.0.6:5000"]},
        "insecure": ["10.0.0.6:5000", "10.1.0.0/16"],
        "certificates": "/etc/certs",
        "layers_at_once": 5,
        "keep_versions": 2,
        "max_unpacked_layer": "1g",
        "max_unpacked_image": 1024,
    }
    found = read_settings(table, "node.toml [registry]")
    assert found.mirrors == {"registry.example": ("https://10.0.0.5:5000/cache", "http://10.0.0.6:5000")}
    assert found.insecure == ("10.0.0.6:5000", "10.1.0.0/16")
    assert (found.certificates, found.layers_at_once, found.keep_versions) == ("/etc/certs", 5, 2)
    assert (found.max_unpacked_layer_bytes, found.max_unpacked_image_bytes) == (GIB, 1024)


def test_nothing_is_the_defaults() -> None:
    assert read_settings({}, "x") == RegistrySettings()


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ({"mirors": {}}, "no key 'mirors'"),
        ({"layers_at_once": 0}, "layers_at_once"),
        ({"layers_at_once": True}, "layers_at_once"),
        ({"insecure": "10.0.0.5"}, "list of texts"),
        ({"insecure": ["http://10.0.0.5"]}, "neither HOST"),
        ({"insecure": ["10.0.0.5/33"]}, "neither HOST"),
        ({"mirrors": []}, "table of lists"),
        ({"mirrors": {"a": ["10.0.0.5"]}}, "not a URL"),
        ({"mirrors": {"a": ["https://me:you@10.0.0.5"]}}, "holds no password"),
        ({"mirrors": {"a": ["http://10.0.0.5"]}}, "plain HTTP"),
        ({"certificates": 3}, "path of a directory"),
        ({"max_unpacked_layer": 1.5}, "an amount"),
        ({"max_unpacked_layer": "much"}, "amount of memory"),
    ],
)
def test_what_is_wrong_is_said(table: dict[str, object], part: str) -> None:
    with pytest.raises(SwarmError) as caught:
        read_settings(table, "node.toml [registry]")
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert part in caught.value.message


@pytest.mark.parametrize(
    ("endpoint", "plain"),
    [
        ("localhost:5000", True),
        ("127.0.0.9:1", True),
        ("[::1]:5000", True),
        ("10.0.0.5:5000", True),
        ("10.0.0.5:5001", False),
        ("10.0.0.6:1", True),
        ("10.9.1.2", True),
        ("registry.example", False),
        ("localhost.example", False),
        ("127.example", False),
    ],
)
def test_plain_http_is_for_loopback_and_listed_hosts(endpoint: str, plain: bool) -> None:
    settings = RegistrySettings(insecure=("10.0.0.5:5000", "10.0.0.6", "10.9.0.0/16"))
    assert may_be_plain(settings, endpoint) is plain


def test_commands_that_do_not_talk_to_registries_do_not_load_http() -> None:
    light = "reference, platforms, settings, credentials, docker_config, manifests, challenge, failures"
    code = f"from swarmpy.registry import {light}; import sys; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
