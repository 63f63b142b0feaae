"""Two managers on UNIX sockets, with real gRPC between them; what they agree on is a fake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from manager.api.relay import CALLER_KEY, FORWARDED_KEY, LeaderCalls, Relay
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import control_pb2_grpc
from swarmpy.errors import Code, NotLeaderError, SwarmError
from swarmpy.rpc.dial import unix_channel
from swarmpy.rpc.server import Boundary
from swarmpy.rpc.stale import STALE_KEY
from swarmpy.rpc.status import to_error
from tests.support.clock import FakeClock

# ruff: noqa: N802  # the methods are named by the .proto

DEADLINE_S = 10.0


@dataclass
class FakeConsensus:
    """One manager's knowledge of who leads."""

    is_leader: bool = False
    leader_addr: str = ""
    barriers: int = 0
    quorum: bool = True
    callbacks: list[Callable[[], None]] = field(default_factory=list)

    @contextmanager
    def when_leader_changes(self, callback: Callable[[], None]) -> Iterator[None]:
        self.callbacks.append(callback)
        yield
        self.callbacks.remove(callback)

    async def read_barrier(self) -> None:
        self.barriers += 1
        if not self.quorum:
            raise SwarmError(Code.UNAVAILABLE, "no quorum", retryable=False)


@dataclass
class ElectionClock(FakeClock):
    """A clock on which waiting takes no time, and in which something happens at each wait."""

    events: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def sleep(self, delay_s: float) -> None:
        if self.events:
            self.events.pop(0)()
        await asyncio.sleep(0)


@dataclass
class Manager(control_pb2_grpc.ControlServicer):
    """Answers with its name; `refusals` come first, one a call."""

    name: str
    consensus: FakeConsensus
    calls: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[SwarmError] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    stuck: asyncio.Event | None = None

    def _note(self, context: Any) -> None:
        self.calls.append(dict(context.invocation_metadata()))
        self.called.set()
        if self.refusals:
            raise self.refusals.pop(0)

    async def RemoveService(self, request: pb.RemoveServiceRequest, context: Any) -> pb.RemoveServiceResponse:
        self._note(context)
        if self.stuck is not None:
            await self.stuck.wait()
        return pb.RemoveServiceResponse(service_id=f"{request.ref} by {self.name}")

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.GetTaskResponse:
        self._note(context)
        return pb.GetTaskResponse()

    async def Logs(self, request: pb.LogsRequest, context: Any) -> AsyncIterator[pb.LogsResponse]:
        self._note(context)
        yield pb.LogsResponse(warnings=[self.name])


