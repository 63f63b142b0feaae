"""Calls about configs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.client.call import PAGE_SIZE, Caller
from swarmpy.client.selection import ConfigFilter
from swarmpy.model.config import Config, ConfigSpec
from swarmpy.wire.convert import fill, from_proto

if TYPE_CHECKING:
    from swarmpy.api.v1.control_pb2_grpc import ControlAsyncStub  # a name of the stubs only

EVERY_CONFIG: Final = ConfigFilter()


class Configs:
    """`client.configs`. A `ref` is a full id, a name, or a unique prefix of an id, in this order."""

    def __init__(self, stub: ControlAsyncStub, call: Caller) -> None:
        self._stub = stub
        self._call = call

    async def create(self, spec: ConfigSpec, *, timeout_s: float | None = None) -> Config:
        """Store a new config and return it, without its data.

        Raises:
            SwarmError: ALREADY_EXISTS if there is one of that name.
        """
        request = pb.CreateConfigRequest(request_id=self._call.request_id())
        fill(request.spec, spec)
        return from_proto((await self._call(self._stub.CreateConfig, request, timeout_s)).config, Config)

    async def get(self, ref: str, *, timeout_s: float | None = None) -> Config:
        """Return one config with its data."""
        answer = await self._call(self._stub.GetConfig, pb.GetConfigRequest(ref=ref), timeout_s)
        return from_proto(answer.config, Config)

    async def list(self, selection: ConfigFilter = EVERY_CONFIG, *, timeout_s: float | None = None) -> list[Config]:
        """Return the selected configs in order of id, without their data."""
        request = pb.ListConfigsRequest(
            filter=pb.ConfigFilter(ids=selection.ids, names=selection.names, labels=selection.labels),
            page=pb.Page(limit=PAGE_SIZE),
        )
        configs: list[Config] = []
        while True:
            answer = await self._call(self._stub.ListConfigs, request, timeout_s)
            configs.extend(from_proto(config, Config) for config in answer.configs)
            if not answer.next_page:
                return configs
            request.page.token = answer.next_page

    async def remove(self, ref: str, *, timeout_s: float | None = None) -> str:
        """Remove a config and return its id."""
        request = pb.RemoveConfigRequest(request_id=self._call.request_id(), ref=ref)
        return (await self._call(self._stub.RemoveConfig, request, timeout_s)).config_id
