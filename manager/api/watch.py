"""The Watch use case: commits as the API tells them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from manager.api.configs import without_data
from manager.store.commit import Change, Commit
from manager.store.store import Store
from manager.store.tables import CLUSTERS, CONFIGS, NETWORKS, NODES, SERVICES, TASKS, Table
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.model.cluster import Cluster, JoinTokens, RootCA
from swarmpy.model.config import Config
from swarmpy.wire.convert import fill

KINDS: Final[Mapping[int, Table[Any]]] = {
    pb.OBJECT_KIND_CLUSTER: CLUSTERS,
    pb.OBJECT_KIND_NODE: NODES,
    pb.OBJECT_KIND_SERVICE: SERVICES,
    pb.OBJECT_KIND_TASK: TASKS,
    pb.OBJECT_KIND_CONFIG: CONFIGS,
    pb.OBJECT_KIND_NETWORK: NETWORKS,
}


async def watch(store: Store, request: pb.WatchRequest) -> AsyncIterator[pb.WatchResponse]:
    """Give the changes that `request` asks for, for as long as the caller reads.

    Raises:
        SwarmError: COMPACTED, `since` is too old or the caller too slow.
    """
    tables = tuple(KINDS[kind] for kind in request.kinds if kind in KINDS) or tuple(KINDS.values())
    concerns = _only_service(request.service_id) if request.service_id else _everything
    with store.watch(*tables, since=request.since or None) as watching:
        yield pb.WatchResponse(revision=request.since or store.revision)
        while True:
            response = _response(await watching.next(), concerns)
            if response.changes:
                yield response


def _response(commit: Commit, concerns: Callable[[Change[Any]], bool]) -> pb.WatchResponse:
    response = pb.WatchResponse(revision=commit.revision)
    for change in commit.changes:
        if not concerns(change):
            continue
        row = change.after if change.after is not None else change.before
        entry = response.changes.add(removed=change.after is None)
        fill(getattr(entry, change.table.noun), _public(row))
    return response


def _public(row: Any) -> Any:
    """Return the row as users may see it."""
    if isinstance(row, Config):
        return without_data(row)
    if not isinstance(row, Cluster):
        return row
    return Cluster(id=row.id, spec=row.spec, version=row.version, root_ca=RootCA(), join_tokens=JoinTokens())


def _everything(_change: Change[Any]) -> bool:
    return True


def _only_service(service_id: str) -> Callable[[Change[Any]], bool]:
    def concerns(change: Change[Any]) -> bool:
        row = change.after if change.after is not None else change.before
        return service_id in (change.id, getattr(row, "service_id", ""))

    return concerns
