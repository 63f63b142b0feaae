from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarmpy.model.node import Capability
from worker.resources import capability_bits, find_out


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "self").mkdir()
    (tmp_path / "sys/net/ipv4").mkdir(parents=True)
    (tmp_path / "sys/net/ipv4/ip_unprivileged_port_start").write_text("1024\n")
    return tmp_path


def test_root_can_do_what_its_capabilities_say(proc: Path) -> None:
    (proc / "self/status").write_text("Name:\tx\nCapEff:\t000001ffffffffff\n")
    machine = find_out({}, proc=proc)
    assert machine.may_switch_user
    assert set(machine.missing) == {Capability.CONTAINER, Capability.NETWORK}
    assert machine.resources.nano_cpus == len(os.sched_getaffinity(0)) * 10**9
    assert machine.resources.memory_bytes > 0


def test_what_is_missing_says_why(proc: Path) -> None:
    (proc / "self/status").write_text("CapEff:\t0000000000000000\n")
    machine = find_out({Capability.LIMIT_CPU: "no cgroups"}, proc=proc)
    assert machine.missing[Capability.LIMIT_CPU] == "no cgroups"
    assert "does not run as root" in machine.missing[Capability.SWITCH_USER]
    assert "ports below 1024 cannot be bound" in machine.missing[Capability.LOW_PORTS]
    assert Capability.PROCESS in machine.capabilities


def test_low_ports_may_be_open_to_all(proc: Path) -> None:
    (proc / "self/status").write_text("CapEff:\t0000000000000000\n")
    (proc / "sys/net/ipv4/ip_unprivileged_port_start").write_text("0\n")
    assert Capability.LOW_PORTS not in find_out({}, proc=proc).missing


def test_the_description_names_the_data_plane_only_if_there_is_one(proc: Path) -> None:
    (proc / "self/status").write_text("CapEff:\t0\n")
    machine = find_out({}, proc=proc)
    assert "data-plane" in machine.describe(labels={"rack": "1"}).capabilities
    assert machine.describe(labels={"rack": "1"}).engine_labels == {"rack": "1"}
    assert "data-plane" not in machine.describe(data_plane="not started").capabilities
    assert capability_bits("nothing") == 0


def test_containers_run_unless_something_is_missing(proc: Path) -> None:
    (proc / "self/status").write_text("CapEff:\t0\n")
    assert Capability.CONTAINER in find_out({}, containers="", proc=proc).capabilities
    assert find_out({}, containers="no runc", proc=proc).missing[Capability.CONTAINER] == "no runc"
