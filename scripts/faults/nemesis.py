"""Carries out the episodes of a round, and puts the managers back to what they were."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from scripts.cluster import Namespaces, Node, until
from scripts.faults.places import Places
from scripts.faults.plan import Episode, Fault
from swarmpy.addresses import CONTROL_PORT
from swarmpy.errors import Code, SwarmError
from swarmpy.model.config import MAX_CONFIG_BYTES, ConfigSpec
from swarmpy.model.states import NodeRole

PATIENCE_S: Final = 60.0
CALL_S: Final = 5.0
FLAPS: Final = 6
FLOOD: Final = 70
TROUBLE: Final = frozenset({Code.UNAVAILABLE, Code.NOT_LEADER, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED})
"""What a cluster may answer while something is wrong with it."""
CLOCK_JUMPS_S: Final = (-86_400.0, -600.0, -2.0, 2.0, 600.0, 86_400.0)

Hold = Callable[[], Awaitable[None]]


class Nemesis:
    """Does to the managers what a plan says. `log` has what was done, and when, in seconds since the round began."""

    def __init__(self, places: Places) -> None:
        self._places, self._cluster = places, places.cluster
        self._began_s = time.monotonic()
        self.log: list[str] = []
        self._faults: dict[Fault, Callable[[random.Random, Hold], Awaitable[None]]] = {
            Fault.KILL_LEADER: self._kill_leader,
            Fault.KILL_FOLLOWER: self._kill_follower,
            Fault.KILL_ALL: self._kill_all,
            Fault.POWER_CUT: self._power_cut,
            Fault.PAUSE_LEADER: self._pause_leader,
            Fault.PAUSE_FOLLOWER: self._pause_follower,
            Fault.CUT_PAIR: self._cut_pair,
            Fault.CUT_ONE_WAY: self._cut_one_way,
            Fault.SPLIT: self._split,
            Fault.ISOLATE_LEADER: self._isolate_leader,
            Fault.FLAPPING: self._flap,
            Fault.FULL_DISK: self._fill_disk,
            Fault.CLOCK: self._move_clock,
            Fault.RESTART: self._restart,
            Fault.DEMOTE_LEADER: self._demote_leader,
            Fault.REPLACE_MEMBER: self._replace_member,
        }

    def note(self, line: str) -> None:
        self.log.append(f"{time.monotonic() - self._began_s:7.3f} s  {line}")

    async def carry_out(self, episodes: Sequence[Episode]) -> None:
        """Let faults come and go at once. TimeoutError, SwarmError: the cluster did not do what it must be able to."""
        async with asyncio.TaskGroup() as group:
            for episode in episodes:
                group.create_task(self._carry_out(episode))

    async def _carry_out(self, episode: Episode) -> None:
        await asyncio.sleep(episode.pause_s)
        self.note(f"{episode.fault.value} ...")

        async def hold() -> None:
            await asyncio.sleep(episode.hold_s)

        await self._faults[episode.fault](random.Random(episode.seed), hold)
        self.note(f"... {episode.fault.value}: over")

    # Processes

    async def _kill_leader(self, rng: random.Random, hold: Hold) -> None:
        self._kill(await self._cluster.leader())
        await hold()

    async def _kill_follower(self, rng: random.Random, hold: Hold) -> None:
        self._kill(await self._follower(rng))
        await hold()

    async def _kill_all(self, rng: random.Random, hold: Hold) -> None:
        for node in self._cluster.managers:
            self._kill(node)
        await hold()

    def _kill(self, node: Node) -> None:
        if "manager" in node.pids():
            self.note(f"{node.name}'s manager, pid {node.kill('manager')}, is dead")

    async def _power_cut(self, rng: random.Random, hold: Hold) -> None:
        node = rng.choice(self._cluster.managers)
        await node.close()
        await asyncio.to_thread(node.vanish)
        self.note(f"{node.name} is off")
        await hold()
        node.start()
        await node.ready()

    async def _pause_leader(self, rng: random.Random, hold: Hold) -> None:
        await self._pause(await self._cluster.leader(), hold)

    async def _pause_follower(self, rng: random.Random, hold: Hold) -> None:
        await self._pause(await self._follower(rng), hold)

    async def _pause(self, node: Node, hold: Hold) -> None:
        if "manager" in node.pids():  # another fault may have been quicker
            self.note(f"{node.name}'s manager stands still")
            node.freeze("manager")
        await hold()
        node.thaw()

    async def _restart(self, rng: random.Random, hold: Hold) -> None:
        node = rng.choice(self._cluster.managers)
        self.note(f"{node.name}'s manager")
        await asyncio.to_thread(node.replace, "manager")
        await hold()

    # Links

    async def _cut_pair(self, rng: random.Random, hold: Hold) -> None:
        await self._cut(rng, hold, both_ways=True)

    async def _cut_one_way(self, rng: random.Random, hold: Hold) -> None:
        await self._cut(rng, hold, both_ways=False)

    async def _cut(self, rng: random.Random, hold: Hold, *, both_ways: bool) -> None:
        one, other = rng.sample(range(1, len(self._cluster.nodes) + 1), 2)
        self.note(f"from node{one} to node{other}")
        self._links.cut(one, other, both_ways=both_ways)
        await hold()
        self._links.restore_all()

    async def _split(self, rng: random.Random, hold: Hold) -> None:
        numbers = list(range(1, len(self._cluster.nodes) + 1))
        some = rng.sample(numbers, rng.randint(1, len(numbers) - 1))
        self.note(f"nodes {sorted(some)} and the others")
        self._links.split(some)
        await hold()
        self._links.restore_all()

    async def _isolate_leader(self, rng: random.Random, hold: Hold) -> None:
        leader = await self._cluster.leader()
        self.note(leader.name)
        self._links.isolate(self._places.number(leader))
        await hold()
        self._links.restore_all()

    async def _flap(self, rng: random.Random, hold: Hold) -> None:
        leader, other = await self._cluster.leader(), await self._follower(rng)
        self.note(f"between {leader.name} and {other.name}")
        pair = self._places.number(leader), self._places.number(other)
        for _ in range(FLAPS):
            self._links.cut(*pair)
            await asyncio.sleep(rng.uniform(0.05, 0.4))
            self._links.restore(*pair)
            await asyncio.sleep(rng.uniform(0.02, 0.3))
        await hold()

    @property
    def _links(self) -> Namespaces:
        assert self._places.namespaces is not None, "a plan has such faults only where links can be cut"
        return self._places.namespaces

    # Disks and clocks

    async def _fill_disk(self, rng: random.Random, hold: Hold) -> None:
        """Fill a disk, and write so much that its log needs another segment."""
        node = next(node for node in self._cluster.nodes if node.name == self._places.small_disk)
        self._places.fill(node)
        self.note(f"{node.name} has no room")
        written: list[str] = []
        for number in range(FLOOD):
            name = f"flood-{rng.getrandbits(64):016x}-{number}"
            try:
                config = ConfigSpec(name=name, data=rng.randbytes(MAX_CONFIG_BYTES - 1024))
                await self._cluster.client.configs.create(config, timeout_s=CALL_S)
            except SwarmError as error:
                if error.code not in TROUBLE:
                    raise
                self.note(f"after {len(written)} large configs: {error.message}")
                break
            written.append(name)
        await hold()
        self._places.empty(node)
        for name in written:
            await self._cluster.client.configs.remove(name, timeout_s=PATIENCE_S)

    async def _move_clock(self, rng: random.Random, hold: Hold) -> None:
        node, offset_s = rng.choice(self._cluster.managers), rng.choice(CLOCK_JUMPS_S)
        self.note(f"{node.name}'s, by {offset_s:g} s")
        self._places.set_clock(node, offset_s)
        await hold()
        self._places.set_clock(node, 0.0)

    # Members

    async def _demote_leader(self, rng: random.Random, hold: Hold) -> None:
        leader = await self._cluster.leader()
        self.note(leader.name)
        await self._set_role(leader, NodeRole.WORKER)
        await hold()
        await self._set_role(leader, NodeRole.MANAGER)

    async def _replace_member(self, rng: random.Random, hold: Hold) -> None:
        await until(self._places.is_whole, what="all managers are well", deadline_s=PATIENCE_S)
        node = rng.choice(self._cluster.managers)
        self.note(f"{node.name} leaves")
        await node.client.node.leave(force=True, timeout_s=PATIENCE_S)
        others = [other for other in self._cluster.managers if other is not node]
        await hold()
        client = others[0].client
        old = next((row for row in await client.nodes.list(timeout_s=PATIENCE_S) if row.name == node.name), None)
        if old is not None:
            await client.nodes.remove(old.id, force=True, timeout_s=PATIENCE_S)
        token = (await client.cluster.join_tokens(timeout_s=PATIENCE_S)).tokens.manager
        await node.client.node.join(f"{others[0].address}:{CONTROL_PORT}", token, timeout_s=PATIENCE_S)
        self.note(f"{node.name} is back as another one")

    async def _set_role(self, node: Node, role: NodeRole) -> None:
        """Change a node's role, as soon as the cluster can do it."""

        async def ask() -> bool:
            try:
                row = next(row for row in await self._cluster.rows() if row.name == node.name)
                spec = msgspec.structs.replace(row.spec, role=role)
                await self._cluster.client.nodes.update(row, spec, timeout_s=CALL_S)
            except SwarmError as error:
                if error.code not in {*TROUBLE, Code.FAILED_PRECONDITION, Code.OUT_OF_SEQUENCE}:
                    raise
                return False
            return True

        await until(ask, what=f"{node.name} is to be a {role.name.lower()}", deadline_s=PATIENCE_S)

    async def _follower(self, rng: random.Random) -> Node:
        leader = await self._cluster.leader()
        return rng.choice([node for node in self._cluster.managers if node is not leader])
