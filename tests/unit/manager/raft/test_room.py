"""Room on the disk: that there is none is said once, not once for every size that is asked for."""

from __future__ import annotations

import random

from structlog.testing import capture_logs

from manager.raft.node import RaftNode
from manager.raft.room import Room
from tests.support.disk import FakeDisk
from tests.support.raft_member import HERE, ME, SMALL, new_log


def test_a_full_log_is_full_until_what_was_refused_fits() -> None:
    disk = FakeDisk()
    new_log(disk)
    node = RaftNode.open(disk, HERE, ME, SMALL, rng=random.Random(1))
    room = Room(node._storage)
    disk.capacity_bytes = disk.used_bytes
    with capture_logs() as said:
        for _ in range(3):
            assert room.let_in(1, SMALL.segment_bytes) is not None
            assert room.let_in(1, 10) is None, "a small one fits into the segment there is"
            room.begin_frame()
            room.end_frame()
            room.try_again()
            assert room.full is not None
        disk.capacity_bytes = None
        room.try_again()
        assert room.full is None
    assert [entry["event"] for entry in said] == ["log full", "log has space again"]
    node.close()
