"""Laws of names of images."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmpy.errors import Code, SwarmError
from swarmpy.registry.challenge import parse_challenges
from swarmpy.registry.platforms import Platform, best, normalised, rank
from swarmpy.registry.reference import Reference, parse_reference

parts = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)
hosts = st.from_regex(r"[a-z0-9]{1,5}(\.[a-z]{1,4}){1,2}(:[1-9][0-9]{0,3})?", fullmatch=True) | st.just("localhost")
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digests = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
full = st.builds(Reference, hosts, paths, tags, st.just("") | digests) | st.builds(
    Reference, hosts, paths, st.just(""), digests
)
platforms = st.builds(
    normalised,
    st.sampled_from(["linux", "windows"]),
    st.sampled_from(["amd64", "x86_64", "arm64", "aarch64", "arm", "386", "riscv64"]),
    st.sampled_from(["", "v5", "v6", "v7", "v8", "v2", "v3"]),
)


@given(full)
def test_a_full_name_reads_as_itself(name: Reference) -> None:
    assert parse_reference(str(name)) == name


@given(full)
def test_a_short_form_stands_for_the_same(name: Reference) -> None:
    assert parse_reference(name.familiar()) == name


@given(paths, tags)
def test_what_is_parsed_stays_as_it_is_when_it_is_parsed_again(path: str, tag: str) -> None:
    once = parse_reference(f"{path}:{tag}")
    assert parse_reference(str(once)) == once


@given(st.text(max_size=80) | st.text(alphabet="aB0.:/@_-[]sh256", max_size=60))
def test_any_text_is_a_name_or_refused_with_a_sentence(text: str) -> None:
    try:
        name = parse_reference(text)
    except SwarmError as error:
        assert error.code is Code.INVALID_ARGUMENT
    else:
        assert name.tag or name.digest
        assert parse_reference(str(name)) == name


@given(platforms)
def test_a_machine_runs_what_is_made_for_it_before_all_else(machine: Platform) -> None:
    assert rank(machine, machine) == 0


@given(platforms, st.lists(st.none() | platforms, max_size=6))
def test_the_best_offer_is_no_worse_than_any_other(machine: Platform, offers: list[Platform | None]) -> None:
    place = best(machine, offers)
    ranks = [rank(machine, offer) for offer in offers if offer is not None]
    usable = [score for score in ranks if score is not None]
    if place is None:
        assert not usable
    else:
        chosen = offers[place]
        assert chosen is not None
        assert rank(machine, chosen) == min(usable)


@given(st.lists(st.text(max_size=60) | st.text(alphabet='Bearr realm="x",\\ ', max_size=40), max_size=3))
def test_any_challenge_is_read_to_its_end(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()
