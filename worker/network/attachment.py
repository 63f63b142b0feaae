"""A task's place in the networks, as whatever runs it needs it."""

from __future__ import annotations

from dataclasses import dataclass

from worker.network.resolver import NO_RESOLVER, Resolver


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a task has of the networks.

    `netns` is the path of its network namespace, empty for the node's own. `address` is where the node reaches it,
    empty where it cannot. `own` are its addresses as other tasks know it, for its hosts file.
    """

    netns: str
    address: str
    resolver: Resolver = NO_RESOLVER
    own: tuple[str, ...] = ()
