"""Trees as tar archives: what goes in comes out, and what a hostile archive tries fails."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from swarmpy import archive
from swarmpy.errors import Code, SwarmError


def packed(path: Path, name: str) -> io.BytesIO:
    out = io.BytesIO()
    archive.pack(path, name, out)
    return io.BytesIO(out.getvalue())


def hostile(*entries: tuple[str, dict[str, object]], data: bytes = b"") -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as opened:
        for name, fields in entries:
            info = tarfile.TarInfo(name)
            for key, value in fields.items():
                setattr(info, key, value)
            if info.isreg():
                info.size = len(data)
            opened.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return io.BytesIO(out.getvalue())


def snapshot(path: Path) -> dict[str, tuple[int, bytes | str | None]]:
    found: dict[str, tuple[int, bytes | str | None]] = {}
    for each in sorted(path.rglob("*")):
        mode = each.lstat().st_mode
        content = str(each.readlink()) if stat.S_ISLNK(mode) else each.read_bytes() if stat.S_ISREG(mode) else None
        found[str(each.relative_to(path))] = (stat.S_IFMT(mode) | stat.S_IMODE(mode), content)
    return found


def test_a_tree_comes_out_as_it_went_in(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep" / "empty").mkdir(parents=True)
    (tree / "deep" / "file").write_bytes(b"x" * 3_000_000)
    (tree / "deep" / "file").chmod(0o640)
    (tree / "link").symlink_to("deep/file")
    (tree / "gone").symlink_to("/no/such")
    os.link(tree / "deep" / "file", tree / "twin")
    os.mkfifo(tree / "pipe", 0o600)
    target = tmp_path / "out"
    target.mkdir()
    archive.unpack(packed(tree, "tree"), target)
    assert snapshot(target / "tree") == snapshot(tree)
    assert (target / "tree" / "twin").stat().st_ino == (target / "tree" / "deep" / "file").stat().st_ino


def test_the_top_entry_can_be_called_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    (tmp_path / "out").mkdir()
    archive.unpack(packed(tmp_path / "a", "a"), tmp_path / "out", rename="b")
    assert snapshot(tmp_path / "out").keys() == {"b"}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/../x"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(SwarmError, match="leads out"):
        archive.unpack(hostile((name, {})), target)
    assert not (tmp_path / "x").exists()


def test_an_absolute_name_stays_below(tmp_path: Path) -> None:
    archive.unpack(hostile(("/etc/passwd", {}), data=b"mine"), tmp_path)
    assert (tmp_path / "etc" / "passwd").read_bytes() == b"mine"


def test_nothing_is_written_through_a_link_that_the_archive_brought(tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    target.mkdir()
    link: tuple[str, dict[str, object]] = ("way", {"type": tarfile.SYMTYPE, "linkname": str(outside)})
    with pytest.raises((SwarmError, OSError)):
        archive.unpack(hostile(link, ("way/file", {}), data=b"x"), target)
    assert list(outside.iterdir()) == []


def test_devices_and_what_is_no_archive_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SwarmError, match="is a device") as caught:
        archive.unpack(hostile(("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})), tmp_path)
    assert caught.value.code is Code.NOT_SUPPORTED
    with pytest.raises(SwarmError, match="not a tar archive"):
        archive.unpack(io.BytesIO(b"no archive" * 200), tmp_path)


def test_a_file_takes_the_place_of_one_and_never_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    archive.unpack(hostile(("file", {}), data=b"new"), tmp_path)
    assert (tmp_path / "file").read_text() == "new"
    with pytest.raises(SwarmError, match="in the place of a file"):
        archive.unpack(hostile(("file", {"type": tarfile.DIRTYPE})), tmp_path)
