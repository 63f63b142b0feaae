"""Carrying out the plan of a stack, and taking a stack down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from swarmpy.cli.stack_networks import make_networks, networks_of, remove_networks, unused
from swarmpy.client.waiting import converge, tasks_gone
from swarmpy.errors import SwarmError, precondition
from swarmpy.model.spec import STACK_LABEL
from swarmpy.stack.plan import Action, Step, in_order, plan

if TYPE_CHECKING:
    from swarmpy.cli.service.images import ImageDesk
    from swarmpy.cli.session import Session
    from swarmpy.client import Client
    from swarmpy.client.convergence import Progress
    from swarmpy.model.network import Network
    from swarmpy.model.service import Service
    from swarmpy.stack.convert import Converted


def deploy_stack(
    session: Session,
    name: str,
    desired: Converted,
    desk_of: Callable[[Client], ImageDesk],
    *,
    prune: bool,
    detach: bool,
    quiet: bool,
) -> None:
    """Bring the stack `name` to `desired`, and unless detached wait until it has converged.

    Args:
        desk_of: gives what knows the digests and credentials of images.

    Raises:
        SwarmError: a step was refused (those before it stay done), or a service will not converge.
    """
    sent: list[str] = []
    in_order(desired.services)  # a circle is told before anything is made

    async def work(client: Client) -> None:
        present = await _present(client, name)
        desk = desk_of(client)
        before = {service.name: service.spec for service in present}
        services = [
            replace(service, spec=await desk.resolved(service.spec, before.get(service.spec.name)))
            for service in await make_networks(session, client, desired)
        ]
        outcome: dict[Action, list[Service]] = {action: [] for action in Action}
        for step in plan(services, present, prune=prune):
            outcome[step.action].append(await _carry_out(session, client, step, desk))
            sent.append(step.name)
        if prune:
            await remove_networks(session, client, unused(await networks_of(client, name), desired))
        if not detach:
            session.out.flush()
            changed = [*outcome[Action.CREATE], *outcome[Action.UPDATE]]
            await _all_converged(session, client, changed, outcome[Action.KEEP], quiet=quiet)

    try:
        session.run(work)
    except click.Abort:
        if not sent:
            raise
        raise click.Abort(
            f"The deploy goes on in the background; see how far it is with `swarmpy stack ps {name}`."
        ) from None


async def _present(client: Client, name: str) -> list[Service]:
    from swarmpy.client import ServiceFilter

    return [listed.service for listed in await client.services.list(ServiceFilter(labels={STACK_LABEL: name}))]


async def _carry_out(session: Session, client: Client, step: Step, desk: ImageDesk) -> Service:
    """Do one step and return the service as it is (of a removal: was)."""
    match step:
        case Step(Action.CREATE, name, _, spec) if spec is not None:
            session.echo(f"Creating service {name}")
            written = await client.services.create(spec, auth=await desk.credentials(spec))
        case Step(Action.UPDATE, name, service, spec) if service is not None and spec is not None:
            session.echo(f"Updating service {name} (id: {service.id})")
            written = await client.services.update(service, spec, auth=await desk.credentials(spec))
        case Step(Action.KEEP, name, service) if service is not None:
            session.echo(f"Service {name} is up to date")
            auth = await desk.credentials(service.spec)
            return (await client.services.update(service, service.spec, auth=auth)).service if auth else service
        case Step(Action.REMOVE, name, service) if service is not None:
            session.echo(f"Removing service {name}")
            await client.services.remove(service.id)
            return service
        case _:
            raise AssertionError(f"incomplete step {step}")
    for warning in written.warnings:
        session.warn(f"Warning: {step.name}: {warning}")
    return written.service


async def _all_converged(
    session: Session, client: Client, changed: Sequence[Service], kept: Sequence[Service], *, quiet: bool
) -> None:
    """Wait for all services; those that were kept need not prove themselves again once they run."""
    failures = []

    async def one(service: Service, monitor_s: float) -> None:
        lines = _StackLines(session, quiet=quiet)
        try:
            await converge(client, service, monitor_s=monitor_s, show=lines.show)
        except SwarmError as error:
            failures.append(error.message)
        else:
            lines.converged(service.name)

    async with asyncio.TaskGroup() as group:
        for service in changed:
            group.create_task(one(service, service.spec.update.monitor_s))
        for service in kept:
            group.create_task(one(service, 0.0))
    if failures:
        raise precondition("; ".join(sorted(failures)))


class _StackLines:
    """A line for each change of a service's sum, and for each new reason of one of its tasks."""

    def __init__(self, session: Session, *, quiet: bool) -> None:
        self._session = session
        self._quiet = quiet
        self._said: set[str] = set()

    def show(self, progress: Progress) -> None:
        from swarmpy.client.convergence import state_word

        self._say(f"{progress.name}: {progress.done} out of {progress.wanted} tasks")
        if progress.note:
            self._say(f"{progress.name}: {progress.note}")
        for slot in progress.slots:
            if slot.reason:
                self._say(f"{progress.name}.{slot.slot}: {state_word(slot)}")

    def converged(self, name: str) -> None:
        self._say(f"{name}: converged")

    def _say(self, line: str) -> None:
        if not self._quiet and line not in self._said:
            self._said.add(line)
            self._session.echo(line)
            self._session.out.flush()


def remove_stacks(session: Session, names: Sequence[str], *, detach: bool) -> None:
    """Remove stacks and, unless detached, wait until their tasks are gone."""

    async def work(client: Client) -> None:
        removed: list[str] = []
        left: list[Network] = []
        for name in names:
            services, networks = await _present(client, name), await networks_of(client, name)
            if not services and not networks:
                session.warn(f"Nothing found in stack: {name}")
            for service in sorted(services, key=lambda s: s.name):
                session.echo(f"Removing service {service.name}")
                removed.append(await client.services.remove(service.id))
            left += networks
        session.out.flush()
        if not detach:
            await tasks_gone(client, removed)
        await remove_networks(session, client, left)

    session.run(work)
