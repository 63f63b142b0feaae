"""Use cases of configs: create, look at, remove. Their data is sent only where it is asked for."""

from __future__ import annotations

import msgspec

from manager.api.cluster import the_cluster
from manager.api.paging import Rows, has_labels, has_prefix, read_page
from manager.api.resolve import find_config
from manager.store.store import Store
from manager.store.tables import CONFIGS
from manager.store.transaction import Transaction
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.clock import Clock
from swarmpy.errors import Code, InvalidSpecError, SwarmError, precondition
from swarmpy.ids import RandomBytes, new_id
from swarmpy.model import features
from swarmpy.model.config import Config, ConfigSpec
from swarmpy.model.validate import validate_config_spec


class Configs:
    """What a user may do with configs."""

    def __init__(self, store: Store, clock: Clock, random_bytes: RandomBytes) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes

    async def create(self, spec: ConfigSpec, request_id: str) -> Config:
        """Store a new config; return it without its data.

        Raises:
            SwarmError: INVALID_ARGUMENT, ALREADY_EXISTS; FAILED_PRECONDITION while a manager's release is too old.
        """
        problems = validate_config_spec(spec)
        if problems:
            raise InvalidSpecError(problems)
        now_s = self._clock.now()
        config = Config(id=new_id(self._random_bytes), spec=spec, created_at=now_s, updated_at=now_s)

        def change(tx: Transaction) -> str:
            level = the_cluster(tx).feature_level
            if level < features.CONFIGS:
                raise precondition(
                    f"a manager of this cluster cannot store configs yet (feature level {level}, "
                    f"{features.CONFIGS} is needed): upgrade all managers first"
                )
            if tx.find(CONFIGS, "name", spec.name):
                raise SwarmError(Code.ALREADY_EXISTS, f"config {spec.name} exists already: choose another name")
            return tx.create(CONFIGS, config).id

        return without_data(self.get(await self._store.update(change, request_id=request_id)))

    def get(self, ref: str) -> Config:
        return find_config(self._store.view(), ref)

    def list(self, wanted: pb.ConfigFilter, page: pb.Page) -> Rows[Config]:
        """Return one page of the configs that pass the filter, with their data."""
        ids, names, labels = tuple(wanted.ids), tuple(wanted.names), dict(wanted.labels)

        def is_wanted(config: Config) -> bool:
            return (
                has_prefix(config.id, ids) and has_prefix(config.name, names) and has_labels(config.spec.labels, labels)
            )

        return read_page(self._store.view(), CONFIGS, page, is_wanted)

    async def remove(self, ref: str, request_id: str) -> str:
        """Remove a config; return its id."""

        def change(tx: Transaction) -> str:
            config = find_config(tx, ref)
            tx.delete(CONFIGS, config.id)
            return config.id

        return await self._store.update(change, request_id=request_id)


def without_data(config: Config) -> Config:
    """Return the config as lists and watches show it."""
    return msgspec.structs.replace(config, spec=msgspec.structs.replace(config.spec, data=b""))
