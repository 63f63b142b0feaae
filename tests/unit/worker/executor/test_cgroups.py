from __future__ import annotations

from pathlib import Path

import pytest

from swarmpy.errors import SwarmError
from swarmpy.model.node import Capability
from swarmpy.model.spec import Resources
from tests.support.clock import FakeClock
from worker.executor.cgroups import Hierarchy, Setting, hierarchies, limited, oom_kills, settings
from worker.executor.limits import Cgroups

V1 = """\
25 20 0:21 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
26 20 0:22 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
27 20 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
"""
V2 = "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
ALL = Resources(memory_bytes=64 << 20, nano_cpus=1_500_000_000, pids=20)


def test_the_hierarchy_is_chosen_for_each_controller() -> None:
    cpu, memory = Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup/memory")
    assert hierarchies(V1, lambda _: "") == {"cpu": Hierarchy(cpu, 1), "memory": Hierarchy(memory, 1)}
    top = Path("/sys/fs/cgroup")
    assert hierarchies(V2, lambda _: "cpuset cpu io memory pids") == {
        name: Hierarchy(top, 2) for name in ("cpu", "memory", "pids")
    }
    assert hierarchies(V1 + V2, lambda _: "pids") == {
        "cpu": Hierarchy(cpu, 1),
        "memory": Hierarchy(memory, 1),
        "pids": Hierarchy(top, 2),
    }
    assert hierarchies("1 2 0:3 / / rw - ext4 /dev/sda rw\n", lambda _: "") == {}


def test_limits_are_written_as_each_version_wants_them() -> None:
    first = {name: Hierarchy(Path("/x"), 1) for name in ("cpu", "memory", "pids")}
    assert settings(ALL, first) == [
        Setting("memory", "memory.limit_in_bytes", "67108864"),
        Setting("memory", "memory.memsw.limit_in_bytes", "67108864", optional=True),
        Setting("cpu", "cpu.cfs_period_us", "100000"),
        Setting("cpu", "cpu.cfs_quota_us", "150000"),
        Setting("pids", "pids.max", "20"),
    ]
    second = {name: Hierarchy(Path("/x"), 2) for name in first}
    assert settings(ALL, second) == [
        Setting("memory", "memory.max", "67108864"),
        Setting("memory", "memory.swap.max", "0", optional=True),
        Setting("cpu", "cpu.max", "150000 100000"),
        Setting("pids", "pids.max", "20"),
    ]
    assert settings(Resources(), first) == []


def test_what_limits_ask_for() -> None:
    assert limited(ALL) == (Capability.LIMIT_MEMORY, Capability.LIMIT_CPU, Capability.LIMIT_PIDS)
    assert limited(Resources(pids=1)) == (Capability.LIMIT_PIDS,)


def test_out_of_memory_kills_are_counted() -> None:
    assert oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n") == 2
    assert oom_kills("low 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n") == 1
    assert oom_kills("oom_kill_disable 0\n") == 0


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A directory that looks like a version 2 hierarchy as far as its files are concerned."""
    (tmp_path / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_a_node_without_controllers_refuses_limits_with_the_reason(top: Path) -> None:
    cgroups = Cgroups({"pids": Hierarchy(top, 2)}, "node", FakeClock())
    assert cgroups.capabilities == (Capability.LIMIT_PIDS,)
    with pytest.raises(SwarmError, match=r"cannot enforce limit-memory: no cgroup hierarchy .* memory controller"):
        cgroups.create("task", ALL)
    cgroups.create("task", Resources())
    assert not (top / "swarmpy" / "node" / "task").exists()
    assert cgroups.procs_files("task", Resources()) == ()


def test_a_hierarchy_that_cannot_be_written_is_a_missing_capability(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cgroups = Cgroups({"pids": Hierarchy(tmp_path / "file", 2)}, "node", FakeClock())
    assert "cannot make a cgroup in" in cgroups.missing[Capability.LIMIT_PIDS]


def test_a_task_joins_one_group_for_all_controllers_of_a_hierarchy(top: Path) -> None:
    at = {name: Hierarchy(top, 2) for name in ("memory", "pids")}
    cgroups = Cgroups(at, "node", FakeClock())
    limits = Resources(memory_bytes=1 << 20, pids=5)
    cgroups.create("task", limits)
    group = top / "swarmpy" / "node" / "task"
    assert cgroups.procs_files("task", limits) == (str(group / "cgroup.procs"),)
    assert (group / "memory.max").read_text() == "1048576"
    assert (group / "pids.max").read_text() == "5"
    assert cgroups.oom_limit("task") == 0
    (group / "memory.events").write_text("oom_kill 1\n")
    assert cgroups.oom_limit("task") == 1 << 20
    assert cgroups.oom_limit("unknown") == 0
