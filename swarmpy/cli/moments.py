"""Moments as people write them: a time, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from swarmpy import units
from swarmpy.cli.given import usage_error
from swarmpy.errors import SwarmError

_NUMBER: Final = re.compile(r"\d+(\.\d+)?")


def moment(flag: str, text: str, now: float) -> float:
    """Return wall seconds for a time, seconds since the epoch, or a duration before `now`."""
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        return now - units.parse_duration_s(text)
    except (SwarmError, ValueError):
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise usage_error(
            f'invalid argument "{text}" for "--{flag}": use a duration (10m) or a time (2026-01-31T13:00:00Z)'
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
