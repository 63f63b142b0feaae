"""Keeping to a request to end, where a failure came at the same moment."""

from __future__ import annotations

import asyncio


def end_if_cancelled() -> None:
    """Raise CancelledError if the running task was asked to end; for loops that try again after a failure.

    A TaskGroup that is cancelled while one of its tasks fails raises the failure only, so that a loop which takes that
    for one more reason to try again would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