@dataclass
class Pair:
    """m1, which the caller is connected to, and m2."""

    m1: Manager
    m2: Manager
    clock: ElectionClock
    stub: Any

    def elect(self, leader: Manager | None) -> None:
        for manager in (self.m1, self.m2):
            manager.consensus.is_leader = manager is leader
            manager.consensus.leader_addr = leader.name if leader else ""
            for callback in manager.consensus.callbacks:
                callback()

    async def remove(self, **kwargs: Any) -> str:
        request = pb.RemoveServiceRequest(request_id="r1", ref="web")
        answer = await self.stub.RemoveService(request, timeout=DEADLINE_S, **kwargs)
        return str(answer.service_id)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    clock = ElectionClock()
    make: Any = Manager  # it serves three calls of the API, and the others not at all
    managers: dict[str, Manager] = {name: make(name, FakeConsensus()) for name in ("m1", "m2")}
    channels = {name: unix_channel(tmp_path / name) for name in managers}

    @asynccontextmanager
    async def served(manager: Manager) -> AsyncIterator[None]:
        relay = Relay(
            LeaderCalls(manager.consensus, channels.__getitem__, clock), f"node-{manager.name}", lambda _: "node-w1"
        )
        server = grpc.aio.server(interceptors=(Boundary(), relay))
        control_pb2_grpc.add_ControlServicer_to_server(manager, server)
        server.add_insecure_port(f"unix:{tmp_path / manager.name}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(None)

    async with served(managers["m1"]), served(managers["m2"]), channels["m1"], channels["m2"]:
        yield Pair(managers["m1"], managers["m2"], clock, control_pb2_grpc.ControlStub(channels["m1"]))


async def failure(call: Any) -> SwarmError:
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return to_error(caught.value)


async def test_the_leader_does_its_writes_itself(pair: Pair) -> None:
    pair.elect(pair.m1)
    assert await pair.remove() == "web by m1"
    assert pair.m1.consensus.barriers == 0
    assert pair.m2.calls == []


async def test_another_manager_relays_a_write_once_and_says_who_relays(pair: Pair) -> None:
    pair.elect(pair.m2)
    assert await pair.remove() == "web by m2"
    assert pair.m1.calls == []
    assert [(call[FORWARDED_KEY], call[CALLER_KEY]) for call in pair.m2.calls] == [("node-m1", "node-w1")]


async def test_an_election_is_a_delay_and_no_error(pair: Pair) -> None:
    pair.elect(None)
    pair.clock.events = [lambda: None, lambda: pair.elect(pair.m2)]
    assert await pair.remove() == "web by m2"


async def test_a_leader_that_lost_the_lead_meanwhile_is_followed_by_the_next(pair: Pair) -> None:
    pair.elect(pair.m1)
    pair.m1.refusals = [SwarmError(Code.NOT_LEADER, "lost the lead")]
    pair.clock.events = [lambda: pair.elect(pair.m2)]
    assert await pair.remove() == "web by m2"


async def test_a_write_whose_outcome_is_unknown_is_made_again(pair: Pair) -> None:
    pair.elect(pair.m2)
    pair.m2.refusals = [SwarmError(Code.UNAVAILABLE, "stopping")]
    assert await pair.remove() == "web by m2"
    assert len(pair.m2.calls) == 2


async def test_a_leader_that_never_answers_is_given_up_when_another_leads(pair: Pair) -> None:
    pair.elect(pair.m2)
    pair.m2.stuck = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        removed = group.create_task(pair.remove())
        await pair.m2.called.wait()
        pair.elect(pair.m1)
        assert await removed == "web by m1"
        pair.m2.stuck.set()


async def test_a_lead_that_changes_again_while_a_call_is_given_up_harms_nobody(pair: Pair) -> None:
    pair.elect(pair.m2)
    pair.m2.stuck = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        removed = group.create_task(pair.remove())
        await pair.m2.called.wait()
        pair.elect(None)
        await asyncio.sleep(0)
        pair.elect(pair.m1)
        assert await removed == "web by m1"
        pair.m2.stuck.set()


async def test_a_refusal_of_the_leader_comes_back_as_it_is(pair: Pair) -> None:
    pair.elect(pair.m2)
    pair.m2.refusals = [SwarmError(Code.OUT_OF_SEQUENCE, "the service changed")]
    error = await failure(pair.remove())
    assert (error.code, error.message) == (Code.OUT_OF_SEQUENCE, "the service changed")
    assert len(pair.m2.calls) == 1


async def test_a_relayed_write_that_reaches_no_leader_is_not_relayed_again(pair: Pair) -> None:
    pair.elect(pair.m2)
    error = await failure(pair.remove(metadata=((FORWARDED_KEY, "node-m3"),)))
    assert isinstance(error, NotLeaderError)
    assert error.leader == "m2"
    assert error.message == "this manager does not lead, m2 does: try again there"
    assert pair.m2.calls == []


async def test_without_a_leader_by_the_deadline_the_caller_is_told_so(pair: Pair) -> None:
    pair.elect(None)
    request = pb.RemoveServiceRequest(request_id="r1", ref="web")
    error = await failure(pair.stub.RemoveService(request, timeout=0.3))
    assert error.code is Code.UNAVAILABLE
    assert "no manager leads: an election is under way" in error.message


async def test_a_read_is_made_current_unless_it_may_be_stale(pair: Pair) -> None:
    pair.elect(pair.m2)
    await pair.stub.GetTask(pb.GetTaskRequest(ref="t"), timeout=DEADLINE_S)
    assert pair.m1.consensus.barriers == 1
    await pair.stub.GetTask(pb.GetTaskRequest(ref="t"), timeout=DEADLINE_S, metadata=((STALE_KEY, "1"),))
    assert pair.m1.consensus.barriers == 1
    assert (len(pair.m1.calls), len(pair.m2.calls)) == (2, 0)


async def test_a_read_without_a_quorum_is_refused(pair: Pair) -> None:
    pair.m1.consensus.quorum = False
    error = await failure(pair.stub.GetTask(pb.GetTaskRequest(ref="t"), timeout=DEADLINE_S))
    assert (error.code, error.message) == (Code.UNAVAILABLE, "no quorum, or see what this manager has with --stale")
    assert pair.m1.calls == []


async def test_logs_come_from_the_leader(pair: Pair) -> None:
    pair.elect(pair.m2)
    answers = [answer.warnings[0] async for answer in pair.stub.Logs(pb.LogsRequest(ref="web"), timeout=DEADLINE_S)]
    assert answers == ["m2"]
