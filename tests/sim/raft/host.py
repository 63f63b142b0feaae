"""A machine: its disk and clock, and the process of one member that it starts again and again."""

from __future__ import annotations

import enum
import errno
import random
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manager.raft.log import storage
from manager.raft.log.crypt import SECRET_BYTES, AesGcm, DataKey
from manager.raft.types import ConfState, Metadata
from swarmpy.errors import Code, SwarmError
from tests.sim.raft.options import TICK_US, stream
from tests.sim.raft.run import Run
from tests.sim.raft.shadow import Shadow, ViolationError
from tests.support.disk import Crash, FakeDisk

if TYPE_CHECKING:
    from tests.sim.raft.cluster import Cluster

DIRECTORY: Final = Path("/member")


class Fate(enum.Enum):
    """What is to become of a machine."""

    SERVES = "serves"  # its process is started again when it ends
    LOST = "lost"  # its disk is damaged: the member can never come back
    GONE = "gone"  # no member any more, and taken away


class Host:
    """One machine, for one member id.

    Attributes:
        run: the process, or None.
        rotten: whether a byte on the disk was changed, so that a refusal to start is what we want.
        drift: length of its ticks, where 1.0 is right.
    """

    def __init__(self, world: Cluster, member_id: int, conf: ConfState) -> None:
        self.world, self.member_id = world, member_id
        self.metadata = Metadata("cluster1", member_id)
        self.directory = DIRECTORY
        self.rng: random.Random = stream(world.options.seed, f"host {member_id}")
        self.disk = FakeDisk()
        self.sealer = self._sealer() if world.options.encrypted else None
        self.run: Run | None = None
        self.fate = Fate.SERVES
        self.rotten = False
        self.drift = 1.0
        self.paused_until_us = 0
        self.runs = 0
        world.checks.shadows[member_id] = Shadow()
        segment_bytes = world.node_config.segment_bytes
        salt = self.rng.getrandbits(64)
        storage.create(
            self.disk, self.directory, self.metadata, conf, salt=salt, segment_bytes=segment_bytes, sealer=self.sealer
        )

    def _sealer(self) -> AesGcm:
        dice = stream(self.world.options.seed, f"key {self.member_id}")
        return AesGcm([DataKey.of(dice.randbytes(SECRET_BYTES))], dice.randbytes, self.directory / "key")

    def start(self) -> None:
        """Start the process; it may die at once, or refuse to start if the disk is damaged."""
        if self.run is not None or self.fate is not Fate.SERVES:
            return
        self.runs += 1
        try:
            run = Run(self, self.world, stream(self.world.options.seed, f"run {self.member_id}/{self.runs}"))
        except Crash as crash:
            self._note("dies early", str(crash))
            self._power_off()
            return
        except SwarmError as error:
            self._refuses(error)
            return
        self._note("starts", run.node.term, run.node.status().last_index)
        self.run = run
        run.spawn(self._begin(run))

    async def _begin(self, run: Run) -> None:
        try:
            await run.start()
        except SwarmError as error:
            if error.code is not Code.CORRUPT:
                raise
            self._refuses(error)
        else:
            self.rotten = False  # the byte was of no account
            self._tick(run)

    def _tick(self, run: Run) -> None:
        run.post(run.node.tick)
        length_us = int(TICK_US * self.drift * self.rng.uniform(0.95, 1.05))
        run.later(length_us, lambda: self._tick(run))

    def _refuses(self, error: SwarmError) -> None:
        """A damaged log must be refused by name. Without damage nothing may be refused, but by a disk that is full."""
        self._note("refuses", error.code.value)
        if error.code is Code.CORRUPT and self.rotten:
            assert str(self.directory) in error.message, f"the refusal does not name the file: {error.message}"
            self._stop()
            self.fate = Fate.LOST
        elif error.code in (Code.RESOURCE_EXHAUSTED, Code.INTERNAL):
            self._power_off()
        else:
            raise ViolationError("starts again", f"member {self.member_id} does not start: {error.message}") from error

    def crash(self, *, power: bool | None = None) -> None:
        """End the process; with `power` the machine's memory is gone, too (None: that is as it happens)."""
        self._note("down")
        self._stop()
        if power if power is not None else self.rng.random() < 0.5:
            self.disk = self.disk.after_power_loss(self.rng)
        else:
            self.disk = self.disk.after_kill()
        self.world.went_down(self)

    def _power_off(self) -> None:
        self.crash(power=True)

    def take_away(self) -> None:
        """The member was removed: nobody starts it again."""
        self._note("taken away")
        self._stop()
        self.fate = Fate.GONE

    def _stop(self) -> None:
        run, self.run = self.run, None
        if run is not None:
            run.kill()

    def _note(self, what: str, *details: object) -> None:
        self.world.timeline.note(what, f"m{self.member_id}", *details)

    # What befalls it

    def pause(self, delay_us: int) -> None:
        self.paused_until_us = self.world.timeline.now_us + delay_us

    def jump(self, ticks: int) -> None:
        """The clock goes forward at once."""
        run = self.run
        if run is not None:
            for _ in range(ticks):
                run.post(run.node.tick)

    def fail_sync(self, operations: int) -> None:
        """The disk fails for good at a sync some operations from now; the next process finds it mended."""
        countdown = [operations]

        def fault(what: str, _path: Path) -> int | None:
            countdown[0] -= 1
            return errno.EIO if countdown[0] <= 0 and what in ("datasync", "sync_dir", "pwrite") else None

        self.disk.fault = fault

    def fill(self, spare_bytes: int) -> None:
        self.disk.capacity_bytes = self.disk.used_bytes + spare_bytes

    def free(self) -> None:
        self.disk.capacity_bytes = None
