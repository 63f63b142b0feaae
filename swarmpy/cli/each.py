"""The same done to each of several things: what fails is said, and the rest goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from swarmpy.cli.session import Session
from swarmpy.errors import SwarmError

if TYPE_CHECKING:
    from swarmpy.client import Client

T = TypeVar("T")


def of_each(
    session: Session, refs: Sequence[str], get: Callable[[Client, str], Awaitable[T]]
) -> tuple[list[tuple[str, T]], int]:
    """Return what `get` returns for each that it does not fail for, with its reference; and the exit status."""

    async def every(client: Client) -> tuple[list[tuple[str, T]], int]:
        found, failed = [], 0
        for ref in refs:
            try:
                found.append((ref, await get(client, ref)))
            except SwarmError as error:
                failed = 1
                session.warn(f"Error: {error.message}")
        return found, failed

    return session.run(every)


def to_each(session: Session, refs: Sequence[str], work: Callable[[Client, str], Awaitable[object]]) -> int:
    """Do `work` to each in turn, and write its reference once it is done; return the exit status."""

    async def done(client: Client, ref: str) -> None:
        await work(client, ref)
        session.echo(ref)

    return of_each(session, refs, done)[1]


def confirmed(session: Session, warning: str) -> bool:
    """Ask whether to go on."""
    session.out.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    session.out.flush()
    answer = session.stdin().readline().strip().casefold() in ("y", "yes")
    if not answer:
        session.echo()
    return answer
