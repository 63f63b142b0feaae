"""Containers on a real containerd, runc and kernel: what their specs ask for, how they end, what is left of them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from swarmpy.model.endpoints import HostPort, PublishMode, ServicePort
from swarmpy.model.spec import Healthcheck, Mount, Resources, Ulimit
from swarmpy.model.states import MountType, TaskState
from swarmpy.model.task import TaskStatus
from tests.support.balancer import free_port
from tests.support.container_node import lacking
from tests.support.container_rig import ADDRESS, Rig, RigWorker, until
from tests.support.container_tasks import task
from tests.support.images import Entry, busybox_image, directory

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "containers can be run"),
]
RUNNING, COMPLETE, FAILED = TaskState.RUNNING, TaskState.COMPLETE, TaskState.FAILED
SHUTDOWN, REJECTED = TaskState.SHUTDOWN, TaskState.REJECTED
SERVE = ("sh", "-c", "mkdir -p /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w")
FOREVER = ("sh", "-c", "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        data = [directory("data"), Entry("data/seed", b"seed\n", uid=1000, gid=1000), Entry("etc/nothing", b"")]
        images = {
            "web_1": busybox_image(),
            "seeded_1": busybox_image(files=data, Volumes={"/data": {}}, User="www", StopSignal="SIGINT"),
            "well_1": busybox_image(Healthcheck={"Test": ["CMD-SHELL", "test -e /tmp/well"], "Interval": 100_000_000}),
        }
        asyncio.run(rig.load(**images))
        yield rig


@pytest.fixture
async def worker(rig: Rig) -> AsyncIterator[RigWorker]:
    async with rig.worker() as worker:
        yield worker
    await rig.clean()


async def said(worker: RigWorker, task_id: str, command: str, **fields: object) -> str:
    """Run a shell command in a container to its end; return what it said."""
    worker.put(task(task_id, ("sh", "-c", command), **fields))  # type: ignore[arg-type]  # keywords of tests
    await worker.state_of(task_id, COMPLETE)
    return worker.log(task_id)


async def test_a_container_has_namespaces_of_its_own_and_dockers_limits(worker: RigWorker) -> None:
    text = await said(
        worker,
        "one",
        "id -u; hostname; grep -E '^(CapBnd|Seccomp|NoNewPrivs):' /proc/self/status; echo pid $$; ls /sys/class/net;"
        " mount | grep -c ' on /sys/firmware '; unshare -m true 2>&1; echo 1 > /proc/sys/kernel/panic; cat /etc/hosts",
        hostname="{{.Service.Name}}-{{.Task.Slot}}",
    )
    lines = text.splitlines()
    assert lines[:2] == ["0", "web-1"]
    assert "CapBnd:\t00000000a80425fb" in lines  # as Docker's containers have it
    assert "Seccomp:\t2" in lines
    assert "pid 1" in lines
    assert "eth0" in lines
    assert "1" in lines
    assert any("perm" in line.lower() for line in lines), text
    assert any("Read-only file system" in line for line in lines), text
    assert any(line.endswith("web-1") for line in lines[2:]), text


async def test_a_published_port_leads_to_the_container(worker: RigWorker) -> None:
    worker.put(task("one", SERVE, ports=(80,)))
    status = await worker.state_of("one", RUNNING)
    [port] = status.host_ports
    await until(lambda: worker.runner.statuses["one"].ready, "it is ready")
    assert await fetch(f"http://{ADDRESS}:{port.port}/index.html") == b"hello\n"


async def test_a_port_of_mode_host_leads_to_the_container_from_where_it_was_asked_for(worker: RigWorker) -> None:
    number = free_port()
    ports = [
        ServicePort(target=80, published=number, mode=PublishMode.HOST, address=address)
        for address in ("127.0.0.9", "0.0.0.0")
    ]

    def status(task_id: str) -> TaskStatus:
        return worker.runner.statuses[task_id]

    first = task("one", SERVE, ports=ports[:1])
    worker.put(first)
    await until(lambda: status("one").ready, "it is ready")
    assert status("one").host_ports == (HostPort(target=80, port=number, address="127.0.0.9"),)
    assert await fetch(f"http://127.0.0.9:{number}/index.html") == b"hello\n"
    with pytest.raises(OSError, match="refused"):
        await fetch(f"http://{ADDRESS}:{number}/index.html")

    worker.put(task("two", SERVE, ports=ports[1:]))
    await until(lambda: "another task here still has it" in status("two").message, "the second one waits")
    worker.stop(first)
    await until(lambda: status("two").ready, "the second one has the port")
    for address in ("127.0.0.9", ADDRESS):
        assert await fetch(f"http://{address}:{number}/index.html") == b"hello\n"


async def test_names_are_served_in_the_container_while_it_is_there(worker: RigWorker) -> None:
    worker.put(task("asks", ("sh", "-c", "cat /etc/resolv.conf; sleep 1000")))
    await worker.state_of("asks", RUNNING)
    await until(lambda: "nameserver 127.0.0.11" in worker.log("asks"), "it has said whom it asks")
    assert worker.names.served["asks"].netns.endswith("/asks")
    worker.remove("asks")
    await worker.gone("asks")
    assert not worker.names.served


async def fetch(url: str) -> bytes:
    def get() -> bytes:
        with urllib.request.urlopen(url, timeout=5) as answer:
            body = answer.read()
            assert isinstance(body, bytes)
            return body

    return await asyncio.to_thread(get)


async def test_exit_codes_and_last_words_are_told(worker: RigWorker) -> None:
    worker.put(task("code", ("sh", "-c", "echo oh no >&2; exit 3")))
    worker.put(task("signal", ("sleep", "1000")))
    code = await worker.state_of("code", FAILED)
    assert (code.exit_code, code.error) == (3, "exited with code 3: oh no")
    os.kill((await worker.state_of("signal", RUNNING)).pid, signal.SIGKILL)
    signalled = await worker.state_of("signal", FAILED)
    assert (signalled.exit_code, signalled.error) == (137, "exited with code 137 (SIGKILL)")


async def test_a_container_beyond_its_memory_is_said_to_be(worker: RigWorker) -> None:
    hungry = ("sh", "-c", "tail -c 100m /dev/zero")
    worker.put(task("hungry", hungry, limits=Resources(memory_bytes=16 << 20)))
    status = await worker.state_of("hungry", FAILED)
    assert status.error == "out of memory: killed at limit 16 MiB"


async def test_limits_are_in_force(worker: RigWorker) -> None:
    limits = Resources(nano_cpus=500_000_000, pids=9, memory_bytes=64 << 20)
    text = await said(
        worker,
        "limited",
        "ulimit -n; cd /sys/fs/cgroup; cat cpu.max 2>/dev/null || cat cpu/cpu.cfs_quota_us;"
        " cat pids.max 2>/dev/null || cat pids/pids.max",
        limits=limits,
        ulimits=(Ulimit(name="nofile", soft=99, hard=100),),
    )
    words = text.split()
    assert words[0] == "99"
    assert words[1] == "50000"
    assert words[-1] == "9"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (("nosuch",), "command not found: 'nosuch' is in no directory of the container's PATH"),
        (("/no/such",), "command not found: the image has no '/no/such'"),
        (("/etc/passwd",), "command '/etc/passwd' of the image is not executable; set its x bit or name another"),
    ],
)
async def test_what_cannot_be_run_is_said(worker: RigWorker, command: tuple[str, ...], error: str) -> None:
    worker.put(task("bad", command))
    assert (await worker.state_of("bad", FAILED)).error == error


async def test_a_user_that_the_image_has_not_is_refused(worker: RigWorker) -> None:
    worker.put(task("who", ("true",), user="nobody-here"))
    assert "no user 'nobody-here'" in (await worker.state_of("who", REJECTED)).error


async def test_user_groups_init_terminal_and_read_only_root(worker: RigWorker) -> None:
    text = await said(
        worker,
        "many",
        "id; tty; touch /x; echo $HOME; pwd; tr '\\0' ' ' < /proc/1/cmdline; echo",
        user="www",
        groups=("7",),
        init=True,
        tty=True,
        read_only=True,
        workdir="/new/place",
    )
    assert "uid=1000(www) gid=1000(www) groups=7,1000(www),2000(extra)" in text
    assert "/dev/pts/0" in text
    assert "/x: Read-only file system" in text
    assert "/home/www" in text
    assert "/new/place" in text
    assert "/sbin/docker-init -- sh -c" in text


async def test_mounts(worker: RigWorker, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("given\n")
    text = await said(
        worker,
        "mounts",
        "cat /b/given; touch /b/x; df -k /t | tail -1; stat -c %a /t; echo kept > /v/kept; ls /v",
        mounts=(
            Mount(type=MountType.BIND, source=str(tmp_path), target="/b", read_only=True),
            Mount(type=MountType.TMPFS, target="/t", options={"size": "1m", "mode": "700"}),
            Mount(type=MountType.VOLUME, source="keep", target="/v"),
        ),
    )
    assert "given\n" in text  # what fails is said on the other stream, and may come first
    assert "/b/x: Read-only file system" in text
    assert " 1024 " in text
    assert "\n700\nkept\n" in text
    volumes = worker.containers.volumes
    assert (volumes.data("keep") / "kept").read_text() == "kept\n"
    assert "kept" in await said(
        worker, "again", "ls /v", mounts=(Mount(type=MountType.VOLUME, source="keep", target="/v"),)
    )
    volumes.remove("keep")


async def test_a_new_volume_begins_with_what_the_image_has_there(worker: RigWorker) -> None:
    text = await said(worker, "seeded", "ls -ln /data; cat /data/seed; echo more >> /data/seed", image="seeded:1")
    assert text.splitlines()[-1] == "seed"
    assert " 1000 " in text
    [volume] = worker.containers.volumes.list()
    assert (volume.task_id, volume.filled) == ("seeded", True)
    worker.remove("seeded")
    await worker.gone("seeded")
    assert worker.containers.volumes.list() == []


async def test_a_bind_without_source_is_refused_in_dockers_words(worker: RigWorker) -> None:
    worker.put(task("bind", ("true",), mounts=(Mount(type=MountType.BIND, source="/no/such", target="/b"),)))
    assert (await worker.state_of("bind", REJECTED)).error.endswith("bind source path does not exist: /no/such")


async def test_stop_signals_of_spec_and_image(worker: RigWorker) -> None:
    worker.put(one := task("one", FOREVER))
    trap = ("sh", "-c", "trap 'exit 5' INT; echo up; while :; do sleep 0.05; done")
    worker.put(two := task("two", trap, image="seeded:1"))
    for task_id in ("one", "two"):
        await worker.state_of(task_id, RUNNING)
        await until(lambda i=task_id: "up" in worker.log(i), "its trap is set")  # type: ignore[misc]  # bound at once
    worker.stop(one)
    worker.stop(two)
    assert (await worker.state_of("one", SHUTDOWN)).exit_code == 7
    assert (await worker.state_of("two", SHUTDOWN)).exit_code == 5
    assert worker.log("one") == "up\nbye\n"


async def test_what_ignores_its_signal_is_killed(worker: RigWorker) -> None:
    worker.put(deaf := task("deaf", ("sh", "-c", "trap '' TERM; sleep 1000"), stop_grace_period_s=0.2))
    await worker.state_of("deaf", RUNNING)
    worker.stop(deaf)
    assert (await worker.state_of("deaf", SHUTDOWN)).exit_code == 137


async def test_a_health_check_of_the_image(worker: RigWorker) -> None:
    worker.put(task("well", ("sh", "-c", "sleep 0.3; touch /tmp/well; sleep 1000"), image="well:1"))
    await worker.state_of("well", RUNNING)


async def test_a_health_check_that_fails_ends_the_task(worker: RigWorker) -> None:
    check = Healthcheck(test=("CMD-SHELL", "echo not well; exit 1"), interval_s=0.05, retries=2)
    worker.put(task("ill", ("sleep", "1000"), healthcheck=check, stop_grace_period_s=0.1))
    assert (await worker.state_of("ill", FAILED)).error == "unhealthy: not well"


async def test_an_http_check_asks_the_container_itself(worker: RigWorker) -> None:
    check = Healthcheck(test=("HTTP", ":80/index.html"), interval_s=1.0)
    worker.put(task("asked", SERVE, readiness=check))
    await worker.state_of("asked", RUNNING)
    await until(lambda: worker.runner.statuses["asked"].ready, "it is ready")


async def test_networks_host_and_none(worker: RigWorker) -> None:
    assert "eth0" not in await said(worker, "none", "ls /sys/class/net", network="none")
    here = socket.if_nameindex()[0][1]
    assert here in (await said(worker, "host", "ls /proc/sys/net/ipv4/conf", network="host")).split()
