"""Names of images: what short ones stand for, and what is refused."""

from __future__ import annotations

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.reference import DEFAULT_DOMAIN, endpoint_of, parse_reference

DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("web", f"{DEFAULT_DOMAIN}/library/web:latest", "web:latest"),
        ("web:1.2", f"{DEFAULT_DOMAIN}/library/web:1.2", "web:1.2"),
        ("anna/web", f"{DEFAULT_DOMAIN}/anna/web:latest", "anna/web:latest"),
        (f"web@{DIGEST}", f"{DEFAULT_DOMAIN}/library/web@{DIGEST}", f"web@{DIGEST}"),
        (f"web:1@{DIGEST}", f"{DEFAULT_DOMAIN}/library/web:1@{DIGEST}", f"web:1@{DIGEST}"),
        (f"index.{DEFAULT_DOMAIN}/web", f"{DEFAULT_DOMAIN}/library/web:latest", "web:latest"),
        ("localhost/web", "localhost/web:latest", "localhost/web:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("registry.example/web", "registry.example/web:latest", "registry.example/web:latest"),
        ("127.0.0.1:5000/web", "127.0.0.1:5000/web:latest", "127.0.0.1:5000/web:latest"),
        ("[::1]:5000/web:x", "[::1]:5000/web:x", "[::1]:5000/web:x"),
        ("UPPER/web", "UPPER/web:latest", "UPPER/web:latest"),
        ("a/b__c/d---e/f.g", f"{DEFAULT_DOMAIN}/a/b__c/d---e/f.g:latest", "a/b__c/d---e/f.g:latest"),
    ],
)
def test_names_stand_for_what_docker_says(text: str, full: str, short: str) -> None:
    found = parse_reference(text)
    assert (str(found), found.familiar()) == (full, short)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "has no name"),
        ("Web", "lower case"),
        ("a1" * 32, "ID of an image"),
        ("web:", "the tag ''"),
        ("web:-x", "the tag '-x'"),
        ("web:" + "x" * 129, "the tag"),
        ("web@sha256:12", "the digest 'sha256:12'"),
        ("web@md5:" + "a" * 32, "the digest"),
        ("a//b", "not a repository's name"),
        ("a/b/", "not a repository's name"),
        ("-a", "not a repository's name"),
        ("a___b", "not a repository's name"),
        ("host.example/", "name is missing"),
        ("host.example:99999/web", "not a registry's host"),
        ("ho_st.example/web", "not a registry's host"),
        ("a/" + "b" * 255, "more than 255"),
        ("web\n", "not a repository's name"),
        ("wéb", "not a repository's name"),
    ],
)
def test_wrong_names_are_refused_with_what_is_wrong(text: str, part: str) -> None:
    with pytest.raises(SwarmError) as caught:
        parse_reference(text)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert part in caught.value.message


def test_the_digest_decides_what_a_registry_is_asked_for() -> None:
    name = parse_reference(f"web:1@{DIGEST}")
    assert name.identifier == DIGEST
    assert str(name.at(DIGEST)) == f"{DEFAULT_DOMAIN}/library/web@{DIGEST}"
    assert parse_reference("web:1").identifier == "1"


def test_only_the_registry_of_short_names_answers_elsewhere() -> None:
    assert endpoint_of("registry.example:5000") == "registry.example:5000"
    assert endpoint_of(DEFAULT_DOMAIN).endswith(f".{DEFAULT_DOMAIN}")
