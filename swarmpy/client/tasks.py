"""Calls about tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import types_pb2
from swarmpy.client.call import PAGE_SIZE, Caller
from swarmpy.client.selection import TaskFilter
from swarmpy.model.service import ServiceVersion
from swarmpy.model.task import Task
from swarmpy.wire.convert import from_proto

if TYPE_CHECKING:
    from swarmpy.api.v1.control_pb2_grpc import ControlAsyncStub  # a name of the stubs only

EVERY_TASK: Final = TaskFilter()

TaskList: TypeAlias = list[Task]
"""Named out here because `Tasks.list` hides the type of that name."""


class Tasks:
    """`client.tasks`."""

    def __init__(self, stub: ControlAsyncStub, call: Caller) -> None:
        self._stub = stub
        self._call = call

    async def get(self, ref: str, *, timeout_s: float | None = None) -> tuple[Task, ServiceVersion]:
        """Return a task and the service version that it runs; `ref` is an id or a unique prefix of one."""
        answer = await self._call(self._stub.GetTask, pb.GetTaskRequest(ref=ref), timeout_s)
        return from_proto(answer.task, Task), from_proto(answer.service_version, ServiceVersion)

    async def list(self, selection: TaskFilter = EVERY_TASK, *, timeout_s: float | None = None) -> list[Task]:
        """Return the selected tasks in order of id."""
        tasks, _ = await self.snapshot(selection, timeout_s=timeout_s)
        return tasks

    async def snapshot(
        self, selection: TaskFilter = EVERY_TASK, *, timeout_s: float | None = None
    ) -> tuple[TaskList, int]:
        """Return the selected tasks, and a store revision that a watch continues from without a gap.

        It is the revision of the first page: changes during later pages are then seen twice rather than never.
        """
        request = pb.ListTasksRequest(
            filter=pb.TaskFilter(
                ids=selection.ids,
                service_ids=selection.service_ids,
                node_ids=selection.node_ids,
                desired_states=[types_pb2.TaskState.ValueType(state) for state in selection.desired_states],
                slots=selection.slots,
            ),
            page=pb.Page(limit=PAGE_SIZE),
        )
        tasks: TaskList = []
        revision = 0
        while True:
            answer = await self._call(self._stub.ListTasks, request, timeout_s)
            revision = revision or answer.revision
            tasks.extend(from_proto(task, Task) for task in answer.tasks)
            if not answer.next_page:
                return tasks, revision
            request.page.token = answer.next_page
