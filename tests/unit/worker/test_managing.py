"""The manager process of a node, by way of its supervisor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from swarmpy.clock import Clock, SystemClock
from swarmpy.errors import Code, SwarmError
from swarmpy.security.identity import Identity
from tests.support.clock import FakeClock
from tests.support.health_server import FakeHealth, manager_socket
from tests.support.membership_server import founder, membership_server
from tests.support.supervisor import FakeSupervisor, supervising
from worker.host import Place
from worker.managing import START_DEADLINE_S, ManagerProcess

NOBODY = "127.0.0.1:1"


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[FakeSupervisor]:
    async with supervising(tmp_path) as made:
        yield made


@pytest.fixture
async def health(tmp_path: Path) -> AsyncIterator[FakeHealth]:
    async with manager_socket(tmp_path) as made:
        yield made


def process_at(tmp_path: Path, clock: Clock) -> ManagerProcess:
    return ManagerProcess(Place(tmp_path, "127.0.0.1", "127.0.0.1", "m9", "boot"), clock)


@pytest.fixture
def process(tmp_path: Path) -> ManagerProcess:
    return process_at(tmp_path, SystemClock())


@pytest.fixture(scope="module")
def identity() -> Identity:
    return founder()


def refuse(tmp_path: Path) -> None:
    (tmp_path / "run" / "manager.error").write_text("manager: this node is to be a worker: promote it first\n")


async def test_one_that_is_started_is_waited_for(
    process: ManagerProcess, supervisor: FakeSupervisor, health: FakeHealth
) -> None:
    def begin() -> None:
        health.serving = True

    supervisor.on_start = begin
    await process.start()
    assert (supervisor.calls, await process.serves(), await process.member_id()) == (["run"], True, 3)


async def test_one_that_refuses_to_run_says_why(
    process: ManagerProcess, supervisor: FakeSupervisor, tmp_path: Path
) -> None:
    supervisor.on_start = lambda: refuse(tmp_path)
    with pytest.raises(SwarmError, match=r"^this node is to be a worker: promote it first$") as caught:
        await process.start()
    assert caught.value.code is Code.FAILED_PRECONDITION


async def test_one_that_does_not_serve_in_time_is_left_running(
    tmp_path: Path, supervisor: FakeSupervisor, health: FakeHealth
) -> None:
    clock = FakeClock()
    began_s = clock.monotonic()
    with pytest.raises(
        SwarmError, match=r"the manager does not serve after 20 s: see `swarmpy swarm status`"
    ) as caught:
        await clock.through(process_at(tmp_path, clock).start())
    assert clock.monotonic() - began_s >= START_DEADLINE_S
    assert (caught.value.code, caught.value.retryable, supervisor.calls) == (Code.UNAVAILABLE, False, ["run"])


async def test_one_that_does_not_listen_does_not_serve(process: ManagerProcess) -> None:
    assert (await process.serves(), await process.member_id()) == (False, None)


async def test_forgetting_waits_for_its_end_and_leaves_nothing(
    process: ManagerProcess, supervisor: FakeSupervisor
) -> None:
    (process.directory / "raft").mkdir(parents=True)
    (process.directory / "raft" / "log").write_bytes(b"entries")
    supervisor.runs, supervisor.slow = True, 3
    await process.forget()
    assert (supervisor.calls, supervisor.slow, process.directory.exists()) == (["stop"], -1, False)
    await process.forget()


async def test_one_that_does_not_end_in_time_keeps_what_it_has(tmp_path: Path, supervisor: FakeSupervisor) -> None:
    clock = FakeClock()
    process = process_at(tmp_path, clock)
    process.directory.mkdir()
    supervisor.runs, supervisor.slow = True, 1_000_000
    with pytest.raises(SwarmError, match=r"the manager has not ended after 15 s: see the log of swarmpyd"):
        await clock.through(process.forget())
    assert process.directory.exists()


async def test_it_is_run_and_restarted_without_waiting(process: ManagerProcess, supervisor: FakeSupervisor) -> None:
    await process.run()
    await process.restart()
    assert supervisor.calls == ["run", "restart manager"]


async def test_what_the_supervisor_refuses_is_said(process: ManagerProcess, supervisor: FakeSupervisor) -> None:
    supervisor.refusal = "swarmpyd is stopping"
    with pytest.raises(SwarmError, match="swarmpyd is stopping"):
        await process.run()


async def test_the_first_manager_that_answers_lets_it_go(process: ManagerProcess, identity: Identity) -> None:
    async with membership_server(identity) as other:
        knows = msgspec.structs.replace(identity, managers=(NOBODY, other.address))
        await process.be_let_go(knows, lambda: "r1")
        assert [request.request_id for request in other.leaves] == ["r1"]


async def test_a_refusal_to_let_it_go_is_final(process: ManagerProcess, identity: Identity) -> None:
    async with membership_server(identity) as other:
        other.refusals = [SwarmError(Code.FAILED_PRECONDITION, "m9 is the last manager")]
        knows = msgspec.structs.replace(identity, managers=(other.address, NOBODY))
        with pytest.raises(SwarmError, match="m9 is the last manager"):
            await process.be_let_go(knows, lambda: "r1")
        with pytest.raises(SwarmError) as caught:
            await process.be_let_go(msgspec.structs.replace(identity, managers=(NOBODY,)), lambda: "r1")
        assert caught.value.code is Code.UNAVAILABLE
        with pytest.raises(SwarmError, match="this node knows no manager"):
            await process.be_let_go(msgspec.structs.replace(identity, managers=()), lambda: "r1")
