"""Beginning anew with this node as the only manager: without a quorum, or from a snapshot file.

The manager does it, at a start, by an order that is left for it; `manager.recovery` says how.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import grpc
import msgspec
import structlog

from swarmpy.api.v1 import control_pb2, control_pb2_grpc
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.files import write_atomic
from swarmpy.ids import RandomBytes, new_id
from swarmpy.model.recovery import ORDER_FILE, REPORT_FILE, STATE_FILE, RecoveryKind, RecoveryOrder, RecoveryReport
from swarmpy.rpc.dial import unix_channel
from swarmpy.rpc.status import to_error
from swarmpy.snapshot.draft import Draft
from swarmpy.snapshot.format import Header
from worker.host import Place
from worker.managing import ManagerProcess

log = structlog.get_logger(__name__)

DEADLINE_S: Final = 100.0
"""A state of a million tasks is read and written again in well under a minute."""
ASK_WITHIN_S: Final = 5.0
LOOK_S: Final = 0.05


class Recovery:
    """Has this node's manager begin anew."""

    def __init__(self, place: Place, manager: ManagerProcess, clock: Clock, random_bytes: RandomBytes) -> None:
        self._place, self._manager, self._clock, self._random_bytes = place, manager, clock, random_bytes

    async def why_nobody_leads(self) -> str:
        """Return a warning if it is not sure that no manager leads; empty if this node's manager says so.

        Raises:
            SwarmError: FAILED_PRECONDITION, a manager leads.
        """
        try:
            async with asyncio.timeout(ASK_WITHIN_S):
                answer = await self._ask_consensus()
        except TimeoutError:
            return _unsure("it does not answer")
        except SwarmError as error:
            return _unsure(error.message)
        if not answer.leader_id:
            return ""
        leader = next((m for m in answer.members if m.member_id == answer.leader_id), None)
        name = (leader.hostname if leader is not None else "") or answer.leader_addr or f"member {answer.leader_id}"
        raise precondition(
            f"manager {name} leads the swarm, so nothing has to be forced: --force-new-cluster is for a swarm "
            "whose managers have lost their quorum; if that was only seconds ago, try again"
        )

    async def force(self) -> tuple[str, ...]:
        """Have the manager go on alone with what it has; return what it keeps, in sentences.

        Raises:
            SwarmError: FAILED_PRECONDITION, it cannot; UNAVAILABLE, it did not come up in time.
        """
        order = RecoveryOrder(id=new_id(self._random_bytes), kind=RecoveryKind.FORCE)
        self._leave(order)
        try:
            await self._manager.restart()
            return await self._outcome(order)
        finally:
            # It must not be carried out at some later start, when there may be a quorum again.
            self._order_path.unlink(missing_ok=True)

    async def receive(self, chunks: AsyncIterator[bytes]) -> Header:
        """Keep a snapshot file for the manager; return what it is of.

        Raises:
            SwarmError: CORRUPT, FAILED_PRECONDITION, RESOURCE_EXHAUSTED: it is not sound, or cannot be kept.
        """
        self._manager.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with Draft(self._manager.directory / STATE_FILE) as draft:
            async for chunk in chunks:
                await asyncio.to_thread(draft.write, chunk)
            verified = await asyncio.to_thread(draft.finish)
        return verified.header

    async def restore(self) -> tuple[str, ...]:
        """Have the manager begin with the file that was received; return what it keeps, in sentences.

        Raises:
            SwarmError: as `force`.
        """
        order = RecoveryOrder(id=new_id(self._random_bytes), kind=RecoveryKind.RESTORE, hostname=self._place.hostname)
        self._leave(order)
        await self._manager.run()
        return await self._outcome(order)

    @property
    def _order_path(self) -> Path:
        return self._manager.directory / ORDER_FILE

    def _leave(self, order: RecoveryOrder) -> None:
        write_atomic(self._order_path, msgspec.msgpack.encode(order))

    async def _outcome(self, order: RecoveryOrder) -> tuple[str, ...]:
        """Wait until the order is carried out and the manager serves."""
        path = self._manager.directory / "raft" / REPORT_FILE
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    # Asked first: a manager that serves before the report is there is the one before.
                    report = _read_report(path)
                    if await self._manager.serves() and report is not None and report.order_id == order.id:
                        return report.kept
                    await self._clock.sleep(LOOK_S)
        except TimeoutError as error:
            raise SwarmError(
                Code.UNAVAILABLE,
                f"the manager does not serve after {DEADLINE_S:g} s: see the log of swarmpyd",
                retryable=False,
            ) from error

    async def _ask_consensus(self) -> control_pb2.GetConsensusResponse:
        async with unix_channel(self._place.control_socket) as channel:
            stub = control_pb2_grpc.ControlStub(channel)
            try:
                answer: control_pb2.GetConsensusResponse = await stub.GetConsensus(
                    control_pb2.GetConsensusRequest(), timeout=ASK_WITHIN_S
                )
            except grpc.RpcError as error:
                raise to_error(error) from error
        return answer


def _read_report(path: Path) -> RecoveryReport | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=RecoveryReport)
    except FileNotFoundError:
        return None


def _unsure(reason: str) -> str:
    return (
        f"warning: this node's manager could not be asked whether another one leads ({reason}); if one does, there "
        "are two swarms now: stop the other managers"
    )
