"""When a container that has ended runs again, and how soon. Pure."""

from __future__ import annotations

from typing import Final

from swarmpy.model.container import RestartKind, RestartRule

LASTED_S: Final = 10.0
"""A run of this length was a success: the restarts before it no longer count."""
_FIRST_S: Final = 1.0
_LONGEST_S: Final = 30.0


def runs_again(rule: RestartRule, *, exit_code: int, by_hand: bool, in_a_row: int) -> bool:
    """Tell whether a container is started again after it has ended.

    Args:
        by_hand: whether its user stopped it.
        in_a_row: restarts so far, since the last run that lasted.
    """
    if by_hand:
        return False
    match rule.kind:
        case RestartKind.NO:
            return False
        case RestartKind.ON_FAILURE:
            return exit_code != 0 and (not rule.most or in_a_row < rule.most)
        case RestartKind.ALWAYS | RestartKind.UNLESS_STOPPED:
            return True


def comes_back(rule: RestartRule, *, exit_code: int, by_hand: bool, in_a_row: int) -> bool:
    """Tell whether a container that does not run is started when the node itself starts anew.

    One of ALWAYS is, even if its user had stopped it: that is what UNLESS_STOPPED is for.
    """
    if rule.kind is RestartKind.ALWAYS:
        return True
    return runs_again(rule, exit_code=exit_code, by_hand=by_hand, in_a_row=in_a_row)


def delay_s(in_a_row: int) -> float:
    """Return the seconds before the next run after so many restarts in a row: 0, 1, 2, 4, ... up to 30."""
    return min(_LONGEST_S, _FIRST_S * float(2 ** min(in_a_row - 1, 16))) if in_a_row else 0.0
