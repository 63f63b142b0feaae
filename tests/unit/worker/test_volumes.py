"""Local volumes: made on first use, kept until they are removed, never lost with a damaged record."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from tests.support.clock import FakeClock
from worker.volumes import Volumes, anonymous_name


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path / "volumes", FakeClock())


def test_a_volume_is_made_once(volumes: Volumes) -> None:
    assert volumes.list() == []
    made = volumes.ensure("data", labels={"a": "b"})
    assert (made.name, made.labels, made.created_at) == ("data", {"a": "b"}, 1000.0)
    assert volumes.ensure("data", labels={"c": "d"}) == made
    assert volumes.list() == [volumes.get("data")] == [made]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-a", "a" * 256, "a b"])
def test_names_that_are_none(volumes: Volumes, name: str) -> None:
    with pytest.raises(SwarmError) as caught:
        volumes.ensure(name)
    assert caught.value.code is Code.INVALID_ARGUMENT
    with pytest.raises(SwarmError) as caught:
        volumes.get(name)
    assert caught.value.code is Code.NOT_FOUND


def test_removing_one_takes_its_data_and_no_other(volumes: Volumes) -> None:
    for name in ("one", "two"):
        volumes.ensure(name)
        (volumes.data(name) / "file").write_text("x")
    volumes.remove("one")
    assert [volume.name for volume in volumes.list()] == ["two"]
    with pytest.raises(SwarmError, match="no volume 'one'"):
        volumes.remove("one")


def test_anonymous_ones_go_with_their_task(volumes: Volumes) -> None:
    for task_id, target in (("t1", "/a"), ("t1", "/b"), ("t2", "/a")):
        volumes.ensure(anonymous_name(task_id, target), task_id=task_id)
    volumes.ensure("t1-mine")  # a user's, of an unlucky name
    volumes.remove_of("t1")
    assert [volume.task_id for volume in volumes.list()] == ["", "t2"]


def test_the_first_content_is_put_once_and_whole(volumes: Volumes) -> None:
    volumes.ensure("new")
    assert volumes.begin_to_fill("new")
    (volumes.data("new") / "half").mkdir()
    (volumes.data("new") / "half" / "file").write_text("x")
    assert volumes.begin_to_fill("new")  # the worker was killed over it
    assert list(volumes.data("new").iterdir()) == []
    volumes.end_to_fill("new")
    assert not volumes.begin_to_fill("new")


def test_what_somebody_has_put_there_is_kept(volumes: Volumes) -> None:
    volumes.ensure("used")
    (volumes.data("used") / "file").write_text("x")
    assert not volumes.begin_to_fill("used")
    assert volumes.get("used").filled
    assert (volumes.data("used") / "file").read_text() == "x"


def test_a_damaged_record_costs_no_data(volumes: Volumes, tmp_path: Path) -> None:
    volumes.ensure("data")
    (volumes.data("data") / "file").write_text("x")
    (tmp_path / "volumes" / "data" / "volume.json").write_text("{")
    assert volumes.get("data").filled  # never filled again, over what it holds
    assert (volumes.data("data") / "file").read_text() == "x"
