"""Mounts of services and images, as sources on a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmpy.errors import SwarmError
from swarmpy.model.spec import ContainerSpec, Mount
from swarmpy.model.states import MountType
from tests.support.clock import FakeClock
from worker.executor.container.mounts import Resolved, resolve_mounts
from worker.oci.facts import Bind, Memory
from worker.volumes import Volumes


def resolved(tmp_path: Path, *mounts: Mount, image: tuple[str, ...] = ()) -> Resolved:
    volumes = Volumes(tmp_path / "volumes", FakeClock())
    return resolve_mounts("t1", ContainerSpec(mounts=mounts), image, volumes, lambda t: t.replace("{{slot}}", "3"))


def test_binds_are_as_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "data-3").mkdir()
    source = f"{tmp_path}/data-{{{{slot}}}}"
    options = {"propagation": "rslave"}
    found = resolved(tmp_path, Mount(source=source, target="/d/{{slot}}/", read_only=True, options=options))
    assert found.mounts == (Bind(f"{tmp_path}/data-3", "/d/3", read_only=True, propagation="rslave"),)


def test_a_missing_source_is_refused_in_dockers_words(tmp_path: Path) -> None:
    with pytest.raises(SwarmError, match="bind source path does not exist: /no/such"):
        resolved(tmp_path, Mount(source="/no/such", target="/d"))


def test_tmpfs_has_size_and_mode(tmp_path: Path) -> None:
    options = {"size": "1m", "mode": "0700"}
    found = resolved(tmp_path, Mount(type=MountType.TMPFS, target="/t", options=options))
    assert found.mounts == (Memory("/t", 1 << 20, 0o700),)


def test_volumes_are_made_once_and_filled_once(tmp_path: Path) -> None:
    volume = Mount(type=MountType.VOLUME, source="keep", target="/v")
    found = resolved(tmp_path, volume)
    assert found.mounts == (Bind(str(tmp_path / "volumes/keep/_data"), "/v"),)
    assert [fill.target for fill in found.fills] == ["/v"]
    volumes = Volumes(tmp_path / "volumes", FakeClock())
    assert volumes.begin_to_fill("keep")
    volumes.end_to_fill("keep")
    assert resolved(tmp_path, volume).fills == ()


def test_nocopy_leaves_a_volume_empty(tmp_path: Path) -> None:
    options = {"nocopy": "true"}
    assert resolved(tmp_path, Mount(type=MountType.VOLUME, source="k", target="/v", options=options)).fills == ()


def test_an_images_volume_is_the_tasks_own_unless_something_is_mounted_there(tmp_path: Path) -> None:
    tmpfs = Mount(type=MountType.TMPFS, target="/a")
    first = resolved(tmp_path, tmpfs, image=("/a", "/b/"))
    second = resolved(tmp_path, tmpfs, image=("/a", "/b/"))
    assert first.mounts == second.mounts  # another try finds the same one
    bind = first.mounts[1]
    assert isinstance(bind, Bind)
    assert bind.target == "/b"
    [volume] = Volumes(tmp_path / "volumes", FakeClock()).list()
    assert volume.task_id == "t1"
