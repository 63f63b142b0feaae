"""The networks of a stack: made before its services, and removed after them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from swarmpy.errors import Code, SwarmError, not_found
from swarmpy.model.network import Network
from swarmpy.model.spec import STACK_LABEL
from swarmpy.stack.convert import Converted, StackService

if TYPE_CHECKING:
    from swarmpy.cli.session import Session
    from swarmpy.client import Client


async def make_networks(session: Session, client: Client, desired: Converted) -> list[StackService]:
    """Create what is missing; return the services with the networks' ids in place of names, as they are stored.

    Raises:
        SwarmError: NOT_FOUND, an external network is not there; nothing was created then.
    """
    if not desired.networks:
        return desired.services
    present = {network.name: network for network in await client.networks.list()}
    for one in desired.networks:
        if one.spec is None and one.name not in present:
            raise not_found(
                f"network {one.name} is declared as external and is not there: create it first with "
                f"`swarmpy network create {one.name}`"
            )
    ids: dict[str, str] = {}
    for one in desired.networks:
        found = present.get(one.name)
        if found is None and one.spec is not None:
            session.echo(f"Creating network {one.name}")
            found = await client.networks.create(one.spec)
        elif found is not None and one.spec not in (None, found.spec):
            session.warn(
                f"Warning: network {one.name} is not as the file has it, and stays as it is: to have it made anew, "
                "remove the stack first"
            )
        if found is not None:
            ids[one.name] = found.id
    return [_with_ids(service, ids) for service in desired.services]


async def networks_of(client: Client, stack: str) -> list[Network]:
    """Return the networks that were made for a stack, in order of name."""
    from swarmpy.client import NetworkFilter

    found = await client.networks.list(NetworkFilter(labels={STACK_LABEL: stack}))
    return sorted(found, key=lambda network: network.name)


async def remove_networks(session: Session, client: Client, networks: Sequence[Network]) -> None:
    """Remove networks; one that other services joined is left, with a word of warning."""
    for network in networks:
        session.echo(f"Removing network {network.name}")
        try:
            await client.networks.remove(network.id)
        except SwarmError as error:
            if error.code is Code.FAILED_PRECONDITION:
                session.warn(f"Warning: {error.message}")
            elif error.code is not Code.NOT_FOUND:
                raise


def unused(networks: Iterable[Network], desired: Converted) -> list[Network]:
    """Return the networks of a stack that its files do not use any more."""
    kept = {one.name for one in desired.networks}
    return [network for network in networks if network.name not in kept]


def _with_ids(service: StackService, ids: Mapping[str, str]) -> StackService:
    task = service.spec.task
    joined = tuple(msgspec.structs.replace(one, target=ids.get(one.target, one.target)) for one in task.networks)
    spec = msgspec.structs.replace(service.spec, task=msgspec.structs.replace(task, networks=joined))
    return StackService(service.short, spec, service.after)
