"""What a person reads when there is nobody to talk to: one sentence that says what to do, and status 1."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from swarmpy.api.v1 import types_pb2
from tests.support.control import FakeCluster
from tests.support.control_server import FakeServer
from tests.unit.swarmpy.cli.conftest import Shell


@pytest.mark.parametrize(
    "command", ["service ls", "info", "swarm init", "node ls", "stack rm shop", "service logs web"]
)
def test_no_daemon(shell: Shell, command: str) -> None:
    outcome = shell(f"swarmpy {command}")
    path = shell.state_dir / "run" / "node.sock"
    assert outcome.err == f"Error: cannot reach swarmpyd at {path}: is it running? start it with `swarmpyd`\n"
    assert (outcome.out, outcome.status) == ("", 1)


def test_a_socket_whose_daemon_was_killed(shell: Shell) -> None:
    run = shell.state_dir / "run"
    run.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run / "node.sock"))
    assert shell("swarmpy service ls").err.startswith(f"Error: cannot reach swarmpyd at {run / 'node.sock'}")


def test_a_path_too_long_for_a_socket(shell: Shell) -> None:
    outcome = Shell(shell.state_dir / ("x" * 110))("swarmpy service ls")
    assert outcome.err.endswith("too long for a UNIX socket (107 bytes at most): use a shorter --state-dir\n")
    assert outcome.status == 1


@pytest.mark.parametrize("command", ["service ls", "node ls", "swarm join-token worker", "stack ls"])
def test_a_worker_is_no_manager(shell: Shell, cluster: FakeCluster, command: str) -> None:
    cluster.info.role = types_pb2.NODE_ROLE_WORKER
    with FakeServer(cluster, shell.state_dir, control=False):
        outcome = shell(f"swarmpy {command}")
    assert outcome.err == ("Error: this node is not a swarm manager: run this on a manager (127.0.0.1:2377)\n")
    assert outcome.status == 1


def test_outside_of_a_swarm(shell: Shell, cluster: FakeCluster) -> None:
    cluster.info.Clear()
    with FakeServer(cluster, shell.state_dir, control=False):
        outcome = shell("swarmpy service ls")
    assert outcome.err == (
        "Error: this node is not part of a swarm: use `swarmpy swarm init` or `swarmpy swarm join`\n"
    )
    assert outcome.status == 1


def test_swarm_init_and_info_need_no_manager(shell: Shell, cluster: FakeCluster) -> None:
    cluster.info.Clear()
    cluster.info.state = "inactive"
    with FakeServer(cluster, shell.state_dir, control=False):
        made = shell("swarmpy swarm init --advertise-addr 127.0.0.2:2377")
        info = shell("swarmpy info")
    assert made.out == (
        "Swarm initialized: current node (node100000000000000000000) is now a manager.\n\n"
        "To add a worker to this swarm, run the following command:\n\n"
        "    swarmpy swarm join --token SWMTKN-1-root-worker1 127.0.0.2:2377\n\n"
        "To add a manager to this swarm, run 'swarmpy swarm join-token manager' and follow the instructions.\n\n"
    )
    assert " Swarm: inactive\n" in info.out
    assert (made.status, info.status) == (0, 0)


def test_the_state_directory_comes_from_flag_or_environment(tmp_path: Path, cluster: FakeCluster) -> None:
    elsewhere = Shell(tmp_path / "elsewhere")
    with FakeServer(cluster, tmp_path / "n"):
        assert elsewhere(f"swarmpy --state-dir {tmp_path / 'n'} node ls -q").status == 0
        assert elsewhere("swarmpy node ls -q").status == 1
