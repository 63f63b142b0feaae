"""Which containerd a node uses, and how its own is configured."""

from __future__ import annotations

import json
import socket
import tomllib
from pathlib import Path

import pytest

from swarmpy.daemon import containerd
from swarmpy.daemon.main import parse
from swarmpy.daemon.settings import Settings
from swarmpy.daemon.state import Unusable


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH, and a machine without a containerd of its own."""
    monkeypatch.setattr(containerd, "_SBIN", ())
    monkeypatch.setattr(containerd, "_MACHINES_SOCKET", str(tmp_path / "machine.sock"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def install(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch(mode=0o755)


def find(programs: Path, asked: str = "", *, root: bool = True) -> containerd.Runtime:
    return containerd.find(asked, "/own.sock", {"PATH": str(programs)}, root=root)


def test_one_of_our_own_is_preferred(programs: Path) -> None:
    install(programs, "containerd", "containerd-shim-runc-v2", "runc")
    found = find(programs)
    assert (found.socket, found.argv, found.missing) == ("/own.sock", [str(programs / "containerd")], "")
    assert found.path == str(programs)
    assert find(programs, "/theirs.sock").socket == "/theirs.sock"
    assert find(programs, "/theirs.sock").argv == []


def test_the_machines_own_where_none_can_be_started(programs: Path) -> None:
    install(programs, "runc")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(programs.parent / "machine.sock"))
        assert find(programs).socket == str(programs.parent / "machine.sock")
        install(programs, "containerd", "containerd-shim-runc-v2")
        assert find(programs).socket == "/own.sock"


def test_what_is_missing_is_said(programs: Path) -> None:
    assert "switched off" in find(programs, "off").missing
    assert "does not run as root" in find(programs, root=False).missing
    assert "does not run as root" in find(programs, "/theirs.sock", root=False).missing
    assert find(programs).missing.startswith("containerd and containerd-shim-runc-v2 and runc are not installed")
    install(programs, "containerd", "containerd-shim-runc-v2")
    (programs / "runc").mkdir()
    assert find(programs).missing.startswith("runc is not installed on this node (Debian packages")


def test_the_configuration_is_toml_with_odd_paths_too(tmp_path: Path) -> None:
    directory = tmp_path / 'a "b" ü'
    text = containerd.configuration(str(directory), lambda name: str(directory / "run" / name), "", "")
    read = tomllib.loads(text)
    assert read["root"] == str(directory / "containerd" / "root")
    assert read["grpc"]["address"] == str(directory / "run" / "containerd.sock")
    assert "io.containerd.grpc.v1.cri" in read["disabled_plugins"]
    assert "io.containerd.snapshotter.v1.devmapper" in read["disabled_plugins"]
    options = json.dumps({"pool_name": "p", "async_remove": True})
    read = tomllib.loads(containerd.configuration("/s", lambda name: f"/s/run/{name}", "devmapper", options))
    assert read["plugins"]["io.containerd.snapshotter.v1.devmapper"] == {"pool_name": "p", "async_remove": True}
    assert "io.containerd.snapshotter.v1.devmapper" not in read["disabled_plugins"]


def test_a_directory_is_not_used_by_another_driver(tmp_path: Path) -> None:
    containerd.check_driver(str(tmp_path), "native")
    record = Path(containerd.driver_record(str(tmp_path)))
    record.parent.mkdir()
    record.write_text("overlayfs\n")
    containerd.check_driver(str(tmp_path), "")
    containerd.check_driver(str(tmp_path), "overlayfs")
    with pytest.raises(Unusable, match="give --storage-driver overlayfs"):
        containerd.check_driver(str(tmp_path), "native")


def test_options_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(
        '[containerd]\nsocket = "/file.sock"\n[storage]\ndriver = "zfs"\noptions.root_path = "/z"\n'
    )
    words = ["--state-dir", str(tmp_path)]
    read = parse(words, {}, root=True)
    assert (read.containerd, read.storage_driver) == ("/file.sock", "zfs")
    assert json.loads(read.storage_options) == {"root_path": "/z"}
    read = parse([*words, "--containerd", "off", "--storage-driver", "native"], {}, root=True)
    assert (read.containerd, read.storage_driver, read.storage_options) == ("off", "native", "")
    assert parse(words, {"SWARMPY_CONTAINERD": "off"}, root=True).containerd == "off"


def test_the_record_for_the_worker(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    found = containerd.prepare(
        Settings(str(tmp_path), containerd="off"), str(tmp_path), lambda name: str(tmp_path / "run" / name), {}
    )
    record = json.loads((tmp_path / "run" / containerd.RECORD).read_text())
    assert record == {"socket": "", "private": False, "missing": found.missing, "driver": ""}
