"""Containers as containerd keeps them: records that tasks are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping

from google.protobuf.any_pb2 import Any
from google.protobuf.field_mask_pb2 import FieldMask

from worker.containerd.api import containers_pb2 as pb
from worker.containerd.api import runc_pb2
from worker.containerd.api.containers_pb2_grpc import ContainersStub
from worker.containerd.transport import Transport, seconds
from worker.containerd.types import Container, RuncOptions

_OCI = "types.containerd.io/opencontainers/runtime-spec/1/"
_RUNC_OPTIONS = "containerd.runc.v1.Options"


class Containers:
    """The container records of one namespace."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = ContainersStub(transport.channel)

    async def create(self, container: Container) -> Container:
        """Make a record. ALREADY_EXISTS if the id is taken."""
        request = pb.CreateContainerRequest(container=_to_message(container))
        answer = await self._transport.call(self._stub.Create, request, f"create container {container.id}")
        return _from_message(answer.container)

    async def get(self, container_id: str) -> Container:
        """Return one record, or raise NOT_FOUND."""
        request = pb.GetContainerRequest(id=container_id)
        answer = await self._transport.call(self._stub.Get, request, f"look up container {container_id}")
        return _from_message(answer.container)

    async def list(self, *filters: str) -> tuple[Container, ...]:
        """Return the records that any of the filters fits, or all."""
        request = pb.ListContainersRequest(filters=filters)
        answer = await self._transport.call(self._stub.List, request, "list containers")
        return tuple(_from_message(message) for message in answer.containers)

    async def set_labels(self, container_id: str, labels: Mapping[str, str]) -> Container:
        """Replace all labels of a container."""
        return await self._update(pb.Container(id=container_id, labels=labels), "labels")

    async def set_spec(self, container_id: str, spec: Mapping[str, object]) -> Container:
        """Replace what the container's next task is made from."""
        return await self._update(pb.Container(id=container_id, spec=oci_object("Spec", spec)), "spec")

    async def delete(self, container_id: str) -> None:
        """Delete a record. FAILED_PRECONDITION while there is a task of it."""
        request = pb.DeleteContainerRequest(id=container_id)
        await self._transport.call(self._stub.Delete, request, f"delete container {container_id}")

    async def _update(self, container: pb.Container, field: str) -> Container:
        request = pb.UpdateContainerRequest(container=container, update_mask=FieldMask(paths=[field]))
        what = f"change the {field} of container {container.id}"
        return _from_message((await self._transport.call(self._stub.Update, request, what)).container)


def oci_object(name: str, value: Mapping[str, object]) -> Any:
    """Return an object of the OCI runtime specification, such as "Spec" or "Process", as containerd takes it."""
    return Any(type_url=_OCI + name, value=json.dumps(value, separators=(",", ":")).encode())


def runc_options(options: RuncOptions) -> Any:
    """Return options for runc as containerd takes them: the type URL is the bare name."""
    message = runc_pb2.Options(
        no_pivot_root=options.no_pivot_root,
        no_new_keyring=options.no_new_keyring,
        shim_cgroup=options.shim_cgroup,
        io_uid=options.io_uid,
        io_gid=options.io_gid,
        binary_name=options.binary_name,
        root=options.root,
        systemd_cgroup=options.systemd_cgroup,
    )
    return Any(type_url=_RUNC_OPTIONS, value=message.SerializeToString())


def _to_message(container: Container) -> pb.Container:
    return pb.Container(
        id=container.id,
        labels=container.labels,
        image=container.image,
        runtime=pb.Container.Runtime(name=container.runtime, options=runc_options(container.runc)),
        spec=oci_object("Spec", container.spec),
        snapshotter=container.snapshotter,
        snapshot_key=container.snapshot_key,
    )


def _from_message(message: pb.Container) -> Container:
    options = runc_pb2.Options()
    if message.runtime.options.type_url.endswith(_RUNC_OPTIONS):
        options.ParseFromString(message.runtime.options.value)
    return Container(
        id=message.id,
        image=message.image,
        labels=dict(message.labels),
        spec=json.loads(message.spec.value or b"{}"),
        snapshotter=message.snapshotter,
        snapshot_key=message.snapshot_key,
        runtime=message.runtime.name,
        runc=RuncOptions(
            root=options.root,
            binary_name=options.binary_name,
            systemd_cgroup=options.systemd_cgroup,
            shim_cgroup=options.shim_cgroup,
            no_pivot_root=options.no_pivot_root,
            no_new_keyring=options.no_new_keyring,
            io_uid=options.io_uid,
            io_gid=options.io_gid,
        ),
        created_at_s=seconds(message.created_at),
        updated_at_s=seconds(message.updated_at),
    )
