"""Times and sizes as Docker writes them."""

from __future__ import annotations

import time
from typing import Final

from swarmpy import units

ID_WIDTH: Final = 12


def ago(at: float, now: float) -> str:
    """Return how long ago the wall time `at` was: "5 seconds ago"; empty where it is not known."""
    return f"{units.human_duration(max(0.0, now - at))} ago" if at > 0 else ""


def timestamp(at: float) -> str:
    """Return the wall time `at` in ISO 8601, UTC, as Docker's JSON has it; empty where it is not known."""
    if at <= 0:
        return ""
    micros = round((at % 1) * 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{min(micros, 999_999):06d}Z"


def short_id(full: str, *, no_trunc: bool = False) -> str:
    return full if no_trunc else full[:ID_WIDTH]
