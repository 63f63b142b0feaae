"""The whole cluster of one run: what its parts share, and what happens between them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, Final

from manager.raft.config import CoreConfig
from manager.raft.log.snapshot_file import SnapshotReader
from manager.raft.node import NodeConfig
from manager.raft.succession import JITTER_S, stand_pauses_s
from manager.raft.types import NOBODY, ConfState, Message, Role, SnapshotMark
from swarmpy.errors import SwarmError
from tests.sim.raft.checks import Checks
from tests.sim.raft.history import History
from tests.sim.raft.host import Fate, Host
from tests.sim.raft.loop import Timeline
from tests.sim.raft.network import LATE_US, Network
from tests.sim.raft.options import Options, stream
from tests.sim.raft.run import Run

ANSWER_ATTEMPTS: Final = 200


class Cluster:
    """The machines, the wires between them, and what is known of them by who runs the simulation.

    Attributes:
        hosts: by member id; ids are never used twice.
        leader_id, former_id: who was the last one to win an election, and the one before; elected_us: when.
        slow: whether disks and state machines may be slow.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.timeline = Timeline()
        self.checks = Checks()
        self.history = History()
        self.rng: random.Random = stream(options.seed, "cluster")
        self.network = Network(self.timeline, stream(options.seed, "network"), self._arrive)
        self.node_config = NodeConfig(
            segment_bytes=options.segment_bytes,
            keep_entries=options.keep_entries,
            backlog_bytes=2_000 if "lag" in options.faults else 1 << 20,
            core=CoreConfig(max_message_bytes=options.max_message_bytes, max_inflight=options.max_inflight),
        )
        self.hosts: dict[int, Host] = {}
        self.slow = True
        self._tasks: set[asyncio.Task[None]] = set()
        self.leader_id = self.former_id = self.elected_us = 0
        conf = ConfState(voters=tuple(range(1, options.members + 1)))
        self.checks.confs[0] = self.checks.last_conf = conf
        for member_id in conf.voters:
            self.hosts[member_id] = Host(self, member_id, conf)

    def join(self) -> Host:
        """Add a machine whose member waits to be told who the others are."""
        member_id = max(self.hosts) + 1
        self.hosts[member_id] = host = Host(self, member_id, ConfState())
        host.start()
        return host

    def close(self) -> None:
        """End all that is still under way."""
        with self.timeline.loop.current():
            for run in self.running():
                run.kill()
            for task in list(self._tasks):
                task.cancel()
            self.timeline.loop.settle()
        self.timeline.loop.close()

    def serving(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.fate is Fate.SERVES]

    def running(self) -> list[Run]:
        return [host.run for host in self.hosts.values() if host.run is not None]

    def role_changed(self, run: Run) -> None:
        if run.node._core.role is Role.LEADER:
            self.former_id, self.leader_id = self.leader_id, run.member_id
            self.elected_us = self.timeline.now_us

    async def _stand(self, run: Run, rank: int) -> None:
        """Let a member stand until somebody leads, as `Engine` does."""
        for pause_s in stand_pauses_s(rank):
            await self.timeline.sleep(int((pause_s + self.rng.uniform(0, JITTER_S)) * 1e6))
            if run.node.leader_id != NOBODY:
                return
            run.post(run.node.campaign)

    @property
    def lost_ids(self) -> frozenset[int]:
        """The members that can never come back, those included of which that is not known yet."""
        return frozenset(host.member_id for host in self.hosts.values() if host.rotten or host.fate is not Fate.SERVES)

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a task outside of all members."""

        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except BaseException as failure:  # noqa: BLE001 - a task has nobody above it: the timeline raises it
                self.timeline.failures.append(failure)

        self._tasks.add(task := self.timeline.loop.create_task(guarded()))
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # it may never have begun

    # How long things take

    def sync_delay_us(self, rng: random.Random) -> int:
        delay_us = rng.randint(50, 600)
        if not self.slow or "lag" not in self.options.faults:
            return delay_us
        return delay_us * rng.choices((1, 20, 100), (80, 18, 2))[0]

    def apply_delay_us(self) -> int:
        delay_us = self.rng.randint(20, 200)
        return delay_us * 300 if self.slow and "lag" in self.options.faults and self.rng.random() < 0.05 else delay_us

    def snapshot_pause_us(self) -> int:
        return self.rng.randint(50_000, 400_000)

    # What happens between machines

    def _arrive(self, message: Message) -> None:
        host = self.hosts.get(message.to)
        if host is not None and host.run is not None:
            host.run.receive(message)

    def went_down(self, host: Host) -> None:
        """The others' connections to it end; most notice at once."""
        for other in self.hosts.values():
            if other is not host and other.run is not None and self.rng.random() < 0.8:
                self.connection_lost(other.run, host.member_id, self.rng.randint(200, 5_000))

    def connection_lost(self, run: Run, peer_id: int, delay_us: int) -> None:
        """Tell a member that its connection to another one ended, as its transport would."""

        def lost() -> None:
            node = run.node
            led = node.leader_id == peer_id
            node.unreachable(peer_id)
            rank = node.rank(peer_id)
            if led:
                node.leader_lost()
            if led and rank is not None:
                run.spawn(self._stand(run, rank))

        run.later(delay_us, lambda: run.post(lost))

    async def stream_snapshot(self, sender: Run, message: Message, reader: SnapshotReader) -> None:
        """Carry a snapshot to another member piece by piece, then the message about it."""
        ok = False
        sender.note("streams", f"to m{message.to}", reader.mark.index)
        try:
            ok = await self._carry(sender, message, reader)
            if ok and self.network.weather.late and self.rng.random() < 0.5:
                self._carry_again(sender, message)
        except SwarmError as error:
            sender.note("no stream", error.code.value)
        finally:
            reader.close()
            sender.note("streamed", f"to m{message.to}", ok)
            sender.post(lambda: sender.node.snapshot_sent(message.to, ok=ok))

    def _carry_again(self, sender: Run, message: Message) -> None:
        """Let the same snapshot come once more, when its receiver may have moved on."""
        reader = sender.node.snapshot_reader()
        if reader is not None and reader.mark == message.snapshot:
            sender.spawn(self._carry_late(sender, message, reader))
        elif reader is not None:
            reader.close()

    async def _carry_late(self, sender: Run, message: Message, reader: SnapshotReader) -> None:
        try:
            await self.timeline.sleep(self.rng.randrange(LATE_US))
            await self._carry(sender, message, reader)
        except SwarmError as error:
            sender.note("no stream", error.code.value)
        finally:
            reader.close()

    async def _carry(self, sender: Run, message: Message, reader: SnapshotReader) -> bool:
        host = self.hosts.get(message.to)
        target = host.run if host is not None else None
        mark = message.snapshot
        assert mark is not None, "a SNAPSHOT message names its snapshot"
        if target is None or not target.started or target.is_receiving:
            return False
        needed = mark.index > target.node.status().commit_index
        if needed and not await self._carry_file(sender, target, mark, reader):
            return False
        if not target.alive or not self.network.passes(sender.member_id, target.member_id):
            return False
        taken: list[bool] = []

        def take() -> None:
            target.node.snapshot_received(message, stored=needed)
            taken.append(True)

        target.post(take)
        for _ in range(ANSWER_ATTEMPTS):
            if taken or not target.alive:
                break
            await self.timeline.sleep(self.network.delay_us())
        return bool(taken)

    async def _carry_file(self, sender: Run, target: Run, mark: SnapshotMark, reader: SnapshotReader) -> bool:
        """Write the file on the other side piece by piece, while both live and the wire holds."""
        writer = target.attempt(lambda: target.node.snapshot_receiver(mark))
        if writer is None:
            return False
        target.is_receiving = True
        try:
            for chunk in reader.chunks():
                await self.timeline.sleep(self.network.delay_us())
                if not target.alive or not self.network.passes(sender.member_id, target.member_id):
                    return False
                target.attempt(lambda chunk=chunk: writer.write(chunk))  # type: ignore[misc]  # a default in a lambda
            target.attempt(writer.finish)
        finally:
            target.is_receiving = False
            target.attempt(writer.abort)
        return target.alive
