from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable

import msgspec
import pytest

from manager.api.configs import Configs, without_data
from manager.store.store import Store
from manager.store.tables import CLUSTERS, CONFIGS
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.errors import Code, SwarmError
from swarmpy.model import features
from swarmpy.model.cluster import Cluster
from swarmpy.model.config import MAX_CONFIG_BYTES, ConfigSpec
from tests.support.clock import FakeClock
from tests.support.cluster import random_source
from tests.support.store import put, running_store


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with running_store() as store:
        await put(store, CLUSTERS, Cluster(id="c", feature_level=features.LEVEL))
        yield store


@pytest.fixture
def configs(store: Store) -> Configs:
    return Configs(store, FakeClock(), random_source())


def spec(name: str = "site.conf", data: bytes = b"listen 80", **labels: str) -> ConfigSpec:
    return ConfigSpec(name=name, labels=labels, data=data)


async def refused(call: Awaitable[object]) -> tuple[Code, str]:
    with pytest.raises(SwarmError) as caught:
        await call
    return caught.value.code, caught.value.message


async def test_a_config_is_found_by_its_id_its_name_and_the_beginning_of_its_id(configs: Configs) -> None:
    created = await configs.create(spec(), "r1")
    assert created.spec.data == b""
    for ref in (created.id, "site.conf", "SITE.conf", created.id[:8]):
        assert configs.get(ref).spec == spec()


async def test_creating_twice_with_one_request_id_is_creating_once(configs: Configs, store: Store) -> None:
    first = await configs.create(spec(), "r1")
    assert await configs.create(spec(), "r1") == first
    assert len(store.view().all(CONFIGS)) == 1


async def test_a_name_is_given_once(configs: Configs) -> None:
    await configs.create(spec(), "r1")
    assert await refused(configs.create(spec(data=b"other"), "r2")) == (
        Code.ALREADY_EXISTS,
        "config site.conf exists already: choose another name",
    )


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (spec(data=b""), "data: is empty: a config holds at least one byte"),
        (
            spec(data=bytes(MAX_CONFIG_BYTES + 1)),
            "data: has 1024001 bytes: 1024000 (1000 KiB) is the most",
        ),
        (spec(name=""), "name: is missing: give the config a name"),
        (
            spec(name="a/b"),
            "name: 'a/b' is not a config name: use at most 64 letters, digits, -, _ and .,"
            " with a letter or digit at both ends",
        ),
    ],
)
async def test_what_cannot_be_a_config_is_refused(configs: Configs, bad: ConfigSpec, sentence: str) -> None:
    assert await refused(configs.create(bad, "r1")) == (Code.INVALID_ARGUMENT, sentence)


async def test_the_largest_config_is_stored(configs: Configs) -> None:
    created = await configs.create(spec(data=bytes(MAX_CONFIG_BYTES)), "r1")
    assert len(configs.get(created.id).spec.data) == MAX_CONFIG_BYTES


async def test_a_cluster_with_an_older_manager_stores_none(configs: Configs, store: Store) -> None:
    def older(cluster: Cluster) -> Cluster:
        return msgspec.structs.replace(cluster, feature_level=1)

    await store.update(lambda tx: tx.update(CLUSTERS, older(next(iter(tx.all(CLUSTERS))))).id)
    assert await refused(configs.create(spec(), "r1")) == (
        Code.FAILED_PRECONDITION,
        "a manager of this cluster cannot store configs yet (feature level 1, 2 is needed): upgrade all managers first",
    )


async def test_lists_select_by_name_and_label(configs: Configs) -> None:
    for number, config in enumerate((spec("a"), spec("ab", tier="web"), spec("b", tier="db"))):
        await configs.create(config, f"r{number}")

    def names(wanted: pb.ConfigFilter) -> list[str]:
        return sorted(config.name for config in configs.list(wanted, pb.Page()).rows)

    assert names(pb.ConfigFilter()) == ["a", "ab", "b"]
    assert names(pb.ConfigFilter(names=["a"])) == ["a", "ab"]
    assert names(pb.ConfigFilter(labels={"tier": ""})) == ["ab", "b"]
    assert names(pb.ConfigFilter(labels={"tier": "db"})) == ["b"]


async def test_a_removed_config_is_gone(configs: Configs) -> None:
    created = await configs.create(spec(), "r1")
    assert await configs.remove("site.conf", "r2") == created.id
    assert await refused(_get(configs, "site.conf")) == (Code.NOT_FOUND, "no such config: site.conf")


async def test_without_data_keeps_everything_else(configs: Configs) -> None:
    created = await configs.create(spec(tier="web"), "r1")
    assert without_data(configs.get(created.id)) == created


async def _get(configs: Configs, ref: str) -> object:
    return configs.get(ref)
