"""A worker with a real task host runs what a dispatcher assigns: from argv to exit status."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from swarmpy.model.endpoints import PublishMode, ServicePort
from swarmpy.model.spec import Resources, Ulimit
from swarmpy.model.states import Runtime, TaskState
from tests.support.dispatcher import service_version
from tests.support.task_host_process import node_key
from tests.support.worker_bench import Bench, open_bench, python, shell
from tests.support.worker_parts import NODE_ID

pytestmark = pytest.mark.e2e

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user or make cgroups")

LISTEN = """
import os, signal, socket, sys, time
server = socket.socket()
server.bind((os.environ["HOST"], int(os.environ["PORT"])))
time.sleep(float(os.environ.get("DELAY", "0")))
server.listen()
while True:
    server.accept()[0].close()
"""


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_bench() as bench:
        yield bench


async def test_a_task_runs_until_it_is_told_to_stop(bench: Bench) -> None:
    bench.manager.assign(service_version(command=("sleep",), args=("1000",)))
    status = await bench.manager.ready("task1")
    assert (status.state, status.message) == (TaskState.RUNNING, "running")
    assert command_line(status.pid).endswith(b"sleep\x001000\x00")
    bench.manager.want("task1", TaskState.SHUTDOWN)
    status = await bench.manager.status("task1", TaskState.COMPLETE)
    assert (status.state, status.exit_code, status.message) == (TaskState.SHUTDOWN, -15, "stopped: scaled down")


async def test_ends_are_told_apart_and_explained(bench: Bench) -> None:
    status = await bench.finished(shell("exit 0"), "good")
    assert (status.state, status.exit_code, status.error) == (TaskState.COMPLETE, 0, "")
    status = await bench.finished(shell("echo no config found >&2; exit 3"), "bad")
    assert (status.state, status.exit_code) == (TaskState.FAILED, 3)
    assert status.error == "exited with code 3: no config found"
    status = await bench.finished(shell("kill -SEGV $$"), "killed")
    assert (status.state, status.exit_code) == (TaskState.FAILED, -signal.SIGSEGV)
    assert status.error == "killed by signal 11 (SIGSEGV)"


async def test_the_environment_is_ours_and_the_specs_and_nothing_else(bench: Bench) -> None:
    version = service_version(
        name="web",
        command=("env",),
        ports=(8000, 53),
        labels={"tier": "front"},
        env=(
            "PLAIN=1",
            "NAME={{.Service.Name}}/{{ .Task.Name }}",
            "WHERE={{.Node.Hostname}}-{{.Node.ID}}",
            'TIER={{.Service.Labels.tier}}{{index .Service.Labels "none"}}',
            "HOME=/elsewhere",
        ),
    )
    status = await bench.finished(version)
    assert status.state is TaskState.COMPLETE
    env = dict(line.split("=", 1) for line in (await bench.printed()).splitlines())
    ports = {str(p.target): str(p.port) for p in status.host_ports}
    assert env == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/elsewhere",
        "SWARMPY_TASK_ID": "task1",
        "SWARMPY_TASK_NAME": "web.1.task1",
        "SWARMPY_TASK_SLOT": "1",
        "SWARMPY_SERVICE_ID": "service-web",
        "SWARMPY_SERVICE_NAME": "web",
        "SWARMPY_NODE_ID": NODE_ID,
        "SWARMPY_NODE_ADDR": "127.0.0.1",
        "SWARMPY_DNS": "127.0.0.1:5354",
        "HOST": "127.0.0.1",
        "PORT": ports["8000"],
        "PORT_8000": ports["8000"],
        "PORT_53": ports["53"],
        "PLAIN": "1",
        "NAME": "web/web.1.task1",
        "WHERE": f"{os.uname().nodename}-{NODE_ID}",
        "TIER": "front",
    }


async def test_the_working_directory_is_the_tasks_own_or_the_specs(bench: Bench) -> None:
    await bench.finished(shell("pwd; touch file"), "own")
    assert await bench.printed("own") == f"{bench.directory}/tasks/own/work\n"
    await bench.finished(shell("pwd", workdir="/usr"), "given")
    assert await bench.printed("given") == "/usr\n"


async def test_what_cannot_be_met_is_rejected_with_its_reason(bench: Bench) -> None:
    cases = {
        "command not found: 'foo' (looked in PATH=/usr/local/sbin:": service_version(command=("foo",)),
        "the working directory '/no/where' does not exist": shell("pwd", workdir="/no/where"),
        "there is no user 'nosuchuser'": shell("id", user="nosuchuser"),
        "there is no signal 'SIGNO'": shell("id", stop_signal="SIGNO"),
        "the service has no command": service_version(),
        "the template {{.Nope}}": shell("id", env=("A={{.Nope}}",)),
        "--hostname for a plain process is not supported yet": shell("id", hostname="h"),
        "a container task on this node is not supported yet": shell("id", runtime=Runtime.CONTAINER),
        "is not a size from 32k on": shell("id", log_options={"max-size": "1"}),
        "there is no ulimit 'nofiles'": shell("id", ulimits=(Ulimit(name="nofiles", soft=1, hard=1),)),
    }
    for number, (reason, version) in enumerate(cases.items()):
        status = await bench.finished(version, f"task{number}")
        assert status.state is TaskState.REJECTED, reason
        assert reason in status.error


@needs_root
@pytest.mark.root
async def test_a_task_runs_as_the_user_that_is_asked_for(bench: Bench) -> None:
    nobody = pwd.getpwnam("nobody")
    script = "id -u; id -g; id -G; touch here; echo again > /dev/stdout"
    status = await bench.finished(shell(script, user="nobody:2000", groups=("3000",)))
    assert status.state is TaskState.COMPLETE, status
    assert await bench.printed() == f"{nobody.pw_uid}\n2000\n2000 3000\nagain\n"


async def test_limits_of_the_process_are_set(bench: Bench) -> None:
    limits = (Ulimit(name="nofile", soft=77, hard=99), Ulimit(name="core", soft=0, hard=0))
    script = "ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj"
    await bench.finished(shell(script, ulimits=limits, oom_score_adj=500))
    assert await bench.printed() == "77\n99\n0\n500\n"


async def test_the_stop_signal_reaches_the_whole_group_and_then_the_kill(bench: Bench) -> None:
    script = 'trap "echo parent" USR1; (trap "echo child; sleep 1000" USR1; sleep 1000 & wait; wait) & wait; wait'
    version = shell(script, stop_signal="USR1", stop_grace_period_s=0.3)
    bench.manager.assign(version)
    status = await bench.manager.ready("task1")
    await bench.manager.until(lambda: len(members(status.pid)) >= 3, "the child is up")
    bench.manager.want("task1", TaskState.SHUTDOWN)
    status = await bench.manager.status("task1", TaskState.COMPLETE)
    assert status.state is TaskState.SHUTDOWN
    assert "child" in await bench.printed()
    await bench.manager.until(lambda: not members(status.pid), "nothing of the group is left")


def members(group: int) -> list[int]:
    """Return the processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


