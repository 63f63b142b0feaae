"""Clients: each asks one thing after the other, of whom it takes for the leader, until it is told or gives up."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from swarmpy.errors import SwarmError
from tests.sim.raft.cluster import Cluster
from tests.sim.raft.history import Kind, Operation
from tests.sim.raft.host import Host
from tests.sim.raft.loop import end
from tests.sim.raft.machine import HARMLESS
from tests.sim.raft.options import stream
from tests.sim.raft.run import Run

PATIENCE_US: Final = 2_500_000
DOUBT_US: Final = 1_500_000
GIVES_UP: Final = 0.04
MOVES_ON: Final = 0.2  # else a client stays with whom it knows, even if others have left that one behind


class Clients:
    """The traffic. `busy` ends it: nothing new is asked then, what is under way is seen through."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._timeline = cluster, cluster.timeline
        self.busy = True
        self.answered = 0

    def start(self) -> None:
        for number in range(self._cluster.options.clients):
            self._cluster.spawn(self._live(number, stream(self._cluster.options.seed, f"client {number}")))
        self._cluster.spawn(self._doubt(stream(self._cluster.options.seed, "doubt")))

    async def _doubt(self, rng: random.Random) -> None:
        """Read from whoever led before, for a while after an election: it may not know yet."""
        number = self._cluster.options.clients
        while self.busy:
            await self._timeline.sleep(rng.randint(10_000, 80_000))
            host = self._cluster.hosts.get(self._cluster.former_id)
            if host is not None and self._timeline.now_us - self._cluster.elected_us < DOUBT_US:
                operation = self._cluster.history.invoke(number, Kind.READ, self._key(rng))
                answer = await self.ask(host, operation, "", rng)
                if answer is not None:
                    self.told(operation, answer)

    def _key(self, rng: random.Random) -> str:
        at, keys = rng.randrange(self._cluster.options.keys), self._cluster.options.keys
        return f"list{at}" if at < keys // 2 else f"reg{at}"

    async def _live(self, number: int, rng: random.Random) -> None:
        count, host = 0, self._choose(rng)
        while True:
            await self._timeline.sleep(int(rng.expovariate(1 / self._cluster.options.think_us)))
            if not self.busy:
                return
            count += 1
            operation = self._next(number, count, rng)
            safe = operation.kind is not Kind.WRITE or rng.random() < 0.7
            request_id = f"c{number}-{count}" if safe and operation.kind is not Kind.READ else ""
            while True:
                answer = await self.ask(host, operation, request_id, rng)
                if answer is None or rng.random() < MOVES_ON:
                    host = self._choose(rng)
                if answer is not None:
                    self.told(operation, answer)
                    break
                # A request without an id must not be made twice: nobody would know which of them it was.
                if not request_id and operation.kind is not Kind.READ:
                    break
                if rng.random() < GIVES_UP:
                    break
                await self._timeline.sleep(rng.randint(5_000, 200_000))

    def told(self, operation: Operation, answer: str) -> None:
        self.answered += 1
        self._cluster.history.answer(operation, answer)
        self._timeline.note("answer", operation)

    def _next(self, number: int, count: int, rng: random.Random) -> Operation:
        key, history = self._key(rng), self._cluster.history
        if key.startswith("list"):
            kind = rng.choice((Kind.READ, Kind.APPEND))
            return history.invoke(number, kind, key, f"{number}.{count}," if kind is Kind.APPEND else "")
        kind = rng.choice((Kind.READ, Kind.READ, Kind.WRITE, Kind.CAS))
        value = "" if kind is Kind.READ else f"{number}.{count}"
        expected = ""
        if kind is Kind.CAS:
            written = [o.argument for o in history.operations[-40:] if o.key == key and o.argument]
            expected = rng.choice(written[-3:]) if written else ""
        return history.invoke(number, kind, key, value, expected)

    def _choose(self, rng: random.Random) -> Host:
        hosts = self._cluster.hosts
        led = hosts.get(self._cluster.leader_id)
        if led is not None and rng.random() < 0.7:
            return led
        return rng.choice(self._cluster.serving() or list(hosts.values()))

    async def ask(self, host: Host, operation: Operation, request_id: str, rng: random.Random) -> str | None:
        """Ask one member; None if what came of it is not known."""
        await self._timeline.sleep(rng.randint(100, 2_000))
        run = host.run
        if run is None or not run.started:
            return None
        answer: asyncio.Future[str | None] = self._timeline.loop.create_future()
        late = self._timeline.after(rng.randint(PATIENCE_US // 8, PATIENCE_US), lambda: end(answer, None))
        run.spawn(self._serve(run, operation, request_id, answer))
        result = await answer
        late.cancel()
        await self._timeline.sleep(rng.randint(100, 2_000))
        return None if rng.random() < 0.01 else result

    async def _serve(self, run: Run, operation: Operation, request_id: str, answer: asyncio.Future[str | None]) -> None:
        result: str | None = None
        try:
            result = await run.machine.carry_out(operation, request_id)
        except SwarmError as error:
            if error.code not in HARMLESS:
                raise
        end(answer, result)
