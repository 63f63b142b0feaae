"""The table of services and ready backends, and what an update changes in it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from swarmpy.model.endpoints import Backend, EndpointsUpdate, ServiceEndpoint
from worker.dataplane.neighbours import NO_MOVES, Moves, NeighbourTable


@dataclass(frozen=True, slots=True)
class Change:
    """What one update changed.

    `changed` are services that are new, differ, or have other backends; never also in `removed`. Those of
    them that are new or differ themselves are `redefined`.
    `withdrawn` and `added` are task ids that left or came; a backend that only differs is in neither.
    `moves` is what it changed for tasks on networks.
    """

    changed: frozenset[str] = frozenset()
    redefined: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    withdrawn: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    moves: Moves = NO_MOVES

    def __bool__(self) -> bool:
        return self.serving or any(self.moves)

    @property
    def serving(self) -> bool:
        """Whether services or backends changed, not networks alone."""
        return bool(self.changed or self.removed or self.withdrawn or self.added)


class EndpointTable:
    """Services by id, each service's ready backends ordered by slot, then task id, and who is on networks."""

    def __init__(self) -> None:
        self.revision = 0
        self.neighbours = NeighbourTable()
        self._services: dict[str, ServiceEndpoint] = {}
        self._backends: dict[str, Backend] = {}
        self._ready: dict[str, tuple[Backend, ...]] = {}

    @property
    def services(self) -> Mapping[str, ServiceEndpoint]:
        return MappingProxyType(self._services)

    def ready(self, service_id: str) -> tuple[Backend, ...]:
        """Return the backends of a service, ordered by slot; () if there are none."""
        return self._ready.get(service_id, ())

    def snapshot(self) -> EndpointsUpdate:
        """Return the whole table as one complete update."""
        return EndpointsUpdate(
            revision=self.revision,
            complete=True,
            services=tuple(self._services.values()),
            backends=tuple(self._backends.values()),
            networks=tuple(self.neighbours.networks.values()),
            neighbours=tuple(self.neighbours.rows.values()),
        )

    def apply(self, update: EndpointsUpdate) -> Change | None:
        """Bring the table to `update.revision`; None if the update is older than the table and not complete."""
        if update.complete:
            return self._replace(update)
        if update.revision < self.revision:
            return None
        self.revision = update.revision
        removed = {s for s in update.removed_services if self._services.pop(s, None) is not None}
        gone = [b.task_id for s in update.removed_services for b in self._ready.get(s, ())]
        gone += [t for t in update.removed_backends if t in self._backends]
        leaving = [self._backends.pop(t) for t in dict.fromkeys(gone)]
        coming = [b for b in update.backends if self._backends.get(b.task_id) != b]
        replaced = [self._backends[b.task_id] for b in coming if b.task_id in self._backends]
        redefined = {s.service_id for s in update.services if self._services.get(s.service_id) != s}
        self._services.update((s.service_id, s) for s in update.services)
        self._backends.update((b.task_id, b) for b in coming)
        touched = redefined | self._regroup(leaving, replaced, coming)
        before = {b.task_id for b in (*leaving, *replaced)}
        return Change(
            changed=frozenset(touched & self._services.keys()),
            redefined=frozenset(redefined),
            removed=frozenset(removed - self._services.keys()),
            withdrawn=frozenset(b.task_id for b in leaving if b.task_id not in self._backends),
            added=frozenset(b.task_id for b in coming if b.task_id not in before),
            moves=self.neighbours.apply(update),
        )

    def _regroup(self, leaving: Iterable[Backend], replaced: Iterable[Backend], coming: Iterable[Backend]) -> set[str]:
        """Rebuild the ready lists of the services that these backends were or are of; return the services."""
        edits: defaultdict[str, dict[str, Backend | None]] = defaultdict(dict)
        for backend in (*leaving, *replaced):
            edits[backend.service_id][backend.task_id] = None
        for backend in coming:
            edits[backend.service_id][backend.task_id] = backend
        for service_id, edit in edits.items():
            kept = {b.task_id: b for b in self._ready.get(service_id, ())} | edit
            members = [b for b in kept.values() if b is not None]
            if members:
                self._ready[service_id] = _by_slot(members)
            else:
                self._ready.pop(service_id, None)
        return set(edits)

    def _replace(self, update: EndpointsUpdate) -> Change:
        services = {s.service_id: s for s in update.services}
        backends = {b.task_id: b for b in update.backends}
        grouped: defaultdict[str, list[Backend]] = defaultdict(list)
        for backend in backends.values():
            grouped[backend.service_id].append(backend)
        ready = {service_id: _by_slot(members) for service_id, members in grouped.items()}
        redefined = frozenset(s for s, endpoint in services.items() if self._services.get(s) != endpoint)
        change = Change(
            changed=redefined.union(s for s in services if self.ready(s) != ready.get(s, ())),
            redefined=redefined,
            removed=frozenset(self._services.keys() - services.keys()),
            withdrawn=frozenset(self._backends.keys() - backends.keys()),
            added=frozenset(backends.keys() - self._backends.keys()),
            moves=self.neighbours.apply(update),
        )
        self.revision = update.revision
        self._services, self._backends, self._ready = services, backends, ready
        return change


def _by_slot(backends: Iterable[Backend]) -> tuple[Backend, ...]:
    return tuple(sorted(backends, key=lambda b: (b.slot, b.task_id)))
