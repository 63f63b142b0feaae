from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from swarmpy.errors import SwarmError
from swarmpy.model.spec import LogDriver
from tests.support.clock import FakeClock
from worker.logs.file import LogFile, LogOptions, files_oldest_first, log_options
from worker.logs.format import Stream
from worker.logs.layouts import JSON, LOCAL, Layout
from worker.logs.reader import LogCursor


def texts(directory: Path, **options: object) -> list[str]:
    with LogCursor(directory, **options) as cursor:  # type: ignore[arg-type]  # keywords of the tests
        found = []
        while lines := cursor.read():
            found += [line.data.decode() for line in lines]
        return found


def test_files_are_rotated_by_size_and_bounded_in_number(tmp_path: Path) -> None:
    log = LogFile(tmp_path, LogOptions(max_size_bytes=200, max_files=3), FakeClock())
    for number in range(100):
        log.append(Stream.STDOUT, [f"line {number}\n".encode()])
    log.close()
    files = files_oldest_first(tmp_path)
    assert [p.name for p in files] == ["json.log.2", "json.log.1", "json.log"]
    assert all(p.stat().st_size <= 200 for p in files)
    kept = texts(tmp_path)
    assert kept == [f"line {n}\n" for n in range(100 - len(kept), 100)]


def test_many_short_lines_at_once_are_spread_over_files(tmp_path: Path) -> None:
    log = LogFile(tmp_path, LogOptions(max_size_bytes=1000, max_files=4), FakeClock())
    log.append(Stream.STDOUT, [b"%d\n" % n for n in range(200)])
    log.close()
    assert all(p.stat().st_size <= 1000 for p in files_oldest_first(tmp_path))
    kept = [int(text) for text in texts(tmp_path)]
    assert len(kept) > 20
    assert kept == list(range(200 - len(kept), 200))


def test_one_file_is_started_over(tmp_path: Path) -> None:
    log = LogFile(tmp_path, LogOptions(max_size_bytes=100, max_files=1), FakeClock())
    for number in range(10):
        log.append(Stream.STDOUT, [f"line {number}\n".encode()])
    log.close()
    assert [p.name for p in files_oldest_first(tmp_path)] == ["json.log"]
    assert texts(tmp_path)[-1] == "line 9\n"


OK = b'{"log":"ok\\n","stream":"stdout","time":"2026-07-25T17:20:00.250000000Z"}\n'


@pytest.mark.parametrize(
    ("layout", "left"), [(LOCAL, b"2026-07-25T17:20:00.250000Z stdout F ok\n2026-07"), (JSON, OK + b'{"log":"ha')]
)
def test_a_line_that_a_killed_worker_left_unfinished_is_ended(tmp_path: Path, layout: Layout, left: bytes) -> None:
    (tmp_path / layout.file_name).write_bytes(left)
    log = LogFile(tmp_path, LogOptions(layout=layout), FakeClock())
    log.append(Stream.STDOUT, [b"next\n"])
    log.close()
    assert texts(tmp_path) == ["ok\n", "next\n"]


def test_a_log_that_an_older_release_began_is_read_before_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "task.log").write_bytes(b"2026-07-25T17:20:00.250000Z stdout F ok\n")
    log = LogFile(tmp_path, LogOptions(), FakeClock())
    log.append(Stream.STDOUT, [b"next\n"])
    log.close()
    assert texts(tmp_path) == ["ok\n", "next\n"]
    assert texts(tmp_path, tail=2) == ["ok\n", "next\n"]


def test_a_full_disk_drops_lines_and_says_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(tmp_path, LogOptions(), FakeClock())
    log.append(Stream.STDOUT, [b"before\n"])
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if b"lost too" in data:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:10])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        log.append(Stream.STDOUT, [b"lost\n"])
        log.append(Stream.STDOUT, [b"lost too\n"])
    log.append(Stream.STDOUT, [b"after\n"])
    log.close()
    assert log.dropped_lines == 2
    assert texts(tmp_path) == [
        "before\n",
        "[swarmpy: 2 lines were dropped here: no space left on the node's disk]\n",
        "after\n",
    ]


def test_a_log_may_be_switched_off(tmp_path: Path) -> None:
    log = LogFile(tmp_path, log_options(LogDriver(name="none")), FakeClock())
    log.append(Stream.STDERR, [b"boom\n"])
    log.close()
    assert files_oldest_first(tmp_path) == []
    assert log.last_error_line == b"boom\n"


def test_options_are_read_as_docker_reads_them() -> None:
    assert log_options(LogDriver()) == LogOptions(10 << 20, 3)
    options = LogDriver(name="json-file", options={"max-size": "1m", "max-file": "5"})
    assert log_options(options) == LogOptions(1 << 20, 5)
    assert log_options(LogDriver(name="local")).layout is LOCAL
    assert log_options(LogDriver(name="journald")).journal
    for driver, reason in (
        (LogDriver(name="syslog"), "the log driver 'syslog' is not supported"),
        (LogDriver(options={"tag": "x"}), "the log option 'tag' is not supported"),
        (LogDriver(options={"max-size": "big"}), "max-size=big is not a size"),
        (LogDriver(options={"max-file": "0"}), "max-file=0 is not a number"),
    ):
        with pytest.raises(SwarmError, match=reason):
            log_options(driver)
