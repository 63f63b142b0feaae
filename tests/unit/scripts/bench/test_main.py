"""What the benchmarks' runner makes of its command line."""

from __future__ import annotations

import pytest

from scripts.bench.__main__ import benchmarks, main, split

KNOWN = ["cli", "dns"]


@pytest.mark.parametrize(
    ("words", "names", "options"),
    [
        ([], KNOWN, []),
        (["dns"], ["dns"], []),
        (["dns", "cli"], ["dns", "cli"], []),
        (["cli", "--rounds", "3"], ["cli"], ["--rounds", "3"]),
        (["cli", "--help"], ["cli"], ["--help"]),
        (["cli", "--name=with blank", "x"], ["cli"], ["--name=with blank", "x"]),
    ],
)
def test_names_come_first_and_options_are_for_one(words: list[str], names: list[str], options: list[str]) -> None:
    assert split(words, KNOWN) == (names, options)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["ssh", "cli"], "no benchmark ssh; there are cli, dns"),
        (["--rounds", "3"], "--rounds: options are for one benchmark"),
        (["cli", "dns", "--rounds", "3"], "--rounds: options are for one benchmark"),
    ],
)
def test_what_is_not_clear_is_refused(words: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        split(words, KNOWN)


def test_a_refusal_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert capsys.readouterr().err == f"scripts.bench: no benchmark nothing; there are {', '.join(benchmarks())}\n"
    assert main(["--help"]) == 0
    assert "NAME OPTION..." in capsys.readouterr().out
