"""Whole sessions of the command line, held against the text in tests/testdata/cli."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import pytest

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import types_pb2
from swarmpy.errors import Code, SwarmError
from swarmpy.model.service import Service, UpdateStatus
from swarmpy.model.states import NodeState, TaskState, UpdateState
from tests.support.control import NOW, FakeCluster, fake_id, run_all
from tests.support.golden import run_golden
from tests.unit.swarmpy.cli.conftest import Shell

SESSIONS: Final = Path(__file__).parents[3] / "testdata" / "cli"


class Director:
    """What `%` lines may say."""

    def __init__(self, cluster: FakeCluster, shell: Shell) -> None:
        self._cluster = cluster
        self._shell = shell

    def __call__(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        getattr(self, f"do_{verb.replace('-', '_')}")(rest)

    def do_env(self, pair: str) -> None:
        """env NAME=VALUE"""
        name, _, value = pair.partition("=")
        self._shell.environ[name] = value

    def do_stdin(self, text: str) -> None:
        self._shell.stdin = text.replace("\\n", "\n")

    def do_warn(self, sentence: str) -> None:
        """warn SENTENCE: what the manager says to the next create or update."""
        self._cluster.warnings = [sentence] if sentence else []

    def do_moved(self, text: str) -> None:
        """moved IMAGE CHARACTER: the registry has a digest of 64 such characters under that name now."""
        image, character = text.split()
        self._cluster.digests[image] = f"sha256:{character * 64}"

    def do_away(self, image: str) -> None:
        """away IMAGE: its registry does not answer."""
        self._cluster.unresolved.add(image)

    def do_docker_config(self, text: str) -> None:
        """docker-config TEXT: what the user's config.json has."""
        folder = self._shell.state_dir / "docker"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(text)
        self._shell.environ["DOCKER_CONFIG"] = str(folder)

    def do_given(self, sentence: str) -> None:
        """given WHO: whom the last create or update was told to pull as."""
        requests = [r for method, r in self._cluster.calls if method in ("CreateService", "UpdateService")]
        auth = requests[-1].auth
        assert f"{auth.username}@{auth.registry} {auth.password}".strip("@ ") == sentence

    def do_node(self, name: str) -> None:
        """node NAME: a worker that is down."""
        self._cluster.add_node(name, state=NodeState.DOWN)

    def do_manager(self, text: str) -> None:
        """manager NAME MATCH LAST_CONTACT_S: one that follows, unless it was silent for more than two seconds."""
        name, match, last_contact_s = text.split()
        lag, silent_s = self._cluster.consensus.last_index - int(match), float(last_contact_s)
        active = silent_s <= 2
        self._cluster.add_manager(
            name,
            state="replicate" if active else "probe",
            active=active,
            match=int(match),
            lag=lag,
            last_contact_s=silent_s,
        )

    def do_learner(self, name: str) -> None:
        """learner NAME: a manager that has just joined."""
        self._cluster.add_manager(name, voter=False, state="snapshot", lag=42, last_contact_s=0.2)

    def do_no_quorum(self, problem: str) -> None:
        """no-quorum PROBLEM: this manager has heard nothing of a leader since."""
        consensus = self._cluster.consensus
        consensus.role, consensus.leader_id, consensus.leader_addr = "pre-candidate", 0, ""
        consensus.problem = problem
        for member in consensus.members:
            member.leader = member.active = False
            member.state, member.match, member.lag = "", 0, 0
            member.ClearField("last_contact_s")

    def do_stale_reads(self, methods: str) -> None:
        """stale-reads METHODS: what was read so far without asking the other managers."""
        assert self._cluster.stale_reads == methods.split()

    def do_worker_only(self, _: str) -> None:
        self._cluster.info.role = types_pb2.NODE_ROLE_WORKER

    def do_no_swarm(self, _: str) -> None:
        for name in ("node_id", "cluster_id", "managers"):
            self._cluster.info.ClearField(name)
        self._cluster.info.role = types_pb2.NODE_ROLE_WORKER
        self._cluster.info.state = "inactive"

    def do_touch(self, name: str) -> None:
        """touch SERVICE: somebody else writes it between the read and the write of the next update."""
        self._cluster.touched.add(name)

    def do_fail(self, text: str) -> None:
        """fail CODE SENTENCE: what the next call is answered."""
        code, _, sentence = text.partition(" ")
        self._cluster.failures = [SwarmError(Code(code), sentence)]

    def do_pending(self, reason: str) -> None:
        """pending REASON: tasks of later services wait."""

        def wait(cluster: FakeCluster, service: Service) -> None:
            for slot in range(1, service.spec.mode.replicas + 1):
                cluster.run_task(
                    service,
                    slot,
                    state=TaskState.PENDING,
                    node_id="",
                    ready=False,
                    pending_reason=reason,
                    host_ports=(),
                )

        self._cluster.settle = wait

    def do_settle(self, _: str) -> None:
        self._cluster.settle = run_all

    def do_pausing(self, message: str) -> None:
        """pausing MESSAGE: the next update pauses."""

        def pause(cluster: FakeCluster, service: Service) -> None:
            status = UpdateStatus(state=UpdateState.PAUSED, started_at=service.updated_at, message=message)
            cluster.put(msgspec.structs.replace(service, update_status=status))

        self._cluster.settle = pause

    def do_crash(self, text: str) -> None:
        """crash SERVICE ERROR: its first task fails, and another takes its place."""
        name, _, error = text.partition(" ")
        service = self._cluster.find(self._cluster.services, name, "service")
        task = next(t for t in self._cluster.tasks.values() if t.service_id == service.id and t.is_wanted)
        self._cluster.stop_task(task, "", state=TaskState.FAILED, error=error, exit_code=1)
        self._cluster.run_task(service, task.slot)

    def do_output(self, text: str) -> None:
        """output SLOT TEXT: a line of the task in that slot."""
        slot, _, line = text.partition(" ")
        task = next(t for t in self._cluster.tasks.values() if t.slot == int(slot) and t.is_wanted)
        self._cluster.output.append(pb.LogLine(task_id=task.id, node_id=fake_id("node", 1), at=NOW, data=line.encode()))


@pytest.mark.parametrize("path", sorted(SESSIONS.glob("*.txt")), ids=lambda path: path.stem)
def test_session(path: Path, cluster: FakeCluster, manager: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SESSIONS)
    run_golden(path, manager, Director(cluster, manager))
