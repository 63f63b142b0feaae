"""Coroutine tests here run on the data plane's event loop and on the standard one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loops, by the names that test ids show."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