async def test_readiness_waits_for_the_port_and_says_so(bench: Bench) -> None:
    bench.manager.assign(python(LISTEN, ports=(8000,), env=("DELAY=0.5",)))
    waiting = await bench.manager.until(
        lambda: s if (s := bench.manager.statuses.get("task1")) and "nothing" in s.not_ready_reason else None
    )
    (port,) = waiting.host_ports
    assert (waiting.state, waiting.ready) == (TaskState.RUNNING, False)
    assert waiting.not_ready_reason == f"nothing listens on port 8000 (PORT={port.port}) yet"
    ready = await bench.manager.ready("task1")
    assert (ready.not_ready_reason, ready.ready_since > 0) == ("", True)


async def test_a_port_of_host_mode_keeps_its_number(bench: Bench) -> None:
    (free,) = bench.worker.ports.pick([ServicePort(target=1)])
    bench.worker.ports.release([free])
    version = service_version(command=("sleep", "1000"))
    port = ServicePort(target=8000, published=free.port, mode=PublishMode.HOST)
    version = msgspec.structs.replace(version, ports=(port,))
    bench.manager.assign(version, "first")
    status = await bench.manager.status("first", TaskState.RUNNING)
    assert [p.port for p in status.host_ports] == [free.port]
    bench.manager.assign(version, "second")
    waits, statuses = "another task here still has it", bench.manager.statuses
    await bench.manager.until(lambda: "second" in statuses and waits in statuses["second"].message, "the second waits")
    bench.manager.want("first", TaskState.SHUTDOWN)
    status = await bench.manager.status("second", TaskState.RUNNING)
    assert [p.port for p in status.host_ports] == [free.port]


