"""How tasks are wired, kept in files."""

from __future__ import annotations

from pathlib import Path

from swarmpy.model.network import NetworkRow
from worker.network.records import WiringRecords
from worker.network.wiring import Link, Wiring


def wiring(task_id: str, *networks: str) -> Wiring:
    links = tuple(Link(row=NetworkRow(id=n), address="10.0.0.5", inner=f"eth{i}") for i, n in enumerate(networks))
    return Wiring(task_id=task_id, links=links, way_out="eth9", name_port=53)


def test_the_next_worker_finds_what_was_kept(tmp_path: Path) -> None:
    records = WiringRecords(tmp_path / "wiring")
    records.keep(wiring("a", "front", "back"))
    records.keep(wiring("b", "front"))
    records.keep(wiring("c"))
    records.forget("b")
    records.forget("unknown")
    again = WiringRecords(tmp_path / "wiring")
    assert dict(again.rows) == {"a": wiring("a", "front", "back"), "c": wiring("c")}
    assert again.networks() == {"front", "back"}
    assert again.on("front") == ("a",)


def test_a_damaged_record_is_left_out_and_removed(tmp_path: Path) -> None:
    WiringRecords(tmp_path).keep(wiring("a"))
    (tmp_path / "b.msgpack").write_bytes(b"\xc1")
    assert list(WiringRecords(tmp_path).rows) == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.msgpack"]
