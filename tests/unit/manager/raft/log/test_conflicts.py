"""What may take the place of entries in the log, and what may not."""

from __future__ import annotations

import pytest

from manager.raft.log import records as rec
from manager.raft.log.frame import encode_frame
from manager.raft.log.wal import WriteAheadLog
from manager.raft.types import Entry, HardState, Metadata, SnapshotMark
from swarmpy.errors import Code, SwarmError
from tests.support.raft_member import frames
from tests.support.wal import CONF, DIR, PLAIN, SEGMENT_BYTES, entry, indexes, reopen, replay, written


def test_entries_of_a_new_leader_replace_the_tail() -> None:
    disk = written(5, 10, committed=2)
    log, _ = reopen(disk)
    log.append([entry(3, term=2), entry(4, term=2)], HardState(2, 0, 2))
    log.close()
    log, state = reopen(disk)
    assert [(e.index, e.term) for e in state.entries] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    log.append([entry(5, term=2)], None)
    log.close()
    assert indexes(disk) == [1, 2, 3, 4, 5]


def test_a_mark_that_restarts_the_log_replaces_every_entry() -> None:
    """Also those behind it, which another leader's snapshot contradicts."""
    for at in (90, 3):
        disk = written(5, 10, committed=2)
        log, _ = reopen(disk)
        log.append([], HardState(4, 0, at), SnapshotMark(at, 4, CONF), restarts=True)
        log.append([entry(at + 1, term=4)], None)
        log.close()
        _, state = reopen(disk)
        assert [(e.index, e.term) for e in state.entries] == [(at + 1, 4)]
        assert state.mark.index == at


def test_a_mark_that_does_not_restart_the_log_leaves_the_entries() -> None:
    disk = written(5, 10)
    log, _ = reopen(disk)
    log.append([], HardState(1, 7, 4), SnapshotMark(4, 1, CONF))
    log.close()
    assert indexes(disk) == [1, 2, 3, 4, 5]


def switched_after(log: WriteAheadLog, count: int) -> None:
    """Let the log go on in a new segment."""
    log.make_room(1, SEGMENT_BYTES)
    assert log.segment_count == count


def test_a_replaced_tail_may_reach_back_over_segments_and_they_go_with_the_rest() -> None:
    disk = written(5, 10, committed=2)
    log, _ = reopen(disk)
    switched_after(log, 2)
    log.append([entry(6), entry(7), entry(8)], None)
    log.append([entry(4, term=2)], HardState(2, 0, 2))
    switched_after(log, 3)
    log.append([entry(5, term=2), entry(6, term=2)], HardState(2, 0, 6))
    expected = [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    assert [(e.index, e.term) for e in replay(disk).entries] == expected
    log.append([], None, SnapshotMark(5, 2, CONF))
    log.append([], HardState(2, 0, 6))
    crashing = disk.after_kill()
    assert log.compact(4) == 2, "the third one begins with entry 5, the second one began with 6"
    log.close()
    assert indexes(disk) == [5, 6]
    crashing.unlink(crashing.files(DIR)[0])
    assert [(e.index, e.term) for e in replay(crashing).entries] == expected[3:], "the second one alone says it, too"


def test_segments_before_a_restart_go_whatever_they_held() -> None:
    disk = written(5, 10, committed=2)
    log, _ = reopen(disk)
    switched_after(log, 2)
    log.append([entry(6)], None)
    log.append([], HardState(4, 0, 3), SnapshotMark(3, 4, CONF), restarts=True)
    log.append([], HardState(4, 0, 3))
    crashed, _ = reopen(disk.after_kill())
    assert (crashed.compact(3), log.compact(3)) == (1, 1), "as well after the log was opened again"
    crashed.close()
    switched_after(log, 2)
    log.append([entry(4, term=4)], HardState(4, 0, 4))
    log.close()
    assert indexes(disk) == [4]


REFUSED: list[tuple[list[Entry], HardState | None, SnapshotMark | None, bool, str]] = [
    ([entry(3)], None, None, False, "entry 3 again: entries up to 4 are committed"),
    ([entry(7)], None, None, False, "entries 7 to 7, 1 of them, behind entry 5"),
    ([entry(6), entry(8)], None, None, False, "entries 6 to 8, 2 of them, behind entry 5"),
    ([], HardState(1, 7, 6), None, False, "entry 6 as committed: the last one is 5"),
    ([], HardState(0, 0, 4), None, False, "term 0: term 1 is stored"),
    ([], HardState(1, 8, 4), None, False, "a vote for member 8 in term 1: it was given to member 7"),
    ([], None, SnapshotMark(6, 1), False, "a snapshot at entry 6: the last one is at 0, the last entry is 5"),
    ([], None, SnapshotMark(4, 2), True, "to restart at entry 4: entries up to 4 are committed"),
]


@pytest.mark.parametrize(("entries", "hard_state", "mark", "restarts", "what"), REFUSED)
def test_what_would_take_back_a_promise_is_refused_before_it_is_written(
    entries: list[Entry], hard_state: HardState | None, mark: SnapshotMark | None, restarts: bool, what: str
) -> None:
    disk = written(5, 10)
    log, _ = reopen(disk)
    before = disk.operations
    with pytest.raises(SwarmError) as caught:
        log.append(entries, hard_state, mark, restarts=restarts)
    assert caught.value.message == f"the log in /wal refuses {what}: a fault in swarmpy, please report it"
    assert (caught.value.code, disk.operations) == (Code.INTERNAL, before)
    with pytest.raises(SwarmError, match="to forget entry 1: the last snapshot is at 0"):
        log.compact(1)
    log.close()
    assert indexes(disk) == [1, 2, 3, 4, 5]


FORGED: list[tuple[list[bytes], str]] = [
    (rec.encode_entries([entry(9)]), "entry 9 follows entry 5"),
    (rec.encode_entries([entry(3)]), "entry 3 stands behind entry 5, yet 4 was committed"),
    (
        [rec.encode_mark(SnapshotMark(8, 1))],
        "a snapshot is at entry 8; the last one is at 0, and the log ends with entry 5",
    ),
    ([rec.encode_metadata(Metadata("other", 1))], "the log changes hands"),
    ([b"\4\2" + rec.encode_mark(SnapshotMark())[2:]], "a frame holds a record of the unknown kind 4/2"),
]


@pytest.mark.parametrize(("pieces", "what"), FORGED)
def test_whole_frames_that_contradict_the_log_are_damage(pieces: list[bytes], what: str) -> None:
    """No crash leaves such a frame."""
    disk = written(5, 10)
    path, offset, last = frames(disk, DIR)[-1]
    at = offset + last.size_bytes
    payload = b"".join(pieces)
    frame, _ = encode_frame(payload, records=1, salt=42, number=last.number + 1, chain=last.crc, sealer=PLAIN)
    data = disk.read(path)
    disk.write(path, data[:at] + frame + data[at + len(frame) :])
    with pytest.raises(SwarmError) as caught:
        reopen(disk)
    assert caught.value.code is Code.CORRUPT
    assert caught.value.message.startswith(f"{path} is damaged at byte {at}: {what}")
