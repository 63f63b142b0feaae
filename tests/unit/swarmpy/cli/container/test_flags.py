"""From what is typed to what a container is to be, and from a container to what is shown."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from swarmpy.cli.container.build import container_config
from swarmpy.cli.container.describe import container_document, container_row, ports_text, status_text
from swarmpy.cli.container.flags import RUN
from swarmpy.cli.container.keys import DEFAULT, DetachKeys, parse_keys
from swarmpy.cli.given import Given
from swarmpy.errors import SwarmError
from swarmpy.model.container import (
    Container,
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    HealthState,
    PortBinding,
    RestartKind,
    RestartRule,
)
from swarmpy.model.endpoints import Transport
from swarmpy.model.spec import Mount
from swarmpy.model.states import MountType
from swarmpy.notation.bindings import parse_binding, parse_restart
from swarmpy.notation.mounts import parse_mount, parse_tmpfs, parse_volume

HERE = Path("/here")
UDP = Transport.UDP


def config(**values: object) -> ContainerConfig:
    return container_config(Given(values, RUN), "web:1", ("run",), environ={"FROM": "env"}, here=HERE)


def test_flags_reach_the_config() -> None:
    made = config(
        env=("A=1", "FROM", "GONE"), volume=("data:/d:ro", "./x:/x"), publish=("8080:80",), memory="64m",
        cpus="0.5", restart="on-failure:3", interactive=True, entrypoint="sh -c", stop_timeout="-1", rm=False,
        health_cmd="true", health_interval="5s", label=("a=b",), tmpfs=("/t:size=1m",),
    )  # fmt: skip
    spec = made.task.container
    assert (spec.image, spec.command, spec.args) == ("web:1", ("sh", "-c"), ("run",))
    assert spec.env == ("A=1", "FROM=env")
    assert spec.stop_grace_period_s == -1.0
    assert [(m.type, m.source, m.target, m.read_only) for m in spec.mounts] == [
        (MountType.VOLUME, "data", "/d", True),
        (MountType.BIND, "/here/x", "/x", False),
        (MountType.TMPFS, "", "/t", False),
    ]
    assert spec.healthcheck is not None and spec.healthcheck.test == ("CMD-SHELL", "true")
    assert (made.task.limits.memory_bytes, made.task.limits.nano_cpus) == (64 << 20, 500_000_000)
    assert made.restart == RestartRule(RestartKind.ON_FAILURE, 3)
    assert made.ports == (PortBinding(target=80, port=8080),)
    assert (made.open_stdin, made.stdin_once) == (True, True)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"volume": ("/a:/x",), "tmpfs": ("/x",)}, "more than one mount is at /x"),
        ({"health_interval": "5s"}, "need --health-cmd"),
        ({"no_healthcheck": True, "health_cmd": "x"}, "conflicts"),
        ({"restart": "often"}, "--restart"),
        ({"memory": "much"}, "--memory"),
    ],
)
def test_what_cannot_be_is_a_usage_error(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(click.UsageError, match=sentence):
        config(**values)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80", [(80, 0, Transport.TCP, "")]),
        ("8080:80/udp", [(80, 8080, UDP, "")]),
        ("127.0.0.1::80", [(80, 0, Transport.TCP, "127.0.0.1")]),
        ("0.0.0.0:1:2", [(2, 1, Transport.TCP, "")]),
        ("8000-8001:80-81", [(80, 8000, Transport.TCP, ""), (81, 8001, Transport.TCP, "")]),
    ],
)
def test_bindings(text: str, found: list[tuple[int, int, Transport, str]]) -> None:
    assert [(b.target, b.port, b.transport, b.address) for b in parse_binding(text)] == found


@pytest.mark.parametrize(
    "text", ["", "x", "0", "70000", "1-2:3", "2-1:1-2", "a:1:2", "1:2:3:4", "80/sctp", "[::1]:1:2"]
)
def test_what_is_no_binding(text: str) -> None:
    with pytest.raises(SwarmError):
        parse_binding(text)


@pytest.mark.parametrize("text", ["maybe", "always:3", "on-failure:x", "no:1"])
def test_what_is_no_restart_rule(text: str) -> None:
    with pytest.raises(SwarmError):
        parse_restart(text)


def test_mounts() -> None:
    assert parse_volume("/anonymous", HERE) == Mount(MountType.VOLUME, "", "/anonymous")
    assert parse_volume("../up:/u:rslave", HERE).options == {"propagation": "rslave"}
    assert parse_volume("../up:/u", HERE).source == "/up"
    found = parse_mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700")
    assert (found.type, found.options) == (MountType.TMPFS, {"size": "1m", "mode": "700"})
    assert parse_mount("src=v,dst=/v,readonly,volume-nocopy").options == {"nocopy": "true"}
    assert parse_tmpfs("/t:ro").read_only
    for bad in ("a:b", ":/x", "a:/b:c:d", "a:/b:wat", "a/b:/x"):
        with pytest.raises(SwarmError, match=r"invalid volume|invalid mount"):
            parse_volume(bad, HERE)
    for bad in (
        "type=bind,target=/x",
        "target=x",
        "type=odd,target=/x",
        "type=bind,src=/a,target=/x,tmpfs-size=1",
        "a=b",
    ):
        with pytest.raises(SwarmError):
            parse_mount(bad)


def test_keys_that_leave_are_found_in_what_is_typed() -> None:
    keys = DetachKeys(parse_keys(DEFAULT))
    assert keys.feed(b"ab\x10c") == (b"ab\x10c", False)
    assert keys.feed(b"x\x10") == (b"x", False)
    assert keys.feed(b"\x11rest") == (b"", True)
    assert DetachKeys(b"").feed(b"\x10\x11") == (b"\x10\x11", False)
    for bad in ("ctrl-", "ctrl-1", "ab", "ctrl-p,"):
        with pytest.raises(SwarmError, match="unknown key"):
            parse_keys(bad)


UP, PAUSED, EXITED = ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.EXITED
STARTING, UNHEALTHY = HealthState.STARTING, HealthState.UNHEALTHY
STATES = [
    (ContainerState(), "Created"),
    (ContainerState(status=UP, started_at=95.0), "Up 5 seconds"),
    (ContainerState(status=UP, started_at=95.0, health=STARTING), "Up 5 seconds (health: starting)"),
    (ContainerState(status=UP, started_at=95.0, health=UNHEALTHY), "Up 5 seconds (unhealthy)"),
    (ContainerState(status=PAUSED, started_at=95.0), "Up 5 seconds (Paused)"),
    (ContainerState(status=ContainerStatus.RESTARTING, exit_code=1, finished_at=98.0), "Restarting (1) 2 seconds ago"),
    (ContainerState(status=EXITED, exit_code=137, finished_at=40.0), "Exited (137) About a minute ago"),
    (ContainerState(status=ContainerStatus.REMOVING), "Removal In Progress"),
]


@pytest.mark.parametrize(("state", "text"), STATES)
def test_states_in_dockers_words(state: ContainerState, text: str) -> None:
    assert status_text(state, 100.0) == text


def test_rows_and_documents() -> None:
    one = Container(
        id="a" * 25,
        name="web",
        config=config(publish=("8080:80",)),
        command=("sh", "-c", "sleep 100000000"),
        state=ContainerState(status=ContainerStatus.RUNNING, pid=9, started_at=90.0),
        ports=(PortBinding(target=80, port=8080), PortBinding(target=53, port=53, transport=UDP, address="10.0.0.1")),
    )
    row = container_row(one, 100.0)
    assert (row["ID"], row["Command"], row["Networks"]) == ("a" * 12, '"sh -c sleep 1000000…"', "bridge")
    assert row["Ports"] == ports_text(one.ports) == "0.0.0.0:8080->80/tcp, 10.0.0.1:53->53/udp"
    assert container_row(one, 100.0, no_trunc=True)["Command"] == '"sh -c sleep 100000000"'
    document = container_document(one)
    assert (document["Path"], document["Args"]) == ("sh", ["-c", "sleep 100000000"])
    assert document["NetworkSettings"]["Ports"]["53/udp"] == [{"HostIp": "10.0.0.1", "HostPort": "53"}]
    assert document["State"]["Running"] is True
