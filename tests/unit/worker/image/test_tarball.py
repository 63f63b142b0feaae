"""Archives of images, read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.manifests import OCI_LAYER
from tests.support.images import (
    Entry,
    ImageBuilder,
    digest_of,
    hard_link,
    symlink,
    tar_bytes,
    write_docker_tar,
    write_layout_tar,
)
from worker.image.tarball import Tarball, open_tarball


def tarball(*entries: Entry) -> Tarball:
    return Tarball(io.BytesIO(tar_bytes(entries)), "in.tar")


def test_a_layout(tmp_path: Path) -> None:
    one, two = ImageBuilder().layer([Entry("a", b"1")]).build(), ImageBuilder().layer([Entry("b", b"2")]).build()
    write_layout_tar(tmp_path / "in.tar", {"web:1": one, "team/other:2": two, "web:3": one})
    found = open_tarball(tmp_path / "in.tar")
    try:
        assert [(image.target.digest, image.names) for image in found.images()] == [
            (one.digest, ("web:1", "web:3")),
            (two.digest, ("team/other:2",)),
        ]
        assert found.read(one.digest) == one.blobs[one.digest]
        layer = one.blobs[one.layers[0]]
        assert b"".join(found.pieces(one.layers[0], 10)) == layer[10:]
        assert found.size_bytes(one.layers[0]) == len(layer)
        assert not found.has("sha256:" + "0" * 64)
    finally:
        found.close()


def test_what_docker_saved_gets_a_manifest(tmp_path: Path) -> None:
    built = ImageBuilder().layer([Entry("a", b"1")]).build()
    write_docker_tar(tmp_path / "in.tar", {"web:1": built})
    found = open_tarball(tmp_path / "in.tar")
    try:
        (image,) = found.images()
        assert image.names == ("web:1",)
        assert OCI_LAYER.encode() + b'"' in found.read(image.target.digest)
        assert digest_of(found.read(image.target.digest)) == image.target.digest
    finally:
        found.close()


@pytest.mark.parametrize(
    "link",
    [symlink("b/layer.tar", "../a/layer.tar"), hard_link("b/layer.tar", "a/layer.tar")],
    ids=["symbolic", "hard"],
)
def test_a_layer_that_is_a_link_to_another(link: Entry) -> None:
    saved = b'[{"Config":"c.json","Layers":["a/layer.tar","b/layer.tar"],"RepoTags":["a:1"]}]'
    found = tarball(Entry("c.json", b"{}"), Entry("a/layer.tar", b"x"), link, Entry("manifest.json", saved))
    (image,) = found.images()
    assert found.read(image.target.digest).count(digest_of(b"x").encode()) == 2


def test_links_that_go_round_or_out_lead_nowhere() -> None:
    saved = b'[{"Config":"a","Layers":[],"RepoTags":["a:1"]}]'
    for links in (
        [symlink("a", "b"), symlink("b", "a")],
        [symlink("a", "../../../etc/passwd")],
        [symlink("a", "/etc/passwd")],
    ):
        with pytest.raises(SwarmError, match="lacks a"):
            tarball(*links, Entry("manifest.json", saved)).images()


def test_a_blob_that_is_not_its_digest_is_not_read() -> None:
    name = digest_of(b"right").replace(":", "/")
    with pytest.raises(SwarmError, match="something else"):
        tarball(Entry(f"blobs/{name}", b"wrong")).read(digest_of(b"right"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SwarmError) as caught:
        open_tarball(tmp_path / "nope.tar")
    assert caught.value.code is Code.NOT_FOUND


@given(st.binary(max_size=600), st.integers(0, 2000), st.binary(min_size=1, max_size=40))
def test_damage_anywhere_is_a_sentence(noise: bytes, place: int, change: bytes) -> None:
    saved = b'[{"Config":"c.json","Layers":["l"],"RepoTags":["a:1"]}]'
    good = tar_bytes([Entry("c.json", b"{}"), Entry("l", b"x" * 600), Entry("manifest.json", saved)])
    for data in (noise, good[:place] + change + good[place + len(change) :], good[:place]):
        try:
            Tarball(io.BytesIO(data), "in.tar").images()
        except SwarmError as error:
            assert error.code in (Code.CORRUPT, Code.INVALID_ARGUMENT)
