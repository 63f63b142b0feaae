"""Where a worker finds out about its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmpy.daemon import proc
from worker.host import find_place


def test_the_boot_is_the_one_that_the_supervisor_and_the_task_host_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("another-boot\n")
    monkeypatch.setenv("SWARMPY_BOOT_ID_FILE", str(boot))
    place = find_place(tmp_path, "127.0.0.2", "127.0.0.3")
    assert place.boot_id == proc.boot_id() == "another-boot"


def test_a_name_for_each_of_several_nodes_on_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMPY_HOSTNAME", "node7")
    assert find_place(tmp_path, "127.0.0.2", "127.0.0.2").hostname == "node7"
