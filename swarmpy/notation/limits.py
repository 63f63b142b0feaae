"""Resource limits of processes: `nofile=1024:2048`."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from typing import Final

from swarmpy.errors import invalid
from swarmpy.model.spec import Ulimit

NAMES: Final = tuple(sorted(n.removeprefix("RLIMIT_").lower() for n in dir(resource) if n.startswith("RLIMIT_")))


def parse_ulimit(text: str) -> Ulimit:
    """Return the limit of `name=soft[:hard]`; -1 is unlimited, and a missing hard limit equals the soft one."""
    name, equals, amounts = text.partition("=")
    soft, colon, hard = amounts.partition(":")
    if not equals:
        raise invalid(f'invalid ulimit "{text}": use NAME=SOFT[:HARD]')
    return ulimit(name, soft, hard if colon else soft)


def ulimit(name: str, soft: str, hard: str) -> Ulimit:
    """Return a limit from words.

    Raises:
        SwarmError: INVALID_ARGUMENT, an unknown name, not a number, or a soft limit above the hard one.
    """
    if name not in NAMES:
        raise invalid(f'unknown ulimit "{name}": use one of {", ".join(NAMES)}')
    limit = Ulimit(name=name, soft=_amount(name, soft), hard=_amount(name, hard))
    if limit.hard != -1 and not -1 < limit.soft <= limit.hard:
        raise invalid(f"ulimit {name}: the soft limit {limit.soft} is above the hard limit {limit.hard}")
    return limit


def merge_ulimits(
    present: Iterable[Ulimit], added: Iterable[Ulimit], removed: Iterable[str] = ()
) -> tuple[Ulimit, ...]:
    """Return `present` without the names in `removed` and with `added` in the place of their name."""
    gone = set(removed)
    limits = {limit.name: limit for limit in present if limit.name not in gone}
    limits.update({limit.name: limit for limit in added})
    return tuple(limits.values())


def _amount(name: str, text: str) -> int:
    try:
        amount = int(text)
    except ValueError:
        amount = -2
    if amount < -1:
        raise invalid(f'ulimit {name}: "{text}" is not a number of 0 or more, nor -1 for unlimited')
    return amount
