"""Trees are copied with modes, times and links, and with nothing that is no data."""

from __future__ import annotations

import os
from pathlib import Path

from worker.executor.container.copying import copy_into


def copy(source: Path, target: Path) -> None:
    target.mkdir()
    descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        copy_into(str(source), descriptor)
    finally:
        os.close(descriptor)


def test_a_tree(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "below").mkdir(parents=True)
    (source / "below" / "file").write_bytes(b"x" * 3_000_000)
    (source / "below" / "file").chmod(0o640)
    (source / "twin").hardlink_to(source / "below" / "file")
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "fifo")
    os.utime(source / "below", (5, 6))
    source.chmod(0o751)
    copy(source, target)
    assert sorted(path.name for path in target.iterdir()) == ["below", "link", "twin"]
    assert (target / "below" / "file").read_bytes() == b"x" * 3_000_000
    assert (target / "below" / "file").stat().st_mode & 0o777 == 0o640
    assert (target / "twin").samefile(target / "below" / "file")
    assert (target / "link").readlink() == Path("/etc/passwd")
    assert (target / "below").stat().st_mtime == 6
    assert target.stat().st_mode & 0o777 == 0o751


def test_of_nothing_nothing_is_copied(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    copy(tmp_path / "missing", tmp_path / "one")
    copy(tmp_path / "file", tmp_path / "two")
    assert not any((tmp_path / "one").iterdir())
    assert not any((tmp_path / "two").iterdir())
