"""This node's manager process, as the worker has it started, watched and stopped by swarmpyd."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import structlog

from swarmpy.api.v1 import control_pb2, control_pb2_grpc, membership_pb2, membership_pb2_grpc, node_pb2_grpc
from swarmpy.api.v1 import node_pb2 as pb
from swarmpy.clock import Clock
from swarmpy.daemon.client import AsyncSupervisorClient
from swarmpy.daemon.client import socket_path as supervisor_socket
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.rpc.dial import manager_channel, unix_channel
from swarmpy.rpc.status import to_error
from swarmpy.security.identity import Identity
from worker.host import Place

log = structlog.get_logger(__name__)

START_DEADLINE_S: Final = 20.0
STOP_DEADLINE_S: Final = 15.0
LEAVE_DEADLINE_S: Final = 20.0
LOOK_S: Final = 0.02
CONSENSUS_DEADLINE_S: Final = 5.0  # it may wait for the leader before it answers


class ManagerProcess:
    """Starts and stops the manager of this node."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self._place, self._clock = place, clock

    @property
    def directory(self) -> Path:
        """Where the manager keeps everything that it has."""
        return self._place.state_dir / "manager"

    async def start(self) -> None:
        """Have it run; returns once it serves.

        Raises:
            SwarmError: FAILED_PRECONDITION, it refused to run (its own sentence); UNAVAILABLE, it does not serve yet.
        """
        await self._call("set_role", manager=True)
        if not await self._within(START_DEADLINE_S, self.serves):
            raise SwarmError(
                Code.UNAVAILABLE,
                f"the manager does not serve after {START_DEADLINE_S:g} s: see `swarmpy swarm status` and the log of "
                "swarmpyd",
                retryable=False,
            )

    async def run(self) -> None:
        """Have it run, without waiting for it."""
        await self._call("set_role", manager=True)

    async def restart(self) -> None:
        """Have it started again: it takes up what has changed on disk, such as its certificate."""
        await self._call("restart", process="manager")

    async def stop(self) -> None:
        """Have it stopped; returns once it is gone. UNAVAILABLE: it is not gone in time."""
        await self._call("set_role", manager=False)
        if not await self._within(STOP_DEADLINE_S, self._is_gone):
            raise SwarmError(
                Code.UNAVAILABLE, f"the manager has not ended after {STOP_DEADLINE_S:g} s: see the log of swarmpyd"
            )

    async def forget(self) -> None:
        """Stop it and remove all that it has stored: this node is no manager any more."""
        await self.stop()
        await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)

    async def be_let_go(self, identity: Identity, request_id: Callable[[], str]) -> None:
        """Ask the other managers to go on without this one.

        Raises:
            SwarmError: they cannot, or nobody answers.
        """
        request = membership_pb2.LeaveManagersRequest(request_id=request_id())
        failure = precondition("this node knows no manager")
        for address in identity.managers:
            async with manager_channel(identity, address) as channel:
                stub = membership_pb2_grpc.MembershipStub(channel)
                try:
                    await stub.LeaveManagers(request, timeout=LEAVE_DEADLINE_S)
                except grpc.RpcError as error:
                    failure = to_error(error)
                    if not failure.retryable:
                        raise failure from error
                else:
                    return
        raise failure

    async def _is_gone(self) -> bool:
        return (await self._call("status"))["processes"]["manager"]["pid"] is None

    async def _within(self, limit_s: float, is_so: Callable[[], Awaitable[bool]]) -> bool:
        """Look until something is so, for `limit_s` at most; return whether it is."""
        until_s = self._clock.monotonic() + limit_s
        while not await is_so():
            if self._clock.monotonic() >= until_s:
                return False
            await self._clock.sleep(LOOK_S)
        return True

    async def _call(self, op: str, **fields: Any) -> dict[str, Any]:
        client = AsyncSupervisorClient(supervisor_socket(self._place.state_dir))
        try:
            return await client.call(op, **fields)
        finally:
            client.close()

    async def member_id(self) -> int | None:
        """Return which member of the managers' group it is; None while it does not answer."""
        async with unix_channel(self._place.control_socket) as channel:
            try:
                stub = control_pb2_grpc.ControlStub(channel)
                answer = await stub.GetConsensus(control_pb2.GetConsensusRequest(), timeout=CONSENSUS_DEADLINE_S)
            except grpc.RpcError:
                return None
        return int(answer.member_id)

    async def serves(self) -> bool:
        """Return whether it serves. FAILED_PRECONDITION: it refused to run (its own sentence)."""
        note = self._place.state_dir / "run" / "manager.error"
        if note.exists():
            raise SwarmError(Code.FAILED_PRECONDITION, note.read_text().strip().removeprefix("manager: "))
        if not self._place.control_socket.exists():
            return False
        async with unix_channel(self._place.control_socket) as channel:
            try:
                answer = await node_pb2_grpc.HealthStub(channel).Check(pb.HealthRequest(), timeout=1.0)
            except grpc.RpcError:
                return False
        return bool(answer.serving)
