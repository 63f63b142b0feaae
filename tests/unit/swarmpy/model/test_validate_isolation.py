"""What only containers have: right ones pass, wrong ones are named, and processes are refused all of it."""

from __future__ import annotations

from typing import Any

import pytest

from swarmpy.model.spec import ContainerSpec, FileReference, Healthcheck, Mount
from swarmpy.model.states import MountType, Runtime
from swarmpy.model.validate.container import check_container

BIND, VOLUME, TMPFS = MountType.BIND, MountType.VOLUME, MountType.TMPFS


def problems(runtime: Runtime = Runtime.CONTAINER, **fields: Any) -> dict[str, str]:
    program = {"image": "web"} if runtime is Runtime.CONTAINER else {"command": ("web",)}
    container = ContainerSpec(**{**program, **fields})
    return {p.path.removeprefix("c."): p.message for p in check_container("c", container, runtime, ())}


@pytest.mark.parametrize(
    "fields",
    [
        {"hostname": "web-1.example"},
        {"hostname": "{{.Service.Name}}-{{.Task.Slot}}"},
        {"tty": True, "init": True, "read_only": True},
        {"hosts": ("db:10.0.0.5", "v6:fe80::1", "10.0.0.5 db db2"), "dns": ("10.0.0.1", "::1")},
        {"dns_search": ("example.org",), "dns_options": ("ndots:2",)},
        {"cap_add": ("ALL", "net_admin"), "cap_drop": ("CAP_KILL",)},
        {"sysctls": {"net.core.somaxconn": "1024", "kernel.shmmax": "1", "fs.mqueue.msg_max": "5"}},
        {"mounts": (Mount(source="/a", target="/b", options={"propagation": "rslave"}),)},
        {"mounts": (Mount(type=VOLUME, target="/b"), Mount(type=VOLUME, source="v.1", target="/c"))},
        {"mounts": (Mount(type=TMPFS, target="/t", options={"size": "64m", "mode": "1777"}),)},
        {"healthcheck": Healthcheck(test=("HTTP", ":8080/well"))},
    ],
)
def test_what_is_right(fields: dict[str, Any]) -> None:
    assert problems(**fields) == {}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"hostname": "a b"}, "hostname"),
        ({"hostname": "{{.Nonsense}}"}, "hostname"),
        ({"hosts": ("db",)}, "hosts[0]"),
        ({"hosts": ("db:here",)}, "hosts[0]"),
        ({"dns": ("dns.example",)}, "dns[0]"),
        ({"dns": ("1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4")}, "dns"),
        ({"dns_search": ("a b",)}, "dns_search[0]"),
        ({"dns_search": ("a" * 300,)}, "dns_search"),
        ({"cap_add": ("FLY",)}, "cap_add[0]"),
        ({"cap_drop": ("FLY",)}, "cap_drop[0]"),
        ({"sysctls": {"kernel.panic": "1"}}, "sysctls['kernel.panic']"),
        ({"sysctls": {"net.": "1"}}, "sysctls['net.']"),
        ({"mounts": (Mount(source="a", target="/b"),)}, "mounts[0].source"),
        ({"mounts": (Mount(source="/a", target="b"),)}, "mounts[0].target"),
        ({"mounts": (Mount(source="/a", target="/x/.."),)}, "mounts[0].target"),
        ({"mounts": (Mount(source="/a", target="/b"), Mount(source="/a", target="/b/"))}, "mounts[1].target"),
        ({"mounts": (Mount(source="/a", target="/b", options={"size": "1"}),)}, "mounts[0].options['size']"),
        (
            {"mounts": (Mount(source="/a", target="/b", options={"propagation": "x"}),)},
            "mounts[0].options['propagation']",
        ),
        ({"mounts": (Mount(type=VOLUME, source="../v", target="/b"),)}, "mounts[0].source"),
        ({"mounts": (Mount(type=VOLUME, target="/b", options={"nocopy": "x"}),)}, "mounts[0].options['nocopy']"),
        ({"mounts": (Mount(type=TMPFS, source="/a", target="/b"),)}, "mounts[0].source"),
        ({"mounts": (Mount(type=TMPFS, target="/b", read_only=True),)}, "mounts[0].read_only"),
        ({"mounts": (Mount(type=TMPFS, target="/b", options={"mode": "9"}),)}, "mounts[0].options['mode']"),
        ({"mounts": (Mount(type=TMPFS, target="/b", options={"size": "big"}),)}, "mounts[0].options['size']"),
        ({"mounts": (Mount(type=TMPFS, target="/b", options={"size": "0"}),)}, "mounts[0].options['size']"),
        ({"secrets": (FileReference(source="s"),)}, "secrets"),
        ({"configs": (FileReference(source="s"),)}, "configs"),
        ({"healthcheck": Healthcheck(test=("TCP", ":70000"))}, "healthcheck.test"),
    ],
)
def test_what_is_wrong(fields: dict[str, Any], path: str) -> None:
    assert list(problems(**fields)) == [path]


@pytest.mark.parametrize(
    "fields",
    [{"hostname": "a"}, {"tty": True}, {"mounts": (Mount(source="/a", target="/b"),)}, {"cap_add": ("KILL",)}],
)
def test_a_process_has_none_of_it(fields: dict[str, Any]) -> None:
    [(path, sentence)] = problems(Runtime.PROCESS, **fields).items()
    assert path in fields
    assert "not supported yet: leave it out" in sentence
