"""Sending a change of a service, and waiting until it has taken effect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from swarmpy.cli.progress import display
from swarmpy.cli.session import Session

if TYPE_CHECKING:
    from swarmpy.client import Client, Written
    from swarmpy.model.service import Service


def send(
    session: Session,
    call: Callable[[Client], Awaitable[Written]],
    *,
    said: Callable[[Service], str],
    detach: bool,
    quiet: bool = False,
    rollback: bool = False,
) -> None:
    """Make a change, say it, and unless it is detached wait until the service has converged.

    Args:
        said: the line for a person once the manager has taken the change.

    Raises:
        click.Abort: the user stopped waiting; its text says that the change goes on.
    """
    sent: list[str] = []

    async def work(client: Client) -> None:
        written = await call(client)
        service = written.service
        sent.append(service.name)
        for warning in written.warnings:
            session.warn(f"Warning: {warning}")
        session.echo(said(service))
        if not detach:
            session.out.flush()
            await wait(session, client, service, quiet=quiet, rollback=rollback)

    try:
        session.run(work)
    except click.Abort:
        if not sent:
            raise
        raise click.Abort(
            f"The change goes on in the background; see how far it is with `swarmpy service ps {sent[0]}`."
        ) from None


async def wait(
    session: Session, client: Client, service: Service, *, quiet: bool = False, rollback: bool = False
) -> None:
    """Show the service's progress until it has converged."""
    from swarmpy.client.waiting import converge

    monitor_s = (service.spec.rollback if rollback else service.spec.update).monitor_s
    with display(session, quiet=quiet, monitor_s=monitor_s) as shown:
        await converge(client, service, monitor_s=monitor_s, show=shown.show, rollback=rollback)
