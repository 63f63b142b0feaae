"""The state directory, the settings and small pure parts of the supervisor."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from swarmpy.daemon.address import canonical, check_address, family_of
from swarmpy.daemon.child import BACKOFF_FIRST_S, BACKOFF_MOST_S, CALM_S, next_delay_s
from swarmpy.daemon.main import default_state_dir, parse
from swarmpy.daemon.orphans import MOST, Orphans
from swarmpy.daemon.proc import Stat, say_status
from swarmpy.daemon.settings import (
    CONTAINER_END,
    CONTAINERD,
    PROCESSES,
    Settings,
    child_environment,
    commands,
    from_argv,
)
from swarmpy.daemon.state import Unusable, open_state, write_atomically, write_in_place


def test_backoff_doubles_to_its_limit_and_a_calm_life_forgives() -> None:
    delays, last_s = [], 0.0
    for _ in range(8):
        last_s = next_delay_s(last_s, lived_s=0.0)
        delays.append(last_s)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert next_delay_s(BACKOFF_MOST_S, lived_s=CALM_S) == BACKOFF_FIRST_S
    assert next_delay_s(BACKOFF_MOST_S, lived_s=CALM_S - 0.1) == BACKOFF_MOST_S


def test_a_directory_is_made_locked_and_written(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    state = open_state(str(path))
    assert path.stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)
    assert (path / "lock").read_text().strip() == f"{os.getpid()}"
    with pytest.raises(Unusable, match=f"in use by another swarmpyd, pid {os.getpid()}"):
        open_state(str(path))
    state.write_node({"version": 1, "addr": "127.0.0.1"})
    (path / "run" / "old.sock").touch()
    state.forget_run()
    assert list((path / "run").iterdir()) == []
    state.close()
    again = open_state(str(path))
    assert again.node == {"version": 1, "addr": "127.0.0.1"}
    again.close()


def test_an_atomic_write_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(str(path), b"old", sync=True)
    (tmp_path / "file.new").mkdir()  # in the way
    with pytest.raises(OSError, match="directory"):
        write_atomically(str(path), b"new", sync=True)
    assert path.read_bytes() == b"old"


def test_a_record_written_in_place_keeps_its_size_so_that_a_full_disk_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "worker.pid"
    write_in_place(str(path), b'{"pid":100000}')
    inode, size = path.stat().st_ino, path.stat().st_size
    write_in_place(str(path), b'{"pid":1}')
    assert json.loads(path.read_text()) == {"pid": 1}
    assert (path.stat().st_ino, path.stat().st_size) == (inode, size)
    write_in_place(str(path), json.dumps({"argv": "x" * 5000}).encode())
    write_in_place(str(path), b"{}")
    assert json.loads(path.read_text()) == {}


@pytest.mark.parametrize(
    ("text", "same"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("0:0:0:0:0:0:0:1", "::1"), ("web", "web")]
)
def test_addresses_have_one_spelling(text: str, same: str) -> None:
    assert canonical(text) == same


def test_addresses_are_checked() -> None:
    assert family_of("1.2.3") is None
    assert check_address("--addr", "127.0.0.9") == "127.0.0.9"
    for wrong in ("localhost", "", "1.2.3.4.5", "127.0.0.1\0", "0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(Unusable, match="--addr"):
            check_address("--addr", wrong)


def test_settings_survive_the_way_to_the_lean_process() -> None:
    settings = Settings("/a=b/c d", addr="::1", data_addr="127.0.0.2", stop_tasks=True, processes="/p")
    again = from_argv(settings.to_argv())
    assert [getattr(again, name) for name in Settings.__slots__] == [
        getattr(settings, name) for name in Settings.__slots__
    ]
    assert from_argv(Settings("/x").to_argv()).stop_tasks is False


def test_the_command_line() -> None:
    environment = {"SWARMPY_STATE_DIR": "/somewhere"}
    assert parse([], environment, root=True).state_dir == "/somewhere"
    assert parse(["--state-dir", "/x"], environment, root=True).state_dir == "/x"
    assert default_state_dir({}, root=True) == "/var/lib/swarmpy"
    assert default_state_dir({"HOME": "/home/a"}, root=False).endswith("/swarmpy")
    with pytest.raises(SystemExit) as caught:
        parse(["--nosuch"], environment, root=True)
    assert caught.value.code == 2


def test_the_table_of_commands(tmp_path: Path) -> None:
    table = commands("")
    assert set(table) == {*PROCESSES, CONTAINER_END} - {CONTAINERD}
    assert Path(table["taskhost"][-1]).is_file()
    replaced = tmp_path / "table.json"
    replaced.write_text(json.dumps({"worker": ["w"]}))
    assert commands(str(replaced)) == {**table, "worker": ["w"]}
    replaced.write_text(json.dumps({"init": ["w"]}))
    with pytest.raises(Unusable, match="taskhost, dataplane, worker, manager"):
        commands(str(replaced))
    assert child_environment({"A": "1", "NOTIFY_SOCKET": "/x"}) == {"A": "1"}


def test_orphans_are_bounded_and_outlive_their_keeper(tmp_path: Path) -> None:
    path = tmp_path / "exits"
    orphans = Orphans(str(path))
    for pid in range(1, 2 * MOST + 3):
        orphans.add(pid, pid * 10, 0, 1.0)
    assert len(orphans.known(None)) == MOST
    assert len(path.read_text().splitlines()) < 2 * MOST
    orphans.add(5, 50, 7 << 8, 2.0)
    with path.open("ab") as file:
        file.write(b'{"torn')
    again = Orphans(str(path))
    assert len(again.known(None)) == MOST
    assert again.known({5}) == [{"pid": 5, "start_time": 50, "status": 7 << 8, "at": 2.0}]
    assert again.known({1}) == []


def test_a_stat_with_any_command_name() -> None:
    rest = " ".join(str(n) for n in range(4, 53))
    stat = Stat(f"12 (a) R 1 (b)) Z {rest}")
    assert (stat.zombie, stat.parent, stat.group, stat.session) == (True, 4, 5, 6)
    assert (stat.start_time, stat.exit_status) == (22, 52)


def test_statuses_in_words() -> None:
    assert say_status(None) == "exited, status unknown"
    assert say_status(7 << 8) == "exited with status 7"
    assert say_status(9) == "killed by SIGKILL"
    assert say_status(40) == "killed by 40"