async def test_a_held_back_task_is_prepared_and_started_later(bench: Bench) -> None:
    bench.manager.assign(service_version(command=("sleep", "1000")), desired=TaskState.READY)
    status = await bench.manager.status("task1", TaskState.READY)
    assert (status.state, status.pid) == (TaskState.READY, 0)
    bench.manager.want("task1", TaskState.RUNNING)
    await bench.manager.ready("task1")


async def test_a_removed_task_leaves_nothing_behind(bench: Bench) -> None:
    bench.manager.assign(service_version(command=("sleep", "1000"), ports=(8000,)))
    status = await bench.manager.status("task1", TaskState.RUNNING)
    bench.manager.remove("task1")
    await bench.manager.until(lambda: not (bench.directory / "tasks" / "task1").exists(), "the folder is gone")
    assert not members(status.pid)
    assert not list((bench.directory / "worker" / "tasks").iterdir())
    assert not bench.worker.runner.statuses


@needs_root
@pytest.mark.root
async def test_out_of_memory_is_named_with_its_limit(bench: Bench) -> None:
    script = "data = []\nwhile True: data.append(bytearray(8 << 20))"
    status = await bench.finished(python(script, limits=Resources(memory_bytes=64 << 20)))
    assert status.state is TaskState.FAILED
    assert status.error == "out of memory: killed at limit 64 MiB"
    assert status.exit_code == -signal.SIGKILL


@needs_root
@pytest.mark.root
async def test_limits_hold_and_their_groups_go_with_the_task(bench: Bench) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait"
    version = shell(script, limits=Resources(pids=4, nano_cpus=500_000_000), stop_grace_period_s=0.2)
    status = await bench.finished(version)
    assert status.state is TaskState.FAILED
    assert "fork" in await bench.printed(stream=2)
    bench.manager.remove("task1")
    await bench.manager.until(lambda: not bench.worker.runner.statuses, "the task is forgotten")
    assert not groups(bench, "task1")


@needs_root
@pytest.mark.root
async def test_a_process_that_left_its_group_ends_with_a_limited_task(bench: Bench) -> None:
    script = "setsid sleep 1000 & echo $!; sleep 0.2; exit 0"
    status = await bench.finished(shell(script, limits=Resources(pids=50)))
    assert status.state is TaskState.COMPLETE
    pid = int(await bench.printed())
    bench.manager.remove("task1")
    await bench.manager.until(lambda: not bench.worker.runner.statuses, "the task is forgotten")
    assert not alive(pid)


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def groups(bench: Bench, task_id: str) -> list[Path]:
    """Return the cgroups of this worker's task in every hierarchy; other workers have tasks of the same name."""
    top, key = Path("/sys/fs/cgroup"), node_key(bench.directory)
    return [*top.glob(f"*/swarmpy/{key}/{task_id}"), *top.glob(f"swarmpy/{key}/{task_id}")]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
