"""Laws of variables in stack files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmpy.errors import Code, SwarmError
from swarmpy.stack.interpolate import interpolate

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
values = st.text(max_size=20)
variables = st.dictionaries(names, values, max_size=5)
words = st.text(alphabet=st.characters(exclude_characters="${}"), max_size=20)


@given(st.text(max_size=60), variables)
def test_doubled_dollars_give_any_text_back(text: str, known: dict[str, str]) -> None:
    assert interpolate(text.replace("$", "$$"), known) == text


@given(st.text(max_size=60), variables)
def test_any_text_is_answered_or_refused_with_a_sentence(text: str, known: dict[str, str]) -> None:
    try:
        interpolate(text, known)
    except SwarmError as error:
        assert error.code is Code.INVALID_ARGUMENT


@given(words, names, values, words)
def test_both_forms_give_the_value_unread(before: str, name: str, value: str, after: str) -> None:
    assert interpolate(f"{before}${{{name}}}{after}", {name: value}) == before + value + after
    assert interpolate(f"${name} {after}", {name: value}) == f"{value} {after}"


@given(names, words, st.none() | values)
def test_operators(name: str, word: str, value: str | None) -> None:
    known = {} if value is None else {name: value}
    assert interpolate(f"${{{name}:-{word}}}", known) == (value or word)
    assert interpolate(f"${{{name}-{word}}}", known) == (word if value is None else value)
    assert interpolate(f"${{{name}:+{word}}}", known) == (word if value else "")
    assert interpolate(f"${{{name}+{word}}}", known) == ("" if value is None else word)
    for operator, refused in ((":?", not value), ("?", value is None)):
        text = f"${{{name}{operator}{word}}}"
        if refused:
            with pytest.raises(SwarmError, match=f"the variable {name} is"):
                interpolate(text, known)
        else:
            assert interpolate(text, known) == value


@given(st.lists(names, min_size=1, max_size=6), words)
def test_defaults_nest_to_any_depth(chain: list[str], word: str) -> None:
    text = "".join(f"${{{name}:-" for name in chain) + word + "}" * len(chain)
    assert interpolate(text, {}) == word
    assert interpolate(text, {chain[-1]: "found"}) == "found"


@given(names, names)
def test_only_variables_that_matter_are_reported_missing(name: str, other: str) -> None:
    missing: list[str] = []
    interpolate(f"${{{name}:-${other}}}", {name: "x"}, missing=missing.append)
    assert missing == []
    interpolate(f"${name}", {}, missing=missing.append)
    interpolate(f"${{{name}:-${{{other}}}}}", {}, missing=missing.append)
    assert missing == [name, other]


@pytest.mark.parametrize("text", ["$", "a $ b", "${", "${}", "${A", "${A:-x", "$1", "${A!}", "${A:x}", "${A:-${B}"])
def test_malformed_texts(text: str) -> None:
    with pytest.raises(SwarmError) as caught:
        interpolate(text, {"A": "1"})
    assert text in caught.value.message


def test_a_text_nested_beyond_reason_is_refused() -> None:
    with pytest.raises(SwarmError, match="nested too deep"):
        interpolate("${A:-" * 5000 + "}" * 5000, {})
