"""How objects are named by their users."""

from __future__ import annotations

import msgspec

from manager.store.tables import SERVICES, TASKS
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.errors import Code
from swarmpy.model.service import Service
from swarmpy.model.task import Task
from tests.support.api import api, refused, web
from tests.support.store import put


async def test_names_are_looked_up_by_id_name_and_prefix_in_this_order() -> None:
    async with api() as a:
        for service_id, name in [("abc1", "x"), ("abc2", "abc1"), ("abd", "y")]:
            await put(a.store, SERVICES, Service(id=service_id, spec=web(name)))

        async def found(ref: str) -> str:
            return (await a.servicer.GetService(pb.GetServiceRequest(ref=ref), None)).service.id

        assert [await found(ref) for ref in ("abc1", "X", "abd", "abc2", "abd")] == [
            "abc1",
            "abc1",
            "abd",
            "abc2",
            "abd",
        ]
        assert await found("y") == "abd"
        error = await refused(found("ab"))
        assert (error.code, "ambiguous (abc1, abc2, abd)" in error.message) == (Code.INVALID_ARGUMENT, True)
        for ref, code in [("zzz", Code.NOT_FOUND), ("", Code.INVALID_ARGUMENT), ("abc10", Code.NOT_FOUND)]:
            assert (await refused(found(ref))).code is code
        await a.remove("y")
        assert (await refused(a.remove("y"))).code is Code.NOT_FOUND


async def test_tasks_are_named_by_service_slot_and_id() -> None:
    async with api() as a:
        await put(a.store, SERVICES, Service(id="s", spec=web("my.web")))
        old = Task(id="told", service_id="s", spec_version=1, slot=2, created_at=1.0)
        await put(a.store, TASKS, old, msgspec.structs.replace(old, id="tnew", created_at=2.0))

        async def found(ref: str) -> str:
            return (await a.servicer.GetTask(pb.GetTaskRequest(ref=ref), None)).task.id

        refs = ("told", "my.web.2", "my.web.2.told", "tn")
        assert [await found(ref) for ref in refs] == ["told", "tnew", "told", "tnew"]
        for ref in ("my.web.3", "other.2", "my.web.²"):
            assert (await refused(found(ref))).code is Code.NOT_FOUND
