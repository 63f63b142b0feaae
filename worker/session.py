"""The worker's session with the leading manager: one stream, made again elsewhere when it ends.

The tasks do not depend on it. A session begins with all statuses and a COMPLETE set of assignments, so nothing
has to be remembered of the one before, except statuses that were not acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import grpc
import grpc.aio
import structlog

from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.api.v1 import dispatcher_pb2_grpc
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.node import NodeDescription
from swarmpy.rpc.status import to_error
from worker import messages
from worker.alarms import Alarms
from worker.assignments import Known, diff, resolve
from worker.backoff import full_jitter_s
from worker.endpoints import EndpointsLink
from worker.logs.store import LogStore
from worker.logs.subscriptions import Subscriptions
from worker.outbox import Outbox
from worker.rota import Rota
from worker.standing import Standing
from worker.task.runner import TaskRunner

RETRY_BASE_S: Final = 0.1
RETRY_CAP_S: Final = 4.0
# A host that is gone is given up sooner, when its connection is not made in 5 s. A manager that a thousand workers come
# back to is slow, and who leaves before the answer only adds to that.
OPEN_WITHIN_S: Final = 15.0
SETTLED_AFTER_S: Final = 1.0
_log = structlog.get_logger()

Call = grpc.aio.StreamStreamCall[pb.WorkerMessage, pb.ManagerMessage]


class Dialer(Protocol):
    """How a manager is reached."""

    def dial(self, address: str) -> grpc.aio.Channel:
        """Return a channel to the manager at `address` (host:port); the session closes it."""


class Session:
    """Keeps one worker in touch with its cluster.

    `managers` is the last known list; `connected_to` is the manager's address while a session is open, else empty;
    `last_error` is why the last one ended or did not come about.
    """

    def __init__(
        self,
        *,
        runner: TaskRunner,
        endpoints: EndpointsLink,
        logs: LogStore,
        alarms: Alarms,
        clock: Clock,
        rng: random.Random,
        describe: Callable[[], Awaitable[NodeDescription]],
        addr: str,
        data_addr: str,
        boot_id: str,
        managers: Sequence[str],
        on_managers: Callable[[Sequence[str]], None] = lambda _: None,
        manager_addr: Callable[[], str] = lambda: "",
        feature_level: int = 0,
        on_standing: Callable[[Standing], None] = lambda _: None,
    ) -> None:
        """
        Args:
            describe: returns what the node says of itself, asked at the beginning of each session.
            managers: `host:port` of the managers known so far, at least one.
            on_managers: told when the list changes, so that it can be kept on disk.
            manager_addr: returns `host:port` of this node's own manager, empty if it runs none.
            feature_level: what that manager can store.
            on_standing: told what the cluster says that this node is.
        """
        self._runner = runner
        self._endpoints = endpoints
        self._logs = logs
        self._alarms = alarms
        self._clock = clock
        self._rng = rng
        self._describe = describe
        self._addr = addr
        self._data_addr = data_addr
        self._boot_id = boot_id
        self._on_managers = on_managers
        self._manager_addr = manager_addr
        self._feature_level = feature_level
        self._on_standing = on_standing
        self._known = Known()
        self._said_applied: tuple[int, tuple[str, ...]] = (0, ())
        self._outbox: Outbox | None = None
        self._left = False
        self._subscriptions: Subscriptions | None = None
        self.managers = tuple(managers)
        self.connected_to = ""
        self.sessions = 0
        self.last_error: SwarmError | None = None

    async def run(self, dialer: Dialer) -> None:
        """Keep a session open until cancelled, or until the node has left its cluster.

        When one ends, all managers are tried in turn without delay, the leader first if one of them names it; after a
        round in vain comes a pause of up to 100 ms, then longer ones of up to 4 s.
        """
        self._endpoints.on_applied = self._applied
        self._endpoints.on_stale = self.restart
        rota = Rota()
        while not self._left:
            address = rota.next(self.managers)
            began_s, before = self._clock.monotonic(), self.sessions
            self.last_error = await self._once(dialer, address)
            _log.info("session over", manager=address, error=self.last_error.message)
            settled = self.sessions > before and self._clock.monotonic() - began_s >= SETTLED_AFTER_S
            rounds = rota.ended(self.last_error, self.managers, settled=settled)
            if rounds:
                await self._clock.sleep(full_jitter_s(rounds - 1, self._rng, base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S))

    def restart(self, reason: str) -> None:
        """End the present session, if there is one, so that the next brings everything anew."""
        if self._outbox is not None:
            _log.info("asking for a new session", reason=reason)
            self._outbox.end()

    def leave(self) -> None:
        """Tell the manager that this node has left its cluster; no session is opened after that."""
        self._left = True
        if self._outbox is not None:
            self._outbox.say_goodbye()

    async def _once(self, dialer: Dialer, address: str) -> SwarmError:
        """Hold one session with the manager at `address`; return why it ended."""
        description = await self._describe()
        channel = dialer.dial(address)
        try:
            call: Call = dispatcher_pb2_grpc.DispatcherStub(channel).Session()
            try:
                welcome = await self._open(call, description)
                self.connected_to = address
                self.sessions += 1
                _log.info("session open", manager=address, session=welcome.session_id)
                return await self._hold(call, welcome)
            finally:
                self.connected_to = ""
                call.cancel()
        except grpc.RpcError as error:
            return _unreachable(to_error(error), address)
        except TimeoutError:
            return SwarmError(Code.UNAVAILABLE, f"the manager at {address} did not answer in {OPEN_WITHIN_S:g} s")
        except SwarmError as error:
            return error
        except ValueError as error:
            return SwarmError(Code.CORRUPT, f"the manager at {address} sent what cannot be read: {error}")
        finally:
            await channel.close()

    async def _open(self, call: Call, description: NodeDescription) -> pb.Welcome:
        self._endpoints.session_begins()
        self._said_applied = self._endpoints.applied
        first = messages.hello(
            description,
            addr=self._addr,
            data_addr=self._data_addr,
            boot_id=self._boot_id,
            statuses=self._runner.statuses,
            applied=self._said_applied,
            manager_addr=self._manager_addr(),
            feature_level=self._feature_level,
        )
        async with asyncio.timeout(OPEN_WITHIN_S):
            with contextlib.suppress(asyncio.InvalidStateError):  # the call has ended; reading tells why
                await call.write(first)
            message = await _read(call)
        if message.WhichOneof("message") != "welcome":
            raise SwarmError(Code.CORRUPT, "the manager began a session without a welcome")
        welcome = message.welcome
        if not messages.PROTOCOL_MIN <= welcome.protocol <= messages.PROTOCOL_MAX:
            raise SwarmError(
                Code.NOT_SUPPORTED,
                f"the manager speaks protocol {welcome.protocol}, this node {messages.PROTOCOL_MAX}:"
                " bring both to one release",
            )
        self._take_managers(welcome.managers)
        return welcome

    async def _hold(self, call: Call, welcome: pb.Welcome) -> SwarmError:
        outbox = Outbox(self._runner.reports, self._alarms, heartbeat_s=welcome.heartbeat_period_s)
        outbox.open()
        self._outbox = outbox
        if self._endpoints.applied != self._said_applied:  # it went on while the session was being opened
            outbox.applied(*self._endpoints.applied)
        try:
            async with asyncio.TaskGroup() as group:
                subscriptions = Subscriptions(self._logs, self._runner.is_live, outbox.put_chunk, group)
                self._subscriptions = subscriptions
                writer = group.create_task(_write(call, outbox))
                ended = await self._read_all(call)
                writer.cancel()
                subscriptions.close()
            return ended
        finally:
            self._outbox = self._subscriptions = None
            outbox.close()

    async def _read_all(self, call: Call) -> SwarmError:
        """Take what comes until the stream ends; return why."""
        try:
            while True:
                self._take(await _read(call))
        except grpc.RpcError as error:
            return to_error(error)
        except SwarmError as error:
            return error
        except ValueError as error:
            return SwarmError(Code.CORRUPT, f"the manager sent what cannot be read: {error}")

    def _take(self, message: pb.ManagerMessage) -> None:
        match message.WhichOneof("message"):
            case "assignments":
                self._assign(message.assignments)
            case "endpoints":
                self._endpoints.forward(message.endpoints.update)
            case "drain":
                self._runner.drain(message.drain.settled, message.drain.busy)
            case "status_ack":
                self._runner.reports.acknowledge(message.status_ack.sequence)
            case "log_subscription":
                self._subscribe(message.log_subscription)
            case "managers":
                self._take_managers(message.managers.managers)
            case "node":
                self._on_standing(messages.standing_of(message.node))

    def _assign(self, message: pb.Assignments) -> None:
        batch = messages.batch_of(message)
        tasks, self._known = resolve(batch, self._known)
        self._runner.apply(diff(self._runner.assignments, batch, tasks))

    def _subscribe(self, message: pb.LogSubscription) -> None:
        assert self._subscriptions is not None, "messages are taken while the session is held"
        if message.cancel:
            self._subscriptions.cancel(message.id)
        else:
            self._subscriptions.start(messages.subscription_of(message))

    def _take_managers(self, managers: Sequence[str]) -> None:
        if managers and tuple(managers) != self.managers:
            self.managers = tuple(managers)
            self._on_managers(self.managers)

    def _applied(self, revision: int, busy: tuple[str, ...]) -> None:
        if self._outbox is not None:
            self._outbox.applied(revision, busy)


def _unreachable(error: SwarmError, address: str) -> SwarmError:
    """Return `error`, in words for people where gRPC says only that it could not connect."""
    if error.code is not Code.UNAVAILABLE or "connect" not in error.message:
        return error
    return SwarmError(Code.UNAVAILABLE, f"the manager at {address} cannot be reached: {_refusal(error.message)}")


def _refusal(details: str) -> str:
    known = ("Connection refused", "Connection timed out", "No route to host", "Network is unreachable")
    return next((reason.lower() for reason in known if reason in details), "no connection")


async def _read(call: Call) -> pb.ManagerMessage:
    """Return the next message.

    Raises:
        SwarmError: UNAVAILABLE, the manager has ended the stream in good order.
        grpc.RpcError: it broke.
    """
    message: Any = await call.read()
    if message is grpc.aio.EOF:
        raise SwarmError(Code.UNAVAILABLE, "the manager ended the session")
    assert isinstance(message, pb.ManagerMessage), "the stub decodes nothing else"
    return message


async def _write(call: Call, outbox: Outbox) -> None:
    try:
        await outbox.drain_to(call.write)
        await call.done_writing()
    except (grpc.RpcError, asyncio.InvalidStateError):
        return  # the stream is over, and the reader learns why
