"""What becomes of a container's record: started, told of, ended, restarted."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.container import ContainerConfig, ContainerStatus, HealthState, PortBinding, RestartKind, RestartRule
from swarmpy.model.endpoints import HostPort, Transport
from swarmpy.model.spec import ContainerSpec, TaskSpec
from swarmpy.model.states import TaskState
from swarmpy.model.task import TaskStatus
from worker.containers import life, names
from worker.containers.record import Record, Records
from worker.containers.restart import comes_back, delay_s, runs_again
from worker.containers.view import health_of, resolve, status_of

NO, FAILURE, ALWAYS, UNLESS = RestartKind.NO, RestartKind.ON_FAILURE, RestartKind.ALWAYS, RestartKind.UNLESS_STOPPED


def record(rule: RestartRule | None = None, **fields: object) -> Record:
    task = TaskSpec(container=ContainerSpec(image="x"))
    made = Record(id="c1", name="one", config=ContainerConfig(task=task, restart=rule or RestartRule()))
    return msgspec.structs.replace(made, **fields)


def running(rule: RestartRule | None = None, at: float = 100.0, **fields: object) -> Record:
    begun = life.begun(record(rule, **fields), by_user=True)
    return life.told(begun, TaskStatus(state=TaskState.RUNNING, pid=7, at=at), now=at)


def ended(before: Record, code: int, at: float) -> Record:
    return life.told(before, TaskStatus(state=TaskState.FAILED, exit_code=code, at=at), now=at)


def test_a_run_from_its_beginning_to_its_end() -> None:
    made = record()
    assert (made.is_live, status_of(made)) == (False, ContainerStatus.CREATED)
    begun = life.begun(made, by_user=True)
    assert (begun.is_live, begun.is_running) == (True, False)
    runs = life.told(begun, TaskStatus(state=TaskState.RUNNING, pid=7, at=100.0), now=100.0)
    assert (runs.is_running, runs.pid, runs.started_at, status_of(runs)) == (True, 7, 100.0, ContainerStatus.RUNNING)
    over = ended(runs, 3, 105.0)
    assert (over.is_live, over.exit_code, over.pid, over.finished_at) == (False, 3, 0, 105.0)
    assert (over.wanted, over.next_run_at, status_of(over)) == (False, 0.0, ContainerStatus.EXITED)
    assert life.told(over, TaskStatus(state=TaskState.FAILED, exit_code=9, at=106.0), now=106.0) is over


def test_the_same_news_twice_is_none() -> None:
    runs = running()
    assert life.told(runs, TaskStatus(state=TaskState.RUNNING, pid=7, at=101.0), now=101.0) is runs


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("command not found: 'x' is in no directory", 127),
        ("/x is not executable: chmod it", 126),
        ("the image is for another platform", 126),
        ("something else", 128),
    ],
)
def test_what_could_not_be_started_has_a_shells_code(error: str, code: int) -> None:
    begun = life.begun(record(RestartRule(ALWAYS)), by_user=True)
    over = life.told(begun, TaskStatus(state=TaskState.REJECTED, error=error, at=1.0), now=1.0)
    assert (over.exit_code, over.error, over.next_run_at) == (code, error, 0.0)  # who started it is told


def test_restarts_wait_longer_and_longer_until_a_run_lasts() -> None:
    now, waits, seen = 0.0, [], running(RestartRule(ALWAYS), at=0.0)
    for _ in range(5):
        seen = ended(seen, 1, now + 1.0)
        waits.append(seen.next_run_at - (now + 1.0))
        assert status_of(seen) is ContainerStatus.RESTARTING
        now = seen.next_run_at
        seen = life.begun(seen, by_user=False)
        seen = life.told(seen, TaskStatus(state=TaskState.RUNNING, pid=8, at=now), now=now)
    assert waits == [0.0, 1.0, 2.0, 4.0, 8.0]
    assert seen.restarts == 5
    lasted = ended(seen, 1, now + 10.0)
    assert lasted.next_run_at == now + 10.0
    assert [delay_s(n) for n in (0, 5, 6, 100)] == [0.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("rule", "exit_code", "by_hand", "in_a_row", "again", "back"),
    [
        (RestartRule(NO), 1, False, 0, False, False),
        (RestartRule(FAILURE), 0, False, 0, False, False),
        (RestartRule(FAILURE), 1, False, 99, True, True),
        (RestartRule(FAILURE, most=2), 1, False, 1, True, True),
        (RestartRule(FAILURE, most=2), 1, False, 2, False, False),
        (RestartRule(FAILURE), 1, True, 0, False, False),
        (RestartRule(ALWAYS), 0, False, 0, True, True),
        (RestartRule(ALWAYS), 0, True, 0, False, True),
        (RestartRule(UNLESS), 0, False, 0, True, True),
        (RestartRule(UNLESS), 0, True, 0, False, False),
    ],
)
def test_rules(rule: RestartRule, exit_code: int, by_hand: bool, in_a_row: int, again: bool, back: bool) -> None:
    assert runs_again(rule, exit_code=exit_code, by_hand=by_hand, in_a_row=in_a_row) is again
    assert comes_back(rule, exit_code=exit_code, by_hand=by_hand, in_a_row=in_a_row) is back


def test_a_container_that_its_user_stopped_stays_stopped() -> None:
    stopped = msgspec.structs.replace(running(RestartRule(ALWAYS)), wanted=False, by_hand=True)
    assert ended(stopped, 137, 101.0).next_run_at == 0.0


def test_ports_are_those_that_were_given() -> None:
    bindings = (PortBinding(target=80), PortBinding(target=53, port=53, transport=Transport.UDP, address="10.0.0.1"))
    given = (HostPort(target=80, port=20001), HostPort(target=53, port=53, transport=Transport.UDP))
    assert [b.port for b in life.in_force(bindings, given)] == [20001, 53]
    config = msgspec.structs.replace(record().config, ports=(PortBinding(target=80, port=8080),), publish_all=True)
    exposed = ((80, Transport.TCP), (443, Transport.TCP), (80, Transport.UDP))
    found = life.bindings_of(config, exposed)
    assert [(b.target, b.port, b.transport) for b in found] == [
        (80, 8080, Transport.TCP),
        (443, 0, Transport.TCP),
        (80, 0, Transport.UDP),
    ]


def test_names_are_made_up_until_one_is_free() -> None:
    rng = random.Random(1)
    first = names.made_up(rng, ())
    assert first == names.check(first)
    everything = {f"{a}_{s}" for a in names.ADJECTIVES for s in names.SURNAMES}
    assert names.made_up(rng, everything)[-1] == "1"
    assert names.check("/web-1") == "web-1"
    for bad in ("", "a", "-web", "a b", "ä" * 3, "x" * 200):
        with pytest.raises(SwarmError, match="Invalid container name"):
            names.check(bad)


def test_references() -> None:
    known = {"abc1": "web", "abd2": "abc", "xyz3": "db"}
    assert resolve("abc1", known) == "abc1"
    assert resolve("/web", known) == "abc1"
    assert resolve("abc", known) == "abd2"  # a name comes before the beginning of an id
    assert resolve("xy", known) == "xyz3"
    with pytest.raises(SwarmError, match="stands for 2 containers"):
        resolve("ab", known)
    for absent in ("", "no"):
        with pytest.raises(SwarmError, match="No such container") as caught:
            resolve(absent, known)
        assert caught.value.code is Code.NOT_FOUND


def test_health() -> None:
    ready = TaskStatus(state=TaskState.RUNNING, ready=True)
    ill = TaskStatus(state=TaskState.RUNNING, not_ready_reason="unhealthy: exit 1")
    new = TaskStatus(state=TaskState.RUNNING, not_ready_reason="the first check is under way")
    assert health_of(ready, has_check=False) == (HealthState.NONE, "")
    assert health_of(ready, has_check=True) == (HealthState.HEALTHY, "")
    assert health_of(ill, has_check=True) == (HealthState.UNHEALTHY, "exit 1")
    assert health_of(new, has_check=True) == (HealthState.STARTING, "")


def test_records_outlive_the_worker_and_a_damaged_one_is_set_aside(tmp_path: Path) -> None:
    records = Records(tmp_path / "containers")
    kept = running(RestartRule(FAILURE, most=3), bindings=(PortBinding(target=80),))
    records.save(kept)
    records.save(msgspec.structs.replace(kept, id="c2", name="two"))
    (tmp_path / "containers" / "c3.msgpack").write_bytes(b"\xff\x00")
    assert Records(tmp_path / "containers").load() == [kept, msgspec.structs.replace(kept, id="c2", name="two")]
    assert (tmp_path / "containers" / "c3.damaged").exists()
    records.remove("c2")
    records.remove("c2")
    assert [one.id for one in records.load()] == ["c1"]
