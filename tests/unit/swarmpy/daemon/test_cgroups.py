"""What is left of the tasks' cgroups is removed, and what is not empty is named."""

from __future__ import annotations

from pathlib import Path

from swarmpy.daemon.cgroups import remove


def test_directories_go_with_those_of_the_tasks(tmp_path: Path) -> None:
    record = tmp_path / "cgroups"
    bases = [tmp_path / kind / "swarmpy" / "key" for kind in ("memory", "cpu")]
    for base in bases:
        (base / "task1").mkdir(parents=True)
        (base / "task2").mkdir()
    record.write_text("".join(f"{base}\n" for base in [*bases, tmp_path / "gone"]))
    assert remove(str(record)) == []
    assert [base.exists() for base in bases] == [False, False]


def test_what_is_not_empty_stays_and_is_named(tmp_path: Path) -> None:
    record, base = tmp_path / "cgroups", tmp_path / "memory"
    (base / "task1" / "busy").mkdir(parents=True)
    record.write_text(f"{base}\n")
    assert remove(str(record)) == [str(base)]
    assert (base / "task1" / "busy").exists()


def test_without_a_record_there_is_nothing_to_remove(tmp_path: Path) -> None:
    assert remove(str(tmp_path / "cgroups")) == []
