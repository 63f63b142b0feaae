"""The configuration document of an image."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.platforms import Platform
from worker.image.config import HealthCheck, ImageConfig
from worker.image.types import chain_ids

DIFF = "sha256:" + "1" * 64
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def decode(document: object) -> ImageConfig:
    return ImageConfig.decode(json.dumps(document).encode(), "the image web")


def test_all_of_it() -> None:
    found = decode(
        {
            "architecture": "x86_64",
            "os": "linux",
            "created": "2024-01-02T03:04:05Z",
            "config": {
                "User": "www:www",
                "Env": ["A=1", "B="],
                "Entrypoint": ["/start"],
                "Cmd": [],
                "WorkingDir": "/srv",
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "Volumes": {"/data": {}},
                "Labels": {"a": "b"},
                "StopSignal": "SIGQUIT",
                "Healthcheck": {"Test": ["CMD", "ok"], "Interval": 30_000_000_000, "Retries": 3},
                "Shell": ["/bin/sh", "-c"],
                "ArgsEscaped": True,
            },
            "rootfs": {"type": "layers", "diff_ids": [DIFF]},
            "history": [{"created_by": "RUN x", "empty_layer": True}, {}],
            "unknown": {"is": "left"},
        }
    )
    assert found.platform == Platform("linux", "amd64")
    assert (found.user, found.working_dir, found.stop_signal) == ("www:www", "/srv", "SIGQUIT")
    assert (found.env, found.entrypoint, found.cmd) == (("A=1", "B="), ("/start",), ())
    assert (found.exposed_ports, found.volumes, found.labels) == (("53/udp", "80/tcp"), ("/data",), {"a": "b"})
    assert found.healthcheck == HealthCheck(("CMD", "ok"), interval_s=30.0, retries=3)
    assert (found.shell, found.args_escaped, found.diff_ids) == (("/bin/sh", "-c"), True, (DIFF,))
    assert [row.created_by for row in found.history] == ["RUN x", ""]


def test_what_is_null_or_missing_is_not_given() -> None:
    keys = ("User", "Env", "Entrypoint", "Cmd", "ExposedPorts", "Volumes", "Labels", "Healthcheck", "Shell")
    empty = decode({"architecture": "arm64", "os": "linux", "config": dict.fromkeys(keys), "history": None})
    assert empty == decode({"architecture": "arm64", "os": "linux"})
    assert (empty.entrypoint, empty.cmd, empty.healthcheck, empty.env) == (None, None, None, ())


def test_a_command_that_is_a_text_is_for_the_shell() -> None:
    assert decode({"config": {"Cmd": "echo a"}}).cmd == ("/bin/sh", "-c", "echo a")


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ([], "cannot be read"),
        ({"config": {"Env": "A=b"}}, "cannot be read"),
        ({"rootfs": {"diff_ids": ["../../x"]}}, "no digest"),
    ],
)
def test_what_is_wrong_is_corrupt(document: object, part: str) -> None:
    with pytest.raises(SwarmError, match=part) as caught:
        decode(document)
    assert caught.value.code is Code.CORRUPT
    assert "the image web" in caught.value.message


@given(json_values | st.fixed_dictionaries({"config": json_values, "rootfs": json_values, "history": json_values}))
def test_any_document_is_read_or_corrupt(document: object) -> None:
    try:
        decode(document)
    except SwarmError as error:
        assert error.code is Code.CORRUPT


def test_the_names_of_snapshots() -> None:
    other = "sha256:" + "2" * 64
    joined = hashlib.sha256(f"{DIFF} {other}".encode()).hexdigest()
    assert chain_ids([DIFF, other]) == (DIFF, f"sha256:{joined}")
    assert chain_ids([]) == ()
