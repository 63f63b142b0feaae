"""Managers are upgraded one by one: the cluster stores nothing that one of them could not read."""

from __future__ import annotations

import os
from functools import partial

import pytest

from scripts.cluster import Cluster, until
from swarmpy.errors import SwarmError
from swarmpy.model import features
from swarmpy.model.config import ConfigSpec
from swarmpy.model.states import NodeRole

pytestmark = pytest.mark.e2e
OLDER = {features.VARIABLE: "1"}
SPEC = ConfigSpec(name="site", data=b"x")


async def test_the_cluster_rises_with_its_last_manager() -> None:
    async with Cluster(managers=3, environ={**os.environ, **OLDER}) as cluster:
        with pytest.raises(SwarmError, match="cannot store configs yet"):
            await cluster.client.configs.create(SPEC)
        for place, node in enumerate(cluster.managers):
            del node.environ[features.VARIABLE]
            await node.restart()
            await until(partial(_is_reachable, cluster, node.name), what=f"{node.name} is back")
            if place < 2:
                with pytest.raises(SwarmError, match="cannot store configs yet"):
                    await cluster.client.configs.create(SPEC)
        await until(lambda: _is_at(cluster, features.LEVEL), what="the cluster is at its level")
        assert (await cluster.client.configs.create(SPEC)).name == "site"

        late = cluster.new_node()  # as old as all were at first
        late.start()
        await late.ready()
        tokens = await cluster.join_tokens()
        output = await late.cli("swarm", "join", "--token", tokens.manager, cluster.join_address, check=False)
        assert (output.status, output.err) == (
            1,
            f"Error: this manager's release has feature level 1, the cluster is at {features.LEVEL}: "
            "install a newer release of swarmpy on this node\n",
        )
        await cluster.join([late], NodeRole.WORKER)


async def _is_reachable(cluster: Cluster, name: str) -> bool:
    rows = await cluster.rows()
    return any(row.name == name and row.manager is not None and row.manager.reachable for row in rows)


async def _is_at(cluster: Cluster, level: int) -> bool:
    return (await cluster.client.cluster.get()).cluster.feature_level == level
