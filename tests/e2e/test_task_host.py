"""What the task host promises of one task: how it starts, what it inherits, how it ends."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.cluster.processes import runs
from swarmpy.daemon import proc
from swarmpy.errors import Code, SwarmError
from tests.support.node_process import MARK, NodeProcess, until
from worker.taskhost.client import ExecRequest, StartRequest, TaskExit, TaskHostClient, socket_path

pytestmark = pytest.mark.e2e

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def node() -> Iterator[NodeProcess]:
    with NodeProcess() as node:
        yield node.start()


def output_of(node: NodeProcess, script: str, **fields: object) -> str:
    """Return what a task writes to its standard output."""
    path = node.directory / "out"
    path.touch()
    path.chmod(0o666)
    node.run_task("writer", script, stdout=str(path), **fields)
    assert node.exit_of("writer")["status"] == 0, path.read_text()
    return path.read_text()


def refused(node: NodeProcess, **fields: object) -> tuple[str, str]:
    with node.taskhost() as lines:
        answer = lines.call(**{**node.task("refused", "exit 0"), **fields})
        assert answer["ok"] is False
        assert all(row["id"] != "refused" for row in lines.call(op="list")["tasks"])
    return answer["code"], answer["error"]


def test_a_start_that_fails_says_why(node: NodeProcess) -> None:
    assert refused(node, argv=["foo"]) == ("not_found", "cannot run 'foo': no such file or directory")
    assert refused(node, argv=["/etc/passwd"]) == ("denied", "cannot run '/etc/passwd': permission denied")
    assert refused(node, cwd="/no/where") == (
        "not_found",
        "cannot enter the working directory '/no/where': no such file or directory",
    )
    code, error = refused(node, stdout="/no/where")
    assert (code, error) == ("failed", "cannot open '/no/where' for output: no such file or directory")
    assert refused(node, cgroup_procs=["/no/where"])[0] == "failed"
    faults: list[dict[str, object]] = [
        {"argv": []},
        {"argv": [1]},
        {"argv": ["a\0b"]},
        {"env": {"A=B": "c"}},
        {"env": {"A": 1}},
        {"uid": -1},
        {"uid": True},
        {"ulimits": {"nosuch": [1, 1]}},
        {"ulimits": {"nofile": [2, 1]}},
        {"umask": 4096},
        {"stdout": None},
        {"id": ""},
    ]
    for fault in faults:
        code, error = refused(node, **fault)
        assert code == "invalid"
        assert next(iter(fault)) in error or "environment" in error or "ulimit" in error


def test_a_task_gets_what_was_asked_for_and_nothing_else(node: NodeProcess) -> None:
    script = "umask; pwd; ulimit -n; cat /proc/self/oom_score_adj; ls /proc/self/fd; env | sort; ps -o sid= -p $$"
    env = {MARK: node.mark, "PATH": os.environ["PATH"], "ONE": "1"}
    limits = {"nofile": [123, 456]}
    said = output_of(node, script, env=env, cwd="/tmp", umask=0o27, ulimits=limits, oom_score_adj=500).split()
    assert said[:4] == ["0027", "/tmp", "123", "500"]
    # 3 is the descriptor of the listing itself.
    assert said[4:8] == ["0", "1", "2", "3"]
    names = {entry.partition("=")[0] for entry in said[8:] if "=" in entry}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {MARK, "ONE", "PATH"}


def test_a_task_starts_with_default_signals_and_limits(node: NodeProcess) -> None:
    said = output_of(node, "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; ulimit -Sn").split()
    # Without those that libc keeps to itself: nobody can set them, and its posix_spawn ignores one in every child.
    settable = sum(1 << (number - 1) for number in signal.valid_signals())
    assert [int(mask, 16) & settable for mask in said[1:4:2]] == [0, 0]
    assert int(said[-1]) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.mark.root
@needs_root
def test_a_task_runs_as_another_user(node: NodeProcess) -> None:
    assert output_of(node, "id -u; id -g; id -G", uid=12345, gid=23456, groups=[7, 8]).split() == [
        "12345",
        "23456",
        "23456",
        "7",
        "8",
    ]


def test_output_goes_on_while_nobody_reads(node: NodeProcess) -> None:
    fifo = node.directory / "fifo"
    os.mkfifo(fifo)
    pid = node.run_task("writer", "while :; do echo line; sleep 0.01; done", stdout=str(fifo))
    for _ in range(3):
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        assert select.select([reader], [], [], 5)[0]
        assert os.read(reader, 5) == b"line\n"
        os.close(reader)  # a pipe would now kill the writer
    assert runs(pid)


def test_the_same_id_does_not_run_twice(node: NodeProcess) -> None:
    pid = node.run_task("one", "exec sleep 1000")
    with node.taskhost() as lines:
        again = lines.call(**node.task("one", "exec sleep 1000"))
        assert (again["code"], again["error"]) == ("exists", f"task one runs, pid {pid}")
        assert lines.call(op="forget", id="one")["ok"] is False
        assert lines.call(op="signal", id="one", signal=9)["delivered"] is True
        node.exit_of("one")
        assert lines.call(**node.task("one", "exit 0"))["code"] == "exists"
        assert lines.call(op="signal", id="one", signal=15)["delivered"] is False
        assert lines.call(op="forget", id="one")["ok"] is True
        assert lines.call(op="forget", id="one")["ok"] is True
        assert lines.call(op="signal", id="one", signal=15)["code"] == "not_found"
    node.run_task("one", "exit 0")


def test_the_end_of_the_leader_ends_its_group(node: NodeProcess) -> None:
    note = node.directory / "note"
    node.run_task("leader", f"sleep 1000 & echo $! > {note}; exit 3")
    row = node.exit_of("leader")
    assert os.waitstatus_to_exitcode(row["status"]) == 3
    until(lambda: not runs(int(note.read_text())))


def test_a_signal_right_behind_the_start_is_not_lost(node: NodeProcess) -> None:
    with node.taskhost() as lines:
        for number in range(20):
            lines.send(**node.task(f"t{number}", "exec sleep 1000"))
            lines.send(op="signal", id=f"t{number}", signal=9, seq=number)
        answers = [lines.receive() for _ in range(40)]
    assert all(answer["ok"] for answer in answers)
    for number in range(20):
        assert node.exit_of(f"t{number}")["status"] == 9


def test_exits_are_pushed_until_they_are_forgotten(node: NodeProcess) -> None:
    with node.taskhost() as first:
        first.call(op="subscribe")
        pid = node.run_task("five", "exit 5")
        push = first.receive()
        assert (push["push"], push["id"], push["pid"]) == ("exit", "five", pid)
        assert (push["status"], push["lost"]) == (5 << 8, False)
    node.kill("taskhost")
    until(lambda: _lists(node, "five"))
    with node.taskhost() as second:
        assert second.call(op="subscribe") == {"ok": True}
        assert second.receive() == push
        assert second.call(op="forget", id="five")["ok"] is True
    with node.taskhost() as third:
        third.call(op="subscribe")
        assert third.call(op="list") == {"ok": True, "tasks": []}


def _lists(node: NodeProcess, task_id: str) -> bool:
    try:
        return task_id in node.tasks()
    except (OSError, AssertionError):
        return False


def probe(script: str, **fields: object) -> dict[str, Any]:
    return {"op": "exec", "argv": ["/bin/sh", "-c", script], "env": {}, "timeout_s": 10, **fields}


def test_probes_run_side_by_side_within_bounds(node: NodeProcess) -> None:
    with node.taskhost() as lines:
        assert lines.call(**probe("echo out; echo err >&2; exit 3")) == {
            "ok": True,
            "exit_code": 3,
            "timed_out": False,
            "output": "out\nerr\n",
        }
        long = lines.call(**probe("yes | head -c 1000000", max_output=10))
        assert (long["exit_code"], long["output"]) == (0, "y\n" * 5)
        assert lines.call(**probe("", argv=["/no/such"]))["code"] == "not_found"
        with (node.directory / "gate").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            for number in range(330):
                lines.send(**probe(f"exec flock -s {gate.name} true", seq=number, timeout_s=60))
            refusals = [lines.receive() for _ in range(10)]
        answers = [lines.receive() for _ in range(320)]
    # 64 run and 256 wait; the rest is refused at once.
    assert [a["seq"] for a in refusals] == list(range(320, 330))
    assert {a["code"] for a in refusals} == {"busy"}
    assert all(a["exit_code"] == 0 for a in answers)


def test_a_probe_is_killed_with_its_group_at_its_timeout(node: NodeProcess) -> None:
    note = node.directory / "note"
    with node.taskhost() as lines:
        answer = lines.call(**probe(f"sleep 1000 & echo $! > {note}; echo early; wait", timeout_s=0.3))
    assert (answer["exit_code"], answer["timed_out"], answer["output"]) == (-9, True, "early\n")
    until(lambda: not runs(int(note.read_text())))


@pytest.mark.parametrize("gone", ["client", "taskhost"])
def test_a_probe_does_not_outlive_who_asked_or_who_runs_it(node: NodeProcess, gone: str) -> None:
    note = node.directory / "note"
    with node.taskhost() as lines:
        lines.send(**probe(f"sleep 1000 & echo $! > {note}; wait"))
        until(lambda: note.exists() and note.read_text())
        if gone == "taskhost":
            node.kill("taskhost")
    until(lambda: not runs(int(note.read_text())))


def test_a_full_disk_refuses_starts_and_still_tells_exits(node: NodeProcess) -> None:
    go = node.directory / "go"
    node.run_task("seven", f"while [ ! -e {go} ]; do sleep 0.02; done; exit 7")
    journal = node.state / "taskhost" / "journal"
    host = node.pid("taskhost")
    unlimited = resource.prlimit(host, resource.RLIMIT_FSIZE)
    # No byte more: writing fails just as it does on a full disk.
    resource.prlimit(host, resource.RLIMIT_FSIZE, (journal.stat().st_size + 10, unlimited[1]))
    with node.taskhost() as lines:
        lines.call(op="subscribe")
        answer = lines.call(**node.task("more", "exec sleep 1000"))
        assert (answer["code"], "cannot be written down" in answer["error"]) == ("failed", True)
        go.touch()
        push = lines.receive()
        assert (push["id"], push["status"]) == ("seven", 7 << 8)
        assert lines.call(**probe("exit 0"))["exit_code"] == 0
    assert all(b"more" not in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in node.marked())
    resource.prlimit(host, resource.RLIMIT_FSIZE, unlimited)
    until(lambda: '"kind":"exit","id":"seven"' in journal.read_text(), what="the exit is written later")
    assert all(json.loads(line) for line in journal.read_text().splitlines())
    node.run_task("more", "exit 0")


async def test_the_asyncio_client(node: NodeProcess) -> None:
    exits: list[TaskExit] = []
    client = await TaskHostClient.connect(socket_path(node.state), exits.append)
    await client.subscribe()
    env = {MARK: node.mark, "PATH": os.environ["PATH"]}
    null = "/dev/null"
    started = await client.start(StartRequest(id="a", argv=["sleep", "1000"], env=env, stdout=null, stderr=null))
    (row,) = await client.tasks()
    assert (row.id, row.pid, row.start_time, row.exit) == ("a", started.pid, started.start_time, None)
    with pytest.raises(SwarmError, match=r"cannot run 'foo'") as caught:
        await client.start(StartRequest(id="b", argv=["foo"], stdout=null, stderr=null))
    assert caught.value.code is Code.NOT_FOUND
    result = await client.exec(ExecRequest(argv=["echo", "hi"], env=env, timeout_s=5))
    assert (result.exit_code, result.output) == (0, "hi\n")
    assert await client.signal("a", signal.SIGTERM)
    while not exits:
        await client.tasks()
    assert (exits[0].id, exits[0].status) == ("a", signal.SIGTERM)
    await client.forget("a")
    assert await client.tasks() == []
    node.kill("taskhost")
    await client.closed.wait()
    with pytest.raises(SwarmError) as caught:
        await client.tasks()
    assert caught.value.retryable
    await client.close()


def test_start_times_are_those_of_the_kernel(node: NodeProcess) -> None:
    pid = node.run_task("a", "exec sleep 1000")
    stat = proc.read_stat(pid)
    assert stat is not None
    assert node.tasks()["a"]["start_time"] == stat.start_time
    assert (stat.session, stat.group) == (pid, pid)
