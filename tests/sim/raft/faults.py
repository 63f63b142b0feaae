"""What goes wrong, and when: each sort of fault has dice of its own, so that any of them can be left out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from manager.raft.log.storage import LOG_DIR, SNAPSHOT_DIR
from tests.sim.raft.cluster import Cluster
from tests.sim.raft.host import Host
from tests.sim.raft.members import Operator, survives
from tests.sim.raft.network import FAIR, Weather
from tests.sim.raft.options import TICK_US, stream
from tests.support.raft_member import frames

PERIOD_TICKS: Final = 60
LULL_TICKS: Final = 20
CHATTY: Final = 3  # a transfer or change of members is asked for this much more often than a fault comes


class Faults:
    """Lets things go wrong until `heal`."""

    def __init__(self, cluster: Cluster, operator: Operator) -> None:
        self._cluster, self._operator = cluster, operator
        self._over = False
        self._dice: dict[str, random.Random] = {}

    def start(self) -> None:
        sorts: dict[str, Callable[[random.Random], None]] = {
            "loss": self._loss,
            "late": self._loss,
            "partition": self._partition,
            "crash": lambda rng: self._crash(rng, power=False),
            "power": lambda rng: self._crash(rng, power=True),
            "sync": self._sync,
            "full": self._full,
            "rot": self._rot,
            "clock": self._clock,
            "members": lambda _rng: self._spawn_change(),
            "transfer": lambda _rng: self._operator.transfer(),
        }
        for name, happens in sorts.items():
            self._again(stream(self._cluster.options.seed, name), name, happens)
        self._watch(stream(self._cluster.options.seed, "watch"))

    def _watch(self, rng: random.Random) -> None:
        """Start what is down, in the end, whatever the reason."""
        if self._over:
            return
        for host in self._cluster.serving():
            if host.run is None and rng.random() < 0.5:
                host.start()
        self._cluster.timeline.after(1_500_000, lambda: self._watch(rng))

    def _again(self, rng: random.Random, name: str, happens: Callable[[random.Random], None]) -> None:
        often = CHATTY if name in ("members", "transfer") else 1
        delay_us = int(rng.expovariate(often / (self._cluster.options.fault_every_ticks * TICK_US)))

        def due() -> None:
            if self._over:
                return
            # The dice of one fault come from a seed of their own: what they find does not change the later ones.
            once = random.Random(rng.getrandbits(64))
            if name in self._cluster.options.faults and not self._is_lull():
                happens(once)
            self._again(rng, name, happens)

        self._cluster.timeline.after(delay_us, due)

    def _is_lull(self) -> bool:
        """Whether nothing new goes wrong for a while: what never makes progress breaks nothing."""
        return (self._cluster.timeline.now_us // TICK_US) % PERIOD_TICKS >= PERIOD_TICKS - LULL_TICKS

    def _length_us(self, rng: random.Random, most_ticks: int) -> int:
        """Return how long something lasts, mostly not beyond the next fault of its sort."""
        return int(rng.uniform(1, min(most_ticks, 1.5 * self._cluster.options.fault_every_ticks)) * TICK_US)

    def heal(self) -> None:
        """End everything: the network is fair, disks have space, clocks are right, machines run."""
        self._over = True
        cluster = self._cluster
        cluster.slow = False
        cluster.network.weather = FAIR
        cluster.network.blocked.clear()
        for host in cluster.serving():
            host.free()
            host.disk.fault = lambda _what, _path: None
            host.disk.crash_at = None
            host.drift, host.paused_until_us = 1.0, 0
            host.start()

    def _spawn_change(self) -> None:
        self._cluster.spawn(self._operator.change())

    # The network

    def _loss(self, rng: random.Random) -> None:
        late = "late" in self._cluster.options.faults
        self._cluster.network.weather = Weather(
            least_us=200,
            most_us=rng.choice((2_000, 20_000, 150_000)),
            loss=rng.choice((0.0, 0.02, 0.1, 0.3)),
            doubled=rng.choice((0.0, 0.05, 0.3)),
            late=0.3 if late else 0.0,
            ordered=rng.random() < 0.4,
        )

    def _partition(self, rng: random.Random) -> None:
        cluster = self._cluster
        ids = [host.member_id for host in cluster.serving()]
        blocked = set(_cut(rng, ids, cluster.leader_id))
        flaps = rng.choice((1, 1, 1, 4))
        length_us = self._length_us(rng, 40) // flaps
        cluster.timeline.note("cut", *sorted(blocked), length_us, flaps)
        for flap in range(flaps):
            cluster.timeline.after(2 * flap * length_us, lambda: self._block(blocked, rng))
            cluster.timeline.after(
                (2 * flap + 1) * length_us, lambda: cluster.network.blocked.difference_update(blocked)
            )

    def _block(self, blocked: set[tuple[int, int]], rng: random.Random) -> None:
        if self._over:
            return
        self._cluster.network.blocked |= blocked
        noticed = rng.choice((0.0, 0.5, 1.0))
        for sender, to in sorted(blocked):
            run = self._cluster.hosts[to].run
            if run is not None and rng.random() < noticed:
                self._cluster.connection_lost(run, sender, rng.choice((2_000, 2_000, 500_000)))

    # Machines

    def _crash(self, rng: random.Random, *, power: bool) -> None:
        hosts = [host for host in self._cluster.serving() if host.run is not None]
        if not hosts:
            return
        everybody = rng.random() < 0.08
        for host in hosts if everybody else [self._choose(rng, hosts)]:
            self._cluster.timeline.after(int(rng.expovariate(1 / 500_000)), lambda host=host: self._restart(host))  # type: ignore[misc]  # a default in a lambda
            if rng.random() < 0.5:
                host.disk.crash_at = host.disk.operations + rng.randint(1, 40)
            else:
                host.crash(power=power)

    def _restart(self, host: Host) -> None:
        """Start it if it is down; if its crash is still to come, look again later."""
        if self._over:
            return
        if host.run is None:
            host.start()
        if host.run is None or host.disk.crash_at is not None:
            self._cluster.timeline.after(1_000_000, lambda: self._restart(host))

    def _choose(self, rng: random.Random, hosts: list[Host]) -> Host:
        led = [host for host in hosts if host.member_id == self._cluster.leader_id]
        return led[0] if led and rng.random() < 0.4 else rng.choice(hosts)

    def _sync(self, rng: random.Random) -> None:
        hosts = [host for host in self._cluster.serving() if host.run is not None]
        if hosts:
            host = self._choose(rng, hosts)
            host.fail_sync(rng.randint(1, 20))
            self._cluster.timeline.after(2_000_000, lambda: self._mend(host))

    def _mend(self, host: Host) -> None:
        if not self._over:
            host.disk.fault = lambda _what, _path: None
            self._restart(host)

    def _full(self, rng: random.Random) -> None:
        hosts = self._cluster.serving()
        if hosts:
            host = self._choose(rng, hosts)
            host.fill(rng.choice((0, 0, 3_000, 30_000)))
            self._cluster.timeline.note("full", f"m{host.member_id}")
            self._cluster.timeline.after(self._length_us(rng, 60), lambda: self._space(host))

    def _space(self, host: Host) -> None:
        host.free()
        if not self._over:
            self._restart(host)

    def _rot(self, rng: random.Random) -> None:
        """Change a byte while the machine is off, where its log must notice, if the cluster can do without it."""
        hosts = [host for host in self._cluster.serving() if host.run is not None]
        if not hosts or self._operator.busy:
            return
        host = self._choose(rng, hosts)
        if not survives(self._cluster, self._cluster.lost_ids | {host.member_id}):
            return
        places = list(_vital(host))
        host.crash(power=False)
        if places:
            path, low, high = rng.choice(places)
            data = bytearray(host.disk.read(path))
            at = rng.randrange(low, high)
            data[at] ^= 1 << rng.randrange(8)
            host.disk.write(path, bytes(data))
            host.rotten = True
            self._cluster.timeline.note("rot", f"m{host.member_id}", path.name, at)
        self._cluster.timeline.after(500_000, host.start)

    # Clocks

    def _clock(self, rng: random.Random) -> None:
        hosts = self._cluster.serving()
        if not hosts:
            return
        host = self._choose(rng, hosts)
        what = rng.choice(("drift", "jump", "pause", "pause"))
        self._cluster.timeline.note("clock", f"m{host.member_id}", what)
        if what == "drift":
            host.drift = rng.choice((0.5, 0.8, 1.0, 1.25, 2.0))
        elif what == "jump":
            host.jump(rng.randint(2, 40))
        else:
            host.pause(self._length_us(rng, 50))


def _cut(rng: random.Random, ids: list[int], leader_id: int) -> Iterator[tuple[int, int]]:
    """Yield the directed pairs between which nothing passes: of two camps, of one member, or one way only."""
    if len(ids) < 2:
        return
    shape = rng.choice(("camps", "alone", "one way", "leader", "leader"))
    some = set(rng.sample(ids, rng.randint(1, len(ids) - 1)))
    if shape == "alone":
        some = {rng.choice(ids)}
    elif shape == "leader" and leader_id in ids:
        some = {leader_id}
    for a in ids:
        for b in ids:
            if (a in some) != (b in some) and (shape != "one way" or a in some):
                yield a, b


def _vital(host: Host) -> Iterator[tuple[Path, int, int]]:
    """Yield file, first byte and end of what must be noticed: all frames but the last ones, and the snapshot."""
    wal = frames(host.disk, host.directory / LOG_DIR)
    for path, offset, frame in wal[:-3]:
        yield path, offset, offset + frame.size_bytes
    snapshots = [path for path in host.disk.files(host.directory / SNAPSHOT_DIR) if path.suffix == ".snap"]
    mark = host.world.checks.shadows[host.member_id].mark
    for path in snapshots:
        if path.name.startswith(f"{mark.index:016x}"):
            yield path, 0, len(host.disk.read(path))
