from __future__ import annotations

import asyncio

import msgspec
import pytest

from manager.store.tables import CLUSTERS
from manager.upgrade import LevelGuard
from swarmpy.errors import Code, SwarmError
from swarmpy.model import features
from swarmpy.model.cluster import Cluster
from tests.support.clock import settle
from tests.support.store import put, running_store


async def test_a_release_that_is_too_old_stops_when_the_cluster_rises_above_it() -> None:
    async with running_store() as store:
        (cluster,) = await put(store, CLUSTERS, Cluster(id="c", feature_level=1))
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(LevelGuard(store, 1).run())
                await settle()
                risen = msgspec.structs.replace(cluster, feature_level=2)
                await store.update(lambda tx: tx.update(CLUSTERS, risen).id)
        (error,) = caught.value.exceptions
        assert isinstance(error, SwarmError)
        assert (error.code, error.message) == (
            Code.FAILED_PRECONDITION,
            "this manager's release has feature level 1, the cluster is at 2: "
            "install a newer release of swarmpy on this node",
        )


def test_a_node_can_act_as_an_older_release() -> None:
    assert features.level_of({}) == features.LEVEL
    assert features.level_of({features.VARIABLE: "1"}) == 1
    for wrong in ("0", "x", str(features.LEVEL + 1)):
        with pytest.raises(SwarmError, match=f"{features.VARIABLE}={wrong}: this release has the feature levels 1 to"):
            features.level_of({features.VARIABLE: wrong})
