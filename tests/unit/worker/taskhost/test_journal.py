"""The task host's journal: what is committed is there, and nothing half."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from worker.taskhost.journal import COMPACT_FROM_LINES, Journal, Record, open_journal
from worker.taskhost.table import replay


def start(task_id: str, pid: int = 10) -> Record:
    return {"kind": "start", "id": task_id, "pid": pid, "start_time": 5, "at": 1.5, "boot": "b"}


class Disk:
    """Writes until `room` bytes are used up, then as much as still fits; counts the syncs."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.syncs = 0
        self.sync_fails = False

    def write(self, fd: int, block: bytes) -> int:
        written = os.write(fd, block[: self.room])
        self.room -= written
        return written

    def sync(self, fd: int) -> None:
        self.syncs += 1
        if self.sync_fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(fd)


def fresh(path: Path, disk: Disk) -> Journal:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    return Journal(str(path), fd, 0, 0, write=disk.write, sync=disk.sync)


def read(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_one_commit_is_one_sync_and_probes_alone_are_none(tmp_path: Path) -> None:
    disk = Disk()
    journal = fresh(tmp_path / "journal", disk)
    journal.owe({"kind": "forget", "id": "x"})
    journal.commit([start("a"), start("b")])
    assert disk.syncs == 1
    journal.commit([{"kind": "probe", "pid": 1, "start_time": 2, "boot": "b"}])
    journal.commit()
    assert disk.syncs == 1
    assert [r.get("id") for r in read(tmp_path / "journal")] == ["x", "a", "b", None]
    journal.close()


@pytest.mark.parametrize("room", [0, 1, 50])
def test_a_full_disk_leaves_nothing_of_a_commit(tmp_path: Path, room: int) -> None:
    disk = Disk()
    path = tmp_path / "journal"
    journal = fresh(path, disk)
    journal.commit([start("a")])
    before = path.read_bytes()
    journal.owe({"kind": "forget", "id": "a"})
    disk.room = room
    with pytest.raises(OSError, match="No space left"):
        journal.commit([start("b")])
    assert path.read_bytes() == before
    assert journal.owes
    disk.room = 1 << 20
    journal.commit()
    assert [r["kind"] for r in read(path)] == ["start", "forget"]
    journal.close()


def test_a_failed_sync_takes_the_commit_back(tmp_path: Path) -> None:
    disk = Disk()
    journal = fresh(tmp_path / "journal", disk)
    disk.sync_fails = True
    with pytest.raises(OSError, match="Input/output"):
        journal.commit([start("a")])
    assert read(tmp_path / "journal") == []
    journal.close()


def test_a_torn_line_that_cannot_be_taken_back_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_fd: int, _size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk = Disk()
    path = tmp_path / "journal"
    journal = fresh(path, disk)
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", broken)
        disk.room = 20
        with pytest.raises(OSError, match="No space left"):
            journal.commit([start("a")])
    disk.room = 1 << 20
    journal.commit([start("b")])
    journal.close()
    again, records = open_journal(str(path))
    again.close()
    assert [r["id"] for r in records] == ["b"]


def test_a_torn_last_line_is_dropped_and_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole = json.dumps(start("a")).encode() + b"\n"
    path.write_bytes(whole + b'{"kind":"start","id":"b"')
    journal, records = open_journal(str(path))
    assert records == [start("a")]
    journal.commit([start("c")])
    journal.close()
    assert [r["id"] for r in read(path)] == ["a", "c"]


def test_damage_in_the_middle_costs_its_line_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal"
    content = json.dumps(start("a")).encode() + b"\n\x00\x00garbage\n[1]\n" + json.dumps(start("b")).encode() + b"\n"
    path.write_bytes(content)
    journal, records = open_journal(str(path))
    journal.close()
    assert [r["id"] for r in records] == ["a", "b"]
    assert (tmp_path / "journal.damaged").read_bytes() == content
    assert "2 lines of" in capsys.readouterr().err


def test_it_is_compacted_when_mostly_dead(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    disk = Disk()
    journal = fresh(path, disk)
    journal.commit([start(str(n)) for n in range(COMPACT_FROM_LINES)])
    assert not journal.mostly_dead(live=COMPACT_FROM_LINES // 2)
    assert journal.mostly_dead(live=10)
    journal.owe({"kind": "forget", "id": "1"})
    journal.rewrite([start("2")])
    assert not journal.owes
    journal.commit([start("3")])
    assert [r["id"] for r in read(path)] == ["2", "3"]
    journal.close()


def test_a_compaction_that_fails_keeps_the_old_file_and_is_not_tried_every_turn(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    disk = Disk()
    journal = fresh(path, disk)
    journal.commit([start(str(n)) for n in range(COMPACT_FROM_LINES)])
    disk.room = 10
    with pytest.raises(OSError, match="No space left"):
        journal.rewrite([start("2")])
    assert len(read(path)) == COMPACT_FROM_LINES
    assert not journal.mostly_dead(live=10)
    disk.room = 1 << 20
    journal.commit([start("x")])
    assert len(read(path)) == COMPACT_FROM_LINES + 1
    journal.close()


def test_replay_is_what_the_records_say() -> None:
    exit_a: Record = {"kind": "exit", "id": "a", "status": 256, "lost": False, "at": 2}
    state = replay(
        [
            start("a"),
            start("b", 11),
            start("c", 12),
            exit_a,
            {"kind": "forget", "id": "b"},
            {"kind": "probe", "pid": 20, "start_time": 1, "boot": "b"},
            {"kind": "probe", "pid": 21, "start_time": 1, "boot": "b"},
            {"kind": "probed", "pid": 20},
            {"kind": "exit", "id": "unknown", "status": 0, "lost": False, "at": 2},
            {"kind": "from a later version"},
            {"kind": "start", "id": "d", "pid": "x", "start_time": 5, "at": 1.5, "boot": "b"},
            {"no": "kind"},
        ]
    )
    assert set(state.tasks) == {"a", "c"}
    assert state.tasks["a"].row()["status"] == 256
    assert state.tasks["a"].exit_record() == exit_a
    assert state.tasks["c"].start_record() == start("c", 12)
    assert state.tasks["c"].row()["state"] == "running"
    assert state.probes == {21: (1, "b")}
