"""The same done to each of several containers: what fails is said, and the rest goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from swarmpy.cli.session import Session
from swarmpy.errors import SwarmError

if TYPE_CHECKING:
    from swarmpy.client import Client


def to_each(session: Session, refs: Sequence[str], work: Callable[[Client, str], Awaitable[object]]) -> int:
    """Do `work` to each container in turn, and write its reference once it is done; return the exit status."""

    async def every(client: Client) -> int:
        failed = 0
        for ref in refs:
            try:
                await work(client, ref)
            except SwarmError as error:
                failed = 1
                session.warn(f"Error: {error.message}")
            else:
                session.echo(ref)
        return failed

    return session.run(every)
