"""The Containers service on node.sock: translates between messages and the desk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import msgspec

from swarmpy.api.v1 import containers_pb2 as pb
from swarmpy.api.v1 import containers_pb2_grpc
from swarmpy.errors import SwarmError, invalid
from swarmpy.model.container import Container, ContainerConfig, RestartRule
from swarmpy.registry.credentials import Credentials
from swarmpy.wire.convert import from_proto, to_proto
from worker.containers import copying
from worker.containers.desk import Desk
from worker.containers.figures import processes
from worker.containers.streaming import logs, stats, stream
from worker.image.steps import told
from worker.image.types import PullEvent

# ruff: noqa: N802  # the methods have the names that the proto gives them

_PULL = {pb.PULL_POLICY_MISSING: None, pb.PULL_POLICY_ALWAYS: True, pb.PULL_POLICY_NEVER: False}


class ContainersServicer(containers_pb2_grpc.ContainersServicer):
    """`memory_bytes` is the machine's: the limit of a container that has none."""

    def __init__(self, desk: Desk, memory_bytes: int) -> None:
        self._opened = desk
        self._memory_bytes = memory_bytes

    async def _desk(self) -> Desk:
        await self._opened.keeper.ready.wait()
        return self._opened

    async def Create(self, request: pb.CreateContainerRequest, context: Any) -> None:  # type: ignore[override]  # a coroutine that writes its answers is as good
        desk = await self._desk()
        await context.send_initial_metadata(())  # now, as the first answer may take long

        async def tell(event: PullEvent) -> None:
            await context.write(pb.CreateContainerResponse(step=_step(event)))

        made = await told(
            lambda watch: desk.create(
                request.name,
                from_proto(request.config, ContainerConfig),
                pull=_PULL[request.pull],
                auth=_credentials(request),
                watch=watch,
            ),
            tell,
            desk.clock,
        )
        await context.write(pb.CreateContainerResponse(container=_container(made)))

    async def Start(self, request: pb.ContainerRequest, context: Any) -> pb.ContainerResponse:
        return _answer(await (await self._desk()).start(request.ref))

    async def Stop(self, request: pb.StopContainerRequest, context: Any) -> pb.ContainerResponse:
        timeout_s = request.timeout_s if request.HasField("timeout_s") else None
        desk = await self._desk()
        return _answer(await desk.stop(request.ref, timeout_s=timeout_s, stop_signal=request.signal))

    async def Restart(self, request: pb.StopContainerRequest, context: Any) -> pb.ContainerResponse:
        timeout_s = request.timeout_s if request.HasField("timeout_s") else None
        desk = await self._desk()
        return _answer(await desk.restart(request.ref, timeout_s=timeout_s, stop_signal=request.signal))

    async def Kill(self, request: pb.KillContainerRequest, context: Any) -> pb.ContainerResponse:
        return _answer(await (await self._desk()).kill(request.ref, request.signal))

    async def Pause(self, request: pb.ContainerRequest, context: Any) -> pb.ContainerResponse:
        return _answer(await (await self._desk()).pause(request.ref))

    async def Unpause(self, request: pb.ContainerRequest, context: Any) -> pb.ContainerResponse:
        return _answer(await (await self._desk()).unpause(request.ref))

    async def Rename(self, request: pb.RenameContainerRequest, context: Any) -> pb.ContainerResponse:
        return _answer((await self._desk()).rename(request.ref, request.name))

    async def Update(self, request: pb.UpdateContainerRequest, context: Any) -> pb.ContainerResponse:
        rule = from_proto(request.restart, RestartRule)
        return _answer((await self._desk()).update(request.ref, rule))

    async def Remove(self, request: pb.RemoveContainerRequest, context: Any) -> pb.RemoveContainerResponse:
        record = await (await self._desk()).remove(request.ref, force=request.force)
        return pb.RemoveContainerResponse(id=record.id, name=record.name)

    async def List(self, request: pb.ListContainersRequest, context: Any) -> pb.ListContainersResponse:
        desk = await self._desk()
        found = desk.list(every=request.all)
        if request.sizes:
            found = [await _sized(desk, one) for one in found]
        return pb.ListContainersResponse(containers=map(_container, found))

    async def Get(self, request: pb.GetContainerRequest, context: Any) -> pb.ContainerResponse:
        desk = await self._desk()
        found = desk.get(request.ref)
        return _answer(await _sized(desk, found) if request.size else found)

    async def Wait(self, request: pb.WaitContainerRequest, context: Any) -> pb.WaitContainerResponse:
        desk = await self._desk()
        record = desk.own(request.ref, "wait for")
        keeper = desk.keeper
        if request.condition == pb.WAIT_CONDITION_REMOVED:
            await keeper.until(record.id, lambda: record.id not in keeper.records)
            return pb.WaitContainerResponse(exit_code=record.exit_code or 0)
        run = record.run
        if request.condition == pb.WAIT_CONDITION_NEXT_EXIT and not record.is_live:
            run += 1
        code, error = await keeper.end_of(record.id, run)
        return pb.WaitContainerResponse(exit_code=code, error=error)

    async def Top(self, request: pb.ContainerRequest, context: Any) -> pb.TopContainerResponse:
        desk = await self._desk()
        container = desk.running(request.ref)
        pids = await desk.containers.client.tasks.pids(container.id)
        rows = await asyncio.to_thread(processes, pids, desk.clock.now())
        return pb.TopContainerResponse(
            processes=[
                pb.ContainerProcess(
                    pid=row.pid,
                    parent_pid=row.parent_pid,
                    user=row.user,
                    started_at=row.started_at,
                    cpu_s=row.cpu_s,
                    command=row.command,
                )
                for row in rows
            ]
        )

    async def Stats(self, request: pb.ContainerStatsRequest, context: Any) -> AsyncGenerator[pb.ContainerStatsResponse]:
        await context.send_initial_metadata(())  # now, as the first answer may take long
        async for answer in stats(await self._desk(), request, self._memory_bytes):
            yield answer

    async def Logs(self, request: pb.ContainerLogsRequest, context: Any) -> AsyncGenerator[pb.ContainerLogsResponse]:
        await context.send_initial_metadata(())  # now, as the first answer may take long
        async for answer in logs(await self._desk(), request):
            yield answer

    async def Attach(  # type: ignore[override]  # a coroutine that writes its answers is as good
        self, requests: AsyncIterator[pb.StreamRequest], context: Any
    ) -> None:
        await stream(await self._desk(), requests, context.write)

    async def CopyIn(self, requests: AsyncIterator[pb.CopyInRequest], context: Any) -> pb.CopyInResponse:
        desk = await self._desk()
        first = await anext(requests, None)
        if first is None or not first.HasField("begin"):
            raise invalid("the call begins without saying where to copy to")
        begin = first.begin

        async def pieces() -> AsyncIterator[bytes]:
            async for request in requests:
                yield request.data

        await copying.copy_in(desk, begin.ref, begin.path, pieces(), rename=begin.rename, owners=begin.archive)
        return pb.CopyInResponse()

    async def CopyOut(self, request: pb.CopyOutRequest, context: Any) -> None:  # type: ignore[override]  # the same
        desk = await self._desk()
        found = await copying.stat_file(desk, request.ref, request.path, follow=request.follow_link)
        stat = pb.FileStat(
            name=found.name,
            size_bytes=found.size_bytes,
            mode=found.mode,
            directory=found.is_directory,
            link_target=found.link_target,
        )
        await context.write(pb.CopyOutResponse(stat=stat))

        async def send(piece: bytes) -> None:
            await context.write(pb.CopyOutResponse(data=piece))

        if not request.stat_only:
            await copying.copy_out(desk, request.ref, request.path, send, follow=request.follow_link)

    async def Diff(self, request: pb.ContainerRequest, context: Any) -> pb.DiffContainerResponse:
        rows = await copying.changes(await self._desk(), request.ref)
        return pb.DiffContainerResponse(changes=[pb.FileChange(kind=row.kind, path=row.path) for row in rows])


def _container(container: Container) -> pb.Container:
    return cast(pb.Container, to_proto(container))


def _answer(container: Container) -> pb.ContainerResponse:
    return pb.ContainerResponse(container=_container(container))


async def _sized(desk: Desk, container: Container) -> Container:
    try:
        return msgspec.structs.replace(container, written_bytes=await desk.written_bytes(container.id))
    except SwarmError:
        return container  # it has just been removed


def _credentials(request: pb.CreateContainerRequest) -> Credentials | None:
    given = Credentials(request.username, request.password, request.identity_token)
    return given if given != Credentials() else None


def _step(event: PullEvent) -> pb.PullStep:
    return pb.PullStep(
        reference=event.reference,
        digest=event.digest,
        stage=event.stage.value,
        done_bytes=event.done_bytes,
        total_bytes=event.total_bytes,
    )
