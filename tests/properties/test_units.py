"""Amounts as people write them: what is formatted reads back as the same number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmpy import units
from swarmpy.errors import Code, SwarmError


@given(st.integers(0, 2**62))
def test_memory_reads_back(size_bytes: int) -> None:
    assert units.parse_memory_bytes(units.format_memory(size_bytes)) == size_bytes


@given(st.integers(0, 2**62))
def test_cpus_read_back(nano_cpus: int) -> None:
    assert units.parse_nano_cpus(units.format_cpus(nano_cpus)) == nano_cpus


@given(st.integers(0, 10**17))
def test_durations_read_back_to_the_nanosecond(total_ns: int) -> None:
    seconds = total_ns / 1e9
    assert units.parse_duration_s(units.format_duration(seconds)) == seconds


@given(st.text(max_size=12))
def test_any_text_is_a_number_or_a_clear_refusal(text: str) -> None:
    for parse in (units.parse_memory_bytes, units.parse_nano_cpus, units.parse_duration_s):
        try:
            assert parse(text) >= 0
        except SwarmError as error:
            assert error.code is Code.INVALID_ARGUMENT
            assert repr(text) in error.message


@given(st.floats(0, 10**10), st.floats(0, 10**10))
def test_sizes_and_ages_for_people_are_short(size: float, seconds: float) -> None:
    assert len(units.human_bytes(int(size))) <= 9
    assert len(units.human_duration(seconds)) <= 18
