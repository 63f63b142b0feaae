"""Saving the state: of one moment, in small steps, in a file that restores to the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from manager.api.snapshots import PIECE_BYTES, save_snapshot
from manager.recovery.source import read_file
from manager.store.store import Store
from manager.store.tables import CLUSTERS, CONFIGS, NODES
from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import Cluster
from swarmpy.model.config import Config, ConfigSpec
from swarmpy.model.node import Node
from tests.support.store import put, running_store

NOW_S = 1_700_000_000.0
CLUSTER = Cluster(id="cluster100000000000000000")


async def saved(store: Store) -> list[bytes]:
    return [piece async for piece in save_snapshot(store, 3, NOW_S)]


async def test_the_file_holds_the_state(tmp_path: Path) -> None:
    big = Config(id="c1", spec=ConfigSpec(name="big", data=bytes(PIECE_BYTES + 100_000)))
    async with running_store() as store:
        await put(store, CLUSTERS, CLUSTER)
        await put(store, NODES, *(Node(id=f"n{n}") for n in range(2000)))
        await put(store, CONFIGS, big)
        pieces = await saved(store)
        assert max(map(len, pieces)) <= PIECE_BYTES
        path = tmp_path / "a.snap"
        path.write_bytes(b"".join(pieces))
        source = read_file(path, CLUSTER.id)
        view = store.view()
        assert source.state.revision == view.revision == store.snapshot().revision
        assert sorted(source.state.rows(NODES).all(), key=lambda n: n.id) == view.after(NODES, "", 10_000)
        assert source.saved is not None
        assert (source.saved.term, source.saved.created_at, source.saved.objects["nodes"]) == (3, NOW_S, 2000)
    assert [row.spec for row in source.state.rows(CONFIGS).all()] == [big.spec]


async def test_what_is_written_meanwhile_is_not_in_it(tmp_path: Path) -> None:
    async with running_store() as store:
        await put(store, CLUSTERS, CLUSTER)
        await put(store, NODES, *(Node(id=f"n{n:04}") for n in range(3000)))
        before, pieces, steps = store.revision, [], 0
        async for piece in save_snapshot(store, 1, NOW_S):
            pieces.append(piece)
            await put(store, NODES, Node(id=f"late{steps}"))
            steps += 1
        assert steps > 3, "other work has its turn between the steps"
        path = tmp_path / "a.snap"
        path.write_bytes(b"".join(pieces))
        source = read_file(path, CLUSTER.id)
        assert (source.state.revision, len(source.state.rows(NODES))) == (before, 3000)


async def test_there_is_nothing_to_save_yet() -> None:
    async with running_store() as store:
        with pytest.raises(SwarmError) as caught:
            await saved(store)
    assert caught.value.code is Code.UNAVAILABLE


async def test_another_clusters_file_is_refused(tmp_path: Path) -> None:
    async with running_store() as store:
        await put(store, CLUSTERS, CLUSTER)
        path = tmp_path / "a.snap"
        path.write_bytes(b"".join(await saved(store)))
    with pytest.raises(SwarmError, match=f"a.snap is a snapshot of cluster {CLUSTER.id}, not of other"):
        read_file(path, "other")
