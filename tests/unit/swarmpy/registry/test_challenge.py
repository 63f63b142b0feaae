"""What WWW-Authenticate asks for."""

from __future__ import annotations

from swarmpy.registry.challenge import Challenge, choose_challenge, parse_challenges


def test_a_bearer_challenge_with_commas_in_its_scope() -> None:
    header = 'Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull,push"'
    assert parse_challenges([header]) == (
        Challenge(
            "bearer", {"realm": "https://auth.example/token", "service": "r", "scope": "repository:a/b:pull,push"}
        ),
    )


def test_several_schemes_in_one_header_and_quoted_quotes() -> None:
    found = parse_challenges(['Negotiate, Basic realm="a \\"b\\"", Bearer realm=x, service=y'])
    assert [c.scheme for c in found] == ["negotiate", "basic", "bearer"]
    assert found[1].parameters == {"realm": 'a "b"'}
    assert found[2].parameters == {"realm": "x", "service": "y"}


def test_a_token_is_preferred_to_a_password_and_what_we_cannot_answer_is_left() -> None:
    found = choose_challenge(parse_challenges(['Basic realm="a"', 'Bearer realm="b"']))
    assert found is not None
    assert found.scheme == "bearer"
    assert choose_challenge(parse_challenges(["Negotiate", "Bearer"])) is None


def test_an_endless_header_is_cut() -> None:
    assert parse_challenges(["Basic " + "a=b," * 100_000])[0].scheme == "basic"
