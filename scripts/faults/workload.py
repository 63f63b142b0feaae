"""Clients that read and write through all managers, and keep what they were told.

A register is the label `value` of a service without tasks, for that is the one thing that users can change under a
condition (`UpdateService` names the version that was read, which only users' changes move) and read back at once. A
compare-and-set reads the register; if it finds something else it is answered "no", otherwise it writes on the
condition that nothing has changed. All values differ, so a condition that fails means that another value is there.
A write does the same until it succeeds. An append is a new config with the client's next number in its name.

One process sees all calls and answers, so their order is that of its own monotonic clock.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from scripts.cluster import Node
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import control_pb2_grpc
from swarmpy.errors import Code, SwarmError
from swarmpy.rpc.dial import unix_channel
from swarmpy.rpc.status import to_error
from tests.sim.raft.history import History, Kind, Operation

T = TypeVar("T")

CALL_S: Final = 2.0
THINK_S: Final = 0.03
PAUSE_S: Final = 0.1
PATIENCE_S: Final = 60.0
GIVES_UP: Final = 0.02
ASKS_TWICE: Final = 0.1
APPENDS: Final = 0.35
LABEL: Final = "value"
NO_ANSWER: Final = frozenset(
    {
        Code.UNAVAILABLE,
        Code.NOT_LEADER,
        Code.DEADLINE_EXCEEDED,
        Code.RESOURCE_EXHAUSTED,
        Code.PERMISSION_DENIED,  # of a manager that is being let go, by the one that leads
    }
)
"""Nobody knows what came of it, or it was not done: the same request is made again, elsewhere."""


@dataclass
class Append:
    """One append: `config_ids` are all answers that it got, however often it was asked for."""

    name: str
    config_ids: list[str] = field(default_factory=list)


class WrongAnswerError(Exception):
    """A manager has answered what it never may."""


class Doors:
    """The managers' sockets. A call goes to one of them; `None` is no answer."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._channels = [unix_channel(node.state_dir / "run" / "control.sock") for node in nodes]
        self.stubs = [control_pb2_grpc.ControlStub(channel) for channel in self._channels]

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def ask(self, door: int, method: str, request: Any) -> Any:
        """Return the answer, None if there was none. SwarmError: it was refused for good."""
        try:
            return await getattr(self.stubs[door], method)(request, timeout=CALL_S)
        except grpc.RpcError as error:
            failure = to_error(error)
            if failure.code in NO_ANSWER:
                return None
            raise failure from error


class Client:
    """Does one thing after the other, at one manager until that fails it."""

    def __init__(
        self, number: int, doors: Doors, services: dict[str, str], history: History, rng: random.Random
    ) -> None:
        """
        Args:
            services: the id of the service behind each register.
        """
        self._number, self._doors, self._services, self._history, self._rng = number, doors, services, history, rng
        self._door = number % len(doors.stubs)
        self._count = 0
        self._known: dict[str, str] = {}
        self.appends: list[Append] = []

    async def run(self, may_go_on: Callable[[], bool]) -> None:
        """Work while it may; what is under way at the end is seen through."""
        while may_go_on():
            await asyncio.sleep(self._rng.expovariate(1 / THINK_S))
            self._count += 1
            if self._rng.random() < APPENDS:
                await self._append()
            else:
                await self._use(self._rng.choice(sorted(self._services)))

    async def read(self, key: str, door: int) -> None:
        """Read a register at a certain manager."""
        self._door = door
        operation = self._history.invoke(self._number, Kind.READ, key)
        self._told(operation, await self._persist(lambda: self._read(key)))

    async def _use(self, key: str) -> None:
        kind = self._rng.choice((Kind.READ, Kind.READ, Kind.WRITE, Kind.CAS))
        value = "" if kind is Kind.READ else f"{self._number}.{self._count}"
        expected = self._known.get(key, "") if kind is Kind.CAS else ""
        operation = self._history.invoke(self._number, kind, key, value, expected)
        if kind is Kind.READ:
            self._told(operation, await self._persist(lambda: self._read(key)))
        else:
            self._told(operation, await self._write(operation))

    def _told(self, operation: Operation, result: str | None) -> None:
        if result is not None:
            self._history.answer(operation, result)

    async def _persist(self, attempt: Callable[[], Awaitable[T | None]]) -> T | None:
        """Return the first answer of `attempt`, made at one manager after the other; None if it is given up."""
        until_s = time.monotonic() + PATIENCE_S
        while (answer := await attempt()) is None:
            if time.monotonic() > until_s:
                raise WrongAnswerError(f"client {self._number} has had no answer for {PATIENCE_S:g} s")
            if self._rng.random() < GIVES_UP:
                return None
            self._door = self._rng.randrange(len(self._doors.stubs))
            await asyncio.sleep(self._rng.uniform(0, PAUSE_S))
        return answer

    async def _read(self, key: str) -> str | None:
        found = await self._get(key)
        return None if found is None else self._value(key, found)

    async def _write(self, operation: Operation) -> str | None:
        """Write, if the operation's condition holds. None: it is not known, and was given up."""
        while True:
            found = await self._persist(lambda: self._get(operation.key))
            if found is None:
                return None
            if operation.kind is Kind.CAS and self._value(operation.key, found) != operation.expected:
                return "no"
            request = pb.UpdateServiceRequest(
                request_id=self._request_id(), service_id=found.service.id, version=found.service.version
            )
            request.spec.CopyFrom(found.service.spec)
            request.spec.labels[LABEL] = operation.argument
            try:
                if await self._make("UpdateService", request) is None:
                    return None
            except SwarmError as error:
                if error.code is not Code.OUT_OF_SEQUENCE:
                    raise
                if operation.kind is Kind.CAS:
                    return "no"
            else:
                return "yes" if operation.kind is Kind.CAS else ""

    async def _append(self) -> None:
        append = Append(f"append-{self._number}-{self._count:05d}")
        self.appends.append(append)
        request = pb.CreateConfigRequest(request_id=self._request_id())
        request.spec.name = append.name
        request.spec.data = append.name.encode()
        for _ in range(2 if self._rng.random() < ASKS_TWICE else 1):
            answer = await self._make("CreateConfig", request)
            if answer is not None:
                append.config_ids.append(answer.config.id)
            self._door = self._rng.randrange(len(self._doors.stubs)) if self._rng.random() < 0.5 else self._door

    async def _get(self, key: str) -> Any:
        return await self._ask("GetService", pb.GetServiceRequest(ref=self._services[key]))

    async def _make(self, method: str, request: Any) -> Any:
        """Make a request that changes something, with its one id, until it is answered or given up."""
        return await self._persist(lambda: self._ask(method, request))

    async def _ask(self, method: str, request: Any) -> Any:
        return await self._doors.ask(self._door, method, request)

    def _value(self, key: str, found: Any) -> str:
        self._known[key] = value = str(found.service.spec.labels.get(LABEL, ""))
        return value

    def _request_id(self) -> str:
        return f"{self._number}-{self._rng.getrandbits(96):024x}"
