"""Amounts as people write them: memory, CPUs and durations, to numbers and back. Pure."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

from swarmpy.errors import invalid

_MEMORY: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE | re.ASCII)
_POWERS: Final = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(h|ms|m|us|µs|ns|s)", re.ASCII)
_SECONDS: Final = {
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("1e-3"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ns": Decimal("1e-9"),
}
_LARGEST: Final = 2**63 - 1
_NANO: Final = 10**9


def parse_memory_bytes(text: str) -> int:
    """Return the bytes that `text` stands for: `512m`, `1.5g`, `64MiB`, `1048576`. A kilobyte has 1,024 bytes.

    Raises:
        SwarmError: INVALID_ARGUMENT.
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise invalid(f"invalid amount of memory {text!r}: write a number and a unit, such as 512m or 1.5g")
    size = Decimal(match[1]) * 1024 ** _POWERS.get((match[2] or "").lower(), 0)
    if size > _LARGEST:
        raise invalid(f"the amount of memory {text!r} is too large")
    return int(size)


def parse_nano_cpus(text: str) -> int:
    """Return the nano-CPUs that `text` stands for: `0.5` is half a core, 500,000,000.

    Raises:
        SwarmError: INVALID_ARGUMENT.
    """
    try:
        cpus = Decimal(text.strip())
    except InvalidOperation:
        cpus = Decimal("nan")
    if not cpus.is_finite() or cpus < 0 or cpus * _NANO > _LARGEST:
        raise invalid(f"invalid number of CPUs {text!r}: write a number of cores, such as 0.5 or 2")
    nano = cpus * _NANO
    if nano != nano.to_integral_value():
        raise invalid(f"the number of CPUs {text!r} is too precise: at most nine decimals")
    return int(nano)


def parse_duration_s(text: str) -> float:
    """Return the seconds that `text` stands for: `10s`, `1h30m`, `500ms`, `0`.

    Raises:
        SwarmError: INVALID_ARGUMENT; a bare number is one, since it does not say its unit.
    """
    stripped = text.strip()
    if stripped == "0":
        return 0.0
    parts = _DURATION.findall(stripped)
    if not parts or "".join(number + unit for number, unit in parts) != stripped:
        hint = f"did you mean {stripped}s?" if stripped.replace(".", "", 1).isdigit() else "such as 10s or 1h30m"
        raise invalid(f"invalid duration {text!r}: write numbers with units (h, m, s, ms), {hint}")
    seconds = sum(Decimal(number) * _SECONDS[unit] for number, unit in parts)
    return float(seconds)


def format_duration(seconds: float) -> str:
    """Return a duration (finite, to the nanosecond) as `parse_duration_s` reads it: `1h30m0s`, `1.5s`, `500ms`."""
    total_ns = int((Decimal(seconds) * _NANO).to_integral_value())
    if total_ns < _NANO:
        for unit, size_ns in (("ms", 1_000_000), ("us", 1000), ("ns", 1)):
            if total_ns >= size_ns:
                return f"{_decimal(total_ns, size_ns)}{unit}"
        return "0s"
    minutes, rest_ns = divmod(total_ns, 60 * _NANO)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return f"{text}{_decimal(rest_ns, _NANO)}s"


def _decimal(number: int, unit: int) -> str:
    """Return `number / unit` without trailing zeros."""
    whole, rest = divmod(number, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def format_memory(size_bytes: int) -> str:
    """Return an amount of memory exactly, in the largest unit that divides it: `512MiB`, `1000B`."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power}{unit}"
    return f"{size_bytes}B"


def format_cpus(nano_cpus: int) -> str:
    """Return nano-CPUs as cores, exactly: `0.5`."""
    return _decimal(nano_cpus, _NANO)


def human_bytes(size_bytes: int) -> str:
    """Return a size for people: `23.5GiB`, `512B`."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.4g}{unit}"
        size /= 1024
    return f"{size:.4g}PiB"


def human_duration(seconds: float) -> str:
    """Return how long ago something was, in Docker's words: `3 seconds`, `About a minute`, `5 weeks`."""
    if seconds < 1:
        return "Less than a second"
    if seconds < 2:
        return "1 second"
    if seconds < 60:
        return f"{int(seconds)} seconds"
    minutes, hours = int(seconds // 60), int(seconds / 3600 + 0.5)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{days // 365} years"
