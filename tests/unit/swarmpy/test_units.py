"""Memory, CPUs, durations and ages in the words of Docker."""

from __future__ import annotations

import pytest

from swarmpy import units
from swarmpy.errors import SwarmError

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("100", 100),
        ("100b", 100),
        ("512m", 512 << 20),
        ("512MB", 512 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("1 k", 1024),
        ("2T", 2 << 40),
    ],
)
def test_memory(text: str, size_bytes: int) -> None:
    assert units.parse_memory_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1.m", "9999999p", "1e3", "١"])
def test_what_is_not_memory(text: str) -> None:
    with pytest.raises(SwarmError, match="memory"):
        units.parse_memory_bytes(text)


@pytest.mark.parametrize(
    ("text", "nano"), [("0.5", 500_000_000), ("2", 2 * 10**9), ("0.000000001", 1), ("1e1", 10**10)]
)
def test_cpus(text: str, nano: int) -> None:
    assert units.parse_nano_cpus(text) == nano


@pytest.mark.parametrize("text", ["", "half", "-1", "nan", "inf", "0.0000000001", "99999999999"])
def test_what_is_not_a_number_of_cpus(text: str) -> None:
    with pytest.raises(SwarmError, match="CPUs"):
        units.parse_nano_cpus(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("10s", 10.0), ("1h30m", 5400.0), ("500ms", 0.5), ("1.5h", 5400.0), ("1m0.1s", 60.1), ("100us", 1e-4)],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration_s(text) == seconds


def test_a_bare_number_is_no_duration() -> None:
    with pytest.raises(SwarmError, match="did you mean 10s"):
        units.parse_duration_s("10")


@pytest.mark.parametrize("text", ["", "s", "-5s", "1d", "1h 30m", "1,5s"])
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(SwarmError, match="such as 10s"):
        units.parse_duration_s(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.5, "500ms"), (1.5, "1.5s"), (90.0, "1m30s"), (5400.0, "1h30m0s"), (2e-6, "2us"), (3e-9, "3ns")],
)
def test_durations_as_text(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "Less than a second"),
        (1.9, "1 second"),
        (59.9, "59 seconds"),
        (MINUTE, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (HOUR - 1, "59 minutes"),
        (HOUR, "About an hour"),
        (2.5 * HOUR, "3 hours"),
        (2 * DAY, "2 days"),
        (14 * DAY, "2 weeks"),
        (60 * DAY, "2 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_ages(seconds: float, words: str) -> None:
    assert units.human_duration(seconds) == words


@pytest.mark.parametrize(("size", "text"), [(0, "0B"), (512, "512B"), (1536, "1.5KiB"), (512 << 20, "512MiB")])
def test_sizes(size: int, text: str) -> None:
    assert units.human_bytes(size) == text


def test_exact_amounts() -> None:
    assert units.format_memory(3 << 29) == "1536MiB"
    assert units.format_memory(1000) == "1000B"
    assert units.format_cpus(1_500_000_000) == "1.5"
