"""The worker's part in beginning anew: the order, what comes of it, and that it never outlives its command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import msgspec
import pytest

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.clock import SystemClock
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.model.recovery import ORDER_FILE, REPORT_FILE, STATE_FILE, RecoveryKind, RecoveryOrder, RecoveryReport
from tests.support.snapshots import HEADER, encode
from worker.host import Place
from worker.managing import ManagerProcess
from worker.recovery import Recovery


class FakeManager:
    """A manager process that carries an order out once it runs; `refusal` is its last sentence instead."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.refusal: SwarmError | None = None
        self.orders: list[RecoveryOrder] = []

    async def run(self) -> None:
        self._carry_out()

    async def restart(self) -> None:
        self._carry_out()

    async def serves(self) -> bool:
        if self.refusal is not None:
            raise self.refusal
        return True

    def _carry_out(self) -> None:
        order = msgspec.msgpack.decode((self.directory / ORDER_FILE).read_bytes(), type=RecoveryOrder)
        self.orders.append(order)
        if self.refusal is None:
            (self.directory / "raft").mkdir(exist_ok=True)
            report = RecoveryReport(order_id=order.id, member_id=4, kept=("kept: all",))
            (self.directory / "raft" / REPORT_FILE).write_bytes(msgspec.msgpack.encode(report))


@pytest.fixture
def manager(tmp_path: Path) -> FakeManager:
    directory = tmp_path / "manager"
    directory.mkdir()
    return FakeManager(directory)


@pytest.fixture
def recovery(tmp_path: Path, manager: FakeManager) -> Recovery:
    (tmp_path / "run").mkdir()
    place = Place(tmp_path, "127.0.0.1", "127.0.0.1", "m9", "boot")
    return Recovery(place, cast("ManagerProcess", manager), SystemClock(), bytes)


async def stream(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 50):
        yield data[start : start + 50]


async def asked(tmp_path: Path, recovery: Recovery, answer: pb.GetConsensusResponse) -> str:
    async def get_consensus(request: pb.GetConsensusRequest, context: Any) -> pb.GetConsensusResponse:
        return answer

    handler = grpc.unary_unary_rpc_method_handler(
        get_consensus, pb.GetConsensusRequest.FromString, pb.GetConsensusResponse.SerializeToString
    )
    server = grpc.aio.server()
    control = grpc.method_handlers_generic_handler("swarmpy.api.v1.Control", {"GetConsensus": handler})
    server.add_generic_rpc_handlers((control,))
    server.add_insecure_port(f"unix:{tmp_path / 'run' / 'control.sock'}")
    await server.start()
    try:
        return await recovery.why_nobody_leads()
    finally:
        await server.stop(None)


async def test_a_manager_that_says_that_nobody_leads_is_believed(tmp_path: Path, recovery: Recovery) -> None:
    assert await asked(tmp_path, recovery, pb.GetConsensusResponse(member_id=1)) == ""


async def test_where_a_manager_leads_nothing_is_forced(tmp_path: Path, recovery: Recovery) -> None:
    answer = pb.GetConsensusResponse(member_id=1, leader_id=2, leader_addr="10.0.0.2:2377")
    with pytest.raises(SwarmError, match=r"manager 10.0.0.2:2377 leads the swarm, so nothing has to be forced: "):
        await asked(tmp_path, recovery, answer)
    answer.members.add(member_id=2, hostname="m2")
    with pytest.raises(SwarmError, match="manager m2 leads the swarm") as caught:
        await asked(tmp_path, recovery, answer)
    assert caught.value.code is Code.FAILED_PRECONDITION


async def test_without_an_answer_there_is_a_warning(recovery: Recovery) -> None:
    said = await recovery.why_nobody_leads()
    assert said.startswith("warning: this node's manager could not be asked whether another one leads (")
    assert said.endswith("); if one does, there are two swarms now: stop the other managers")


async def test_the_manager_is_given_an_order_and_its_report_is_told(recovery: Recovery, manager: FakeManager) -> None:
    assert await recovery.force() == ("kept: all",)
    assert await recovery.restore() == ("kept: all",)
    assert [(order.kind, order.hostname) for order in manager.orders] == [
        (RecoveryKind.FORCE, ""),
        (RecoveryKind.RESTORE, "m9"),
    ]


async def test_an_order_that_is_refused_is_withdrawn(recovery: Recovery, manager: FakeManager) -> None:
    manager.refusal = precondition("the swarm was not begun anew")
    with pytest.raises(SwarmError, match="the swarm was not begun anew"):
        await recovery.force()
    assert not (manager.directory / ORDER_FILE).exists()


async def test_a_file_is_kept_once_it_is_proved(recovery: Recovery, manager: FakeManager) -> None:
    sound = encode()
    assert await recovery.receive(stream(sound)) == HEADER
    assert (manager.directory / STATE_FILE).read_bytes() == sound
    (manager.directory / STATE_FILE).unlink()
    with pytest.raises(SwarmError, match=f"is cut off after {len(sound) - 3} bytes"):
        await recovery.receive(stream(sound[:-3]))
    assert not list(manager.directory.iterdir())
