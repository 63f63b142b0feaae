"""Whatever of a node is killed, in whatever order: tasks go on, and no exit status is made up."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from scripts.cluster.processes import runs
from swarmpy.daemon import proc
from tests.support.node_process import FAKE, NodeProcess, until

pytestmark = pytest.mark.e2e

TRIO = ("taskhost", "supervisor", "worker")


@pytest.fixture
def node() -> Iterator[NodeProcess]:
    with NodeProcess() as node:
        yield node.start()


def gate(path: Path) -> str:
    """Return a script that goes on once `path` exists."""
    return f"while [ ! -e {path} ]; do sleep 0.02; done"


def orders() -> list[tuple[str, ...]]:
    return [order for count in (1, 2, 3) for order in itertools.permutations(TRIO, count)]


@pytest.mark.parametrize("order", orders(), ids="-".join)
def test_tasks_survive_kills_in_every_order(node: NodeProcess, order: tuple[str, ...]) -> None:
    go = node.directory / "go"
    sleeper = node.run_task("sleeper", "exec sleep 1000")
    family = node.run_task("family", "sleep 1000 & sleep 1000 & wait")
    node.run_task("seven", f"{gate(go)}; exit 7")
    with node.taskhost() as lines:
        before = {row["id"]: (row["pid"], row["start_time"]) for row in lines.call(op="list")["tasks"]}

    for name in order:
        node.kill(name)
    if "supervisor" in order:
        node.start()
    until(lambda: node.process("worker")["state"] == "running")
    until(lambda: set(node_tasks(node)) == set(before), what="the task host knows its tasks")

    rows = node_tasks(node)
    assert {task_id: (row["pid"], row["start_time"]) for task_id, row in rows.items()} == before
    assert all(row["state"] == "running" for row in rows.values())
    assert runs(sleeper)
    assert len(group_of(family)) == 3

    go.touch()
    seven = node.exit_of("seven")
    # Its status is known: by the supervisor that reaps it, or from the kernel. Only where neither
    # tells may it be lost, and then it must be said.
    assert seven["lost"] == (seven["status"] is None)
    assert seven["lost"] or os.waitstatus_to_exitcode(seven["status"]) == 7
    if "supervisor" not in order:
        assert not seven["lost"]

    with node.taskhost() as lines:
        assert lines.call(op="signal", id="family", signal=15) == {"ok": True, "delivered": True}
    node.exit_of("family")
    until(lambda: not group_of(family), what="the whole group is gone")


def node_tasks(node: NodeProcess) -> dict[str, dict[str, object]]:
    try:
        return node.tasks()
    except (OSError, AssertionError):
        return {}  # it is being restarted


def is_replaced(node: NodeProcess, name: str, old: int) -> bool:
    return node.process(name)["pid"] not in (None, old)


def group_of(leader: int) -> list[int]:
    stats = ((pid, proc.read_stat(pid)) for pid in proc.all_pids())
    return [pid for pid, stat in stats if stat and stat.group == leader and not stat.zombie]


def test_an_exit_while_the_task_host_is_dead_is_kept(node: NodeProcess) -> None:
    go = node.directory / "go"
    pid = node.run_task("seven", f"{gate(go)}; exit 7")
    # A stopped supervisor starts no new task host, and so the exit falls into the gap for certain.
    os.kill(node.pid("supervisor"), signal.SIGSTOP)
    node.kill("taskhost")
    go.touch()
    until(lambda: not runs(pid))
    os.kill(node.pid("supervisor"), signal.SIGCONT)

    row = node.exit_of("seven")
    assert (row["status"], row["lost"]) == (7 << 8, False)
    with node.supervisor() as client:
        assert [exit_["status"] for exit_ in client.exits([pid])] == [7 << 8]
    # The supervisor's own death does not make it forget.
    node.kill("supervisor")
    node.start()
    with node.supervisor() as client:
        assert [exit_["status"] for exit_ in client.exits([pid])] == [7 << 8]


def test_an_exit_while_both_are_dead_is_known_or_said_to_be_lost(node: NodeProcess) -> None:
    go = node.directory / "go"
    pid = node.run_task("seven", f"{gate(go)}; sleep 1000 & exit 7")
    node.kill("supervisor")
    node.kill("taskhost")
    go.touch()
    until(lambda: not runs(pid))
    node.start()

    row = node.exit_of("seven")
    # Whoever adopted it may not have reaped it yet, in which case the kernel still tells.
    assert (row["status"], row["lost"]) in ((None, True), (7 << 8, False))
    until(lambda: not group_of(pid), what="what it left in its group is gone")


def test_a_restarted_supervisor_cuts_nothing(node: NodeProcess) -> None:
    pids = {name: node.pid(name) for name in ("taskhost", "worker", "dataplane")}
    node.kill("supervisor")
    node.start()
    assert {name: node.pid(name) for name in pids} == pids
    assert all(node.process(name)["restarts"] == 0 for name in pids)
    # It watches what it adopted.
    node.kill("worker")
    until(lambda: node.process("worker")["state"] == "running" and node.pid("worker") != pids["worker"])


def test_a_child_with_other_options_is_restarted_and_the_task_host_is_not(node: NodeProcess) -> None:
    pids = {name: node.pid(name) for name in ("taskhost", "worker")}
    node.kill("supervisor")
    node.options = ("--data-addr", "127.0.0.2")
    node.start()
    until(lambda: node.process("worker")["pid"] not in (None, pids["worker"]))
    assert node.pid("taskhost") == pids["taskhost"]
    with node.supervisor() as client:
        assert client.status()["node"]["data_addr"] == "127.0.0.2"


def test_ten_restarts_in_a_row(node: NodeProcess) -> None:
    pid = node.run_task("sleeper", "exec sleep 1000")
    for _ in range(10):
        node.kill("taskhost")
        node.kill("supervisor")
        node.start()
        assert runs(pid)
    row = node.tasks()["sleeper"]
    assert (row["pid"], row["state"]) == (pid, "running")


def test_sigterm_leaves_the_tasks_and_a_new_supervisor_adopts_them(node: NodeProcess) -> None:
    pid = node.run_task("sleeper", "exec sleep 1000")
    host, worker = node.pid("taskhost"), node.pid("worker")
    assert node.daemon is not None
    node.daemon.terminate()
    assert node.daemon.wait(15) == 0
    assert runs(pid)
    assert runs(host)
    assert not runs(worker)
    node.start()
    assert node.pid("taskhost") == host


@pytest.mark.parametrize("kills", [(), ("taskhost",), ("supervisor",), ("supervisor", "taskhost")], ids=str)
def test_shutdown_with_tasks_leaves_nothing(node: NodeProcess, kills: tuple[str, ...]) -> None:
    node.run_task("sleeper", "exec sleep 1000")
    node.run_task("family", "sleep 1000 & sleep 1000 & wait")
    for name in kills:
        node.kill(name)
    if "supervisor" in kills:
        node.start()
    with node.supervisor() as client:
        client.shutdown(tasks=True)
    assert node.daemon is not None
    assert node.daemon.wait(15) == 0
    until(lambda: node.marked() == [], what="nothing is left")
    assert list((node.state / "run").glob("*.sock")) == []


def test_stop_tasks_ends_what_slipped_out_of_its_group() -> None:
    with NodeProcess("--stop-tasks") as node:
        node.start()
        node.run_task("daemon", "setsid sleep 1000 & setsid sh -c 'sleep 1000 & wait' & exit 0")
        node.exit_of("daemon")
        assert node.daemon is not None
        node.daemon.terminate()
        assert node.daemon.wait(15) == 0
        assert node.marked() == []


def test_another_boot_trusts_no_pid() -> None:
    with NodeProcess() as node:
        boot = node.directory / "boot_id"
        boot.write_text("first\n")
        node.environment["SWARMPY_BOOT_ID_FILE"] = str(boot)
        node.start()
        pid = node.run_task("sleeper", "exec sleep 1000")
        worker = node.pid("worker")
        node.kill("supervisor")
        node.kill("taskhost")
        boot.write_text("second\n")
        node.start()
        row = node.tasks()["sleeper"]
        assert (row["state"], row["status"], row["lost"]) == ("exited", None, True)
        # In truth no machine was restarted. What has these pids now is somebody else's: left alone.
        assert runs(pid)
        assert runs(worker)
        assert node.pid("worker") != worker


def test_a_child_that_refuses_its_configuration_is_not_restarted() -> None:
    with NodeProcess() as node:
        error = node.state / "run" / "worker.error"
        script = f"echo 'worker: the certificate has run out; join again' > {error}; exit 78"
        table = json.loads((node.directory / "processes.json").read_text())
        table["worker"] = ["/bin/sh", "-c", script]
        (node.directory / "processes.json").write_text(json.dumps(table))
        node.start()
        worker = until(lambda: (p := node.process("worker"))["state"] == "failed" and p)
        assert worker["restarts"] == 0
        assert worker["error"] == "worker: the certificate has run out; join again"
        assert worker["last_exit"] == "exited with status 78"


def test_a_child_that_keeps_dying_is_started_again_and_again() -> None:
    with NodeProcess(worker=["/bin/false"], dataplane=["/no/such/program"]) as node:
        node.start()
        until(lambda: node.process("worker")["restarts"] >= 3)
        assert node.process("worker")["last_exit"] == "exited with status 1"
        plane = node.process("dataplane")
        assert plane["last_exit"] == "cannot run '/no/such/program': no such file or directory"


def test_the_role_starts_and_stops_the_manager(node: NodeProcess) -> None:
    assert node.process("manager")["state"] == "stopped"
    with node.supervisor() as client:
        client.set_role(manager=True)
        until(lambda: node.process("manager")["state"] == "running")
        assert json.loads((node.state / "node.json").read_text())["manager"] is True
        client.set_role(manager=False)
        until(lambda: node.process("manager")["state"] == "stopped")


def test_restart_stops_a_child_and_starts_it_again(node: NodeProcess) -> None:
    pid = node.run_task("sleeper", "exec sleep 1000")
    for name in ("dataplane", "taskhost"):
        old = node.pid(name)
        with node.supervisor() as client:
            client.restart(name)
        until(partial(is_replaced, node, name, old))
    until(lambda: "sleeper" in node_tasks(node))
    assert runs(pid)


@pytest.mark.slow
def test_a_child_that_ignores_sigterm_is_killed_after_ten_seconds() -> None:
    with NodeProcess(worker=["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"], manager=FAKE) as node:
        node.start()
        worker, plane = node.pid("worker"), node.pid("dataplane")
        with node.supervisor() as client:
            client.shutdown(tasks=False)
        until(lambda: not runs(plane))
        assert runs(worker)
        assert node.daemon is not None
        assert node.daemon.wait(15) == 0
        assert not runs(worker)
