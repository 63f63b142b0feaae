"""Manifests and indexes: read, refused, chosen from."""

from __future__ import annotations

import json

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.manifests import (
    DOCKER_MANIFEST,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
    Manifest,
    choose,
    decode,
    digest_of,
    media_type_of,
)
from swarmpy.registry.platforms import Platform, normalised, parse_platform
from tests.support.images import Built, Entry, ImageBuilder, index

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")


def image(platform: str = "linux/amd64", docker: bool = False) -> Built:
    return ImageBuilder(docker=docker).layer([Entry("a", b"x")]).build(platform=platform)


def test_a_manifest_of_either_kind() -> None:
    for docker, kind in ((False, OCI_MANIFEST), (True, DOCKER_MANIFEST)):
        built = image(docker=docker)
        raw = built.blobs[built.digest]
        found = decode(raw, kind, "it")
        assert isinstance(found, Manifest)
        assert [layer.digest for layer in found.layers] == list(built.layers)
        assert media_type_of(raw, "", "it") == kind


def test_a_document_that_does_not_say_what_it_is_is_known_by_its_shape() -> None:
    row = {"mediaType": "x", "digest": digest_of(b""), "size": 0}
    assert media_type_of(json.dumps({"schemaVersion": 2, "manifests": [row]}).encode(), "text/plain", "it") == OCI_INDEX
    document = {"schemaVersion": 2, "config": row, "layers": []}
    assert media_type_of(json.dumps(document).encode(), "", "it") == OCI_MANIFEST


@pytest.mark.parametrize(
    ("document", "code", "part"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, Code.NOT_SUPPORTED, "first format"),
        ({"schemaVersion": 2}, Code.CORRUPT, "no image manifest"),
        ([], Code.CORRUPT, "not an image manifest"),
        ({"config": {"mediaType": "x", "digest": "../x", "size": 1}, "layers": []}, Code.CORRUPT, "no digest"),
        (
            {"config": {"mediaType": "x", "digest": "sha256:" + "a" * 64, "size": -1}, "layers": []},
            Code.CORRUPT,
            "a size of -1",
        ),
        (
            {
                "config": {"mediaType": "x", "digest": "sha256:" + "a" * 64, "size": 1},
                "layers": [{"mediaType": "application/wasm", "digest": "sha256:" + "a" * 64, "size": 1}],
            },
            Code.NOT_SUPPORTED,
            "application/wasm",
        ),
    ],
)
def test_what_is_no_image_is_refused(document: object, code: Code, part: str) -> None:
    with pytest.raises(SwarmError) as caught:
        decode(json.dumps(document).encode(), "", "the manifest of web")
    assert caught.value.code is code
    assert part in caught.value.message


def test_a_huge_document_is_not_read() -> None:
    with pytest.raises(SwarmError, match="more than"):
        decode(b" " * (MAX_MANIFEST_BYTES + 1), "", "it")


def test_the_image_of_the_machine_is_chosen_and_a_missing_one_names_those_that_are_there() -> None:
    built = index(image("linux/arm64/v8"), image("linux/amd64"), image("linux/s390x"))
    found = decode(built.blobs[built.digest], "", "it")
    assert isinstance(found, Index)
    assert choose(found, AMD, "it").digest == image("linux/amd64").digest
    assert choose(found, ARM, "it").digest == image("linux/arm64/v8").digest
    with pytest.raises(SwarmError) as caught:
        choose(found, Platform("linux", "riscv64"), "the image web")
    assert caught.value.message == (
        "the image web has no image for linux/riscv64; there are: linux/amd64, linux/arm64/v8, linux/s390x"
    )


def test_an_attestation_is_never_chosen() -> None:
    built = index(image("unknown/unknown"), image("linux/arm64"))
    found = decode(built.blobs[built.digest], "", "it")
    assert isinstance(found, Index)
    with pytest.raises(SwarmError, match="there are: linux/arm64"):
        choose(found, AMD, "it")


@pytest.mark.parametrize(
    ("machine", "offers", "best"),
    [
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/386"], 1),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
    ],
)
def test_variants(machine: str, offers: list[str], best: int) -> None:
    built = index(*(image(offer) for offer in offers))
    found = decode(built.blobs[built.digest], "", "it")
    assert isinstance(found, Index)
    assert choose(found, parse_platform(machine), "it").digest == image(offers[best]).digest


def test_platforms_as_people_and_kernels_write_them() -> None:
    assert normalised("Linux", "x86_64") == AMD
    assert normalised("linux", "aarch64", "v8") == ARM
    assert str(normalised("linux", "armv7l")) == "linux/arm/v7"
    assert parse_platform("arm64") == ARM
    with pytest.raises(SwarmError, match="invalid platform"):
        parse_platform("linux/")
