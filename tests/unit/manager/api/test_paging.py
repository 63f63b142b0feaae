"""Lists in pages."""

from __future__ import annotations

from typing import Any, cast

import pytest

from manager.api import paging
from manager.store.tables import TASKS
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.errors import Code
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task
from tests.support.api import api, refused
from tests.support.store import put


@pytest.mark.parametrize("limit", [1, 3, 7, 0])
@pytest.mark.parametrize("looked_at", [1, 5, 20_000])
async def test_pages_laid_end_to_end_are_all_there_is(
    limit: int, looked_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "MAX_LOOKED_AT", looked_at)
    monkeypatch.setattr("manager.api.tasks.MAX_LOOKED_AT", looked_at)
    async with api() as a:
        tasks = [
            Task(
                id=f"t{i:02}",
                service_id=f"s{i % 3}",
                spec_version=1,
                slot=i,
                node_id=f"n{i % 2}",
                desired_state=TaskState.SHUTDOWN if i % 4 == 0 else TaskState.RUNNING,
            )
            for i in range(20)
        ]
        await put(a.store, TASKS, *tasks)

        async def listed(wanted: pb.TaskFilter) -> list[str]:
            ids: list[str] = []
            page = pb.Page(limit=limit)
            while True:
                answer = await a.servicer.ListTasks(pb.ListTasksRequest(filter=wanted, page=page), None)
                assert not limit or len(answer.tasks) <= limit
                ids += [t.id for t in answer.tasks]
                if not answer.next_page:
                    return ids
                assert answer.next_page > page.token
                page.token = answer.next_page

        assert await listed(pb.TaskFilter()) == [t.id for t in tasks]
        assert await listed(pb.TaskFilter(service_ids=["s1"])) == [t.id for t in tasks if t.service_id == "s1"]
        assert await listed(pb.TaskFilter(node_ids=["n0"], slots=[2, 5, 8])) == ["t02", "t08"]
        stopped = pb.TaskFilter(desired_states=[cast(Any, int(TaskState.SHUTDOWN))])
        assert await listed(stopped) == [t.id for t in tasks if t.desired_state is TaskState.SHUTDOWN]
        assert await listed(pb.TaskFilter(ids=["t1"], service_ids=["nobody"])) == []


async def test_a_page_of_less_than_nothing_is_refused() -> None:
    async with api() as a:
        for wanted in (pb.TaskFilter(), pb.TaskFilter(service_ids=["s"])):
            request = pb.ListTasksRequest(filter=wanted, page=pb.Page(limit=-1))
            assert (await refused(a.servicer.ListTasks(request, None))).code is Code.INVALID_ARGUMENT
