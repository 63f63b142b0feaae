"""The runtime spec of containers, as text: see tests/testdata/oci/spec.txt. REWRITE=1 writes what came out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from swarmpy.errors import SwarmError
from swarmpy.model.spec import ContainerSpec, Resources, TaskSpec
from tests.support.oci import ImageValues
from worker.oci.command import environment
from worker.oci.facts import Abilities, Bind, Bundle, Device, Memory
from worker.oci.spec import build_spec, exec_process
from worker.oci.users import Accounts, resolve

SCENARIOS = Path(__file__).parents[3] / "testdata" / "oci" / "spec.txt"
ACCOUNTS = Accounts("root:x:0:0::/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\n", "web:x:102:\nlogs:x:7:web\n")


class Scenario:
    """The directives of one scenario, and the spec that comes of them."""

    def __init__(self) -> None:
        self.container = ContainerSpec()
        self.image = ImageValues()
        self.limits = Resources()
        self.reservations = Resources()
        self.abilities = Abilities(arch="x86_64")
        self.mounts: list[Bind | Memory] = []
        self.devices: list[Device] = []
        self.netns = "/run/netns/t1"
        self.privileged = False
        self.shown: str | None = None

    def take(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        match word:
            case "show":
                self.shown = rest
            case "container":
                self.container = msgspec.json.decode(rest, type=ContainerSpec)
            case "image":
                self.image = msgspec.json.decode(rest, type=ImageValues)
            case "limits":
                self.limits = msgspec.json.decode(rest, type=Resources)
            case "reservations":
                self.reservations = msgspec.json.decode(rest, type=Resources)
            case "abilities":
                self.abilities = Abilities(**{"arch": "x86_64", **_frozen(json.loads(rest))})
            case "bind":
                source, target, *more = rest.split()
                self.mounts.append(Bind(source, target, read_only="ro" in more))
            case "tmpfs":
                target, size = rest.split()
                self.mounts.append(Memory(target, int(size)))
            case "device":
                path, kind, major, minor = rest.split()
                self.devices.append(Device(path, kind, int(major), int(minor)))
            case "netns":
                self.netns = rest
            case "privileged":
                self.privileged = True
            case _:
                raise AssertionError(f"no such directive: {line}")

    def spec(self) -> dict[str, Any]:
        bundle = Bundle(
            hostname="abc",
            user=resolve(self.container.user or self.image.user, self.container.groups, ACCOUNTS),
            env=environment(self.image, {"SWARMPY_TASK_ID": "t1"}, [("B", "spec")]),
            netns=self.netns,
            cgroup="/swarmpy/key/t1",
            mounts=tuple(self.mounts),
            devices=tuple(self.devices),
            privileged=self.privileged,
        )
        task = TaskSpec(container=self.container, limits=self.limits, reservations=self.reservations)
        return build_spec(task, self.image, bundle, self.abilities)

    def text(self) -> str:
        try:
            shown: Any = json.loads(json.dumps(self.spec()))  # as it goes to containerd
        except SwarmError as error:
            return f"{error.code.value}: {error.message}"
        rules = shown["linux"].get("seccomp", {"syscalls": []})["syscalls"]
        for rule in rules:
            if len(rule["names"]) > 1:
                rule["names"] = f"{len(rule['names'])} calls"
        for key in self.shown.split(".") if self.shown else ():
            shown = shown[key]
        return "\n".join(_lines(shown))


def _frozen(values: dict[str, Any]) -> dict[str, Any]:
    return {key: frozenset(value) if isinstance(value, list) else value for key, value in values.items()}


def _lines(value: Any, indent: str = "") -> list[str]:
    """JSON with each innermost value on one line, so that a spec is read at a glance."""
    short = json.dumps(value)
    if len(indent) + len(short) <= 110 or not isinstance(value, dict | list):
        return [indent + short]
    if isinstance(value, list):
        return [line for item in value for line in _lines(item, indent)]
    lines = []
    for key, item in value.items():
        inner = _lines(item, indent + "  ")
        lines += [f"{indent}{key}: {inner[0].strip()}"] if len(inner) == 1 else [f"{indent}{key}:", *inner]
    return lines


def test_specs() -> None:
    written = SCENARIOS.read_text()
    blocks = []
    for block in written.strip().split("\n\n"):
        head = block.split("----")[0].strip().splitlines()
        scenario = Scenario()
        for line in head:
            if not line.startswith("#"):
                scenario.take(line)
        blocks.append("\n".join([*head, "----", scenario.text()]))
    result = "\n\n".join(blocks) + "\n"
    if os.environ.get("REWRITE") == "1":
        SCENARIOS.write_text(result)
    assert result == SCENARIOS.read_text(), "spec.txt says otherwise; look at the diff after REWRITE=1"


def test_a_command_beside_runs_as_the_container_does() -> None:
    scenario = Scenario()
    scenario.take('container {"image": "web", "user": "web", "args": ["serve"]}')
    spec = scenario.spec()
    process = exec_process(spec, ("true",), terminal=True)
    assert (process["args"], process["terminal"]) == (["true"], True)
    assert process["user"] == spec["process"]["user"]
    assert process["capabilities"] == spec["process"]["capabilities"]
    assert spec["process"]["args"] == ["serve"]
