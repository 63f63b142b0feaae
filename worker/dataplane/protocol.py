"""The control socket's messages and their framing: what the worker and the data plane say to each other.

Sans-IO: `encode` makes a frame's bytes, `FrameDecoder` is fed bytes and gives messages. A frame is a 4-byte
big-endian length and that many bytes of MessagePack, a map with its type's name under "type".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

import msgspec

from swarmpy.errors import Code, SwarmError
from worker.dataplane.proxy.api import CounterRow

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
_LENGTH = struct.Struct("!I")
TASK_NAME_SERVER: Final = "127.0.0.11"
"""Where tasks with a network namespace of their own find their name server, in it."""
_ENCODER: Final = msgspec.msgpack.Encoder()


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True, gc=False):
    """One frame's content. Fields may be added (with a default), never renamed or retyped."""


# ---- worker to data plane


class Configure(Message, frozen=True):
    """Says who is calling; always the first message. Another cluster's id wipes what the data plane knows."""

    node_id: str
    cluster_id: str


class Endpoints(Message, frozen=True):
    """The manager's encoded `swarmpy.model.endpoints.EndpointsUpdate`, untouched."""

    payload: bytes


class GetCounters(Message, frozen=True):
    """Asks for one `Counters`."""


# ---- worker to data plane, on a connection of its own, which needs no `Configure`


class TaskNamespace(Message, frozen=True):
    """A task's network namespace, pinned at `netns`, in which names are to be served; replaces the task's last one.

    Its networks are those of its `Neighbour` row and `networks`. Names of the outside are looked up if `forward`:
    with `servers` from inside the namespace, without any with the machine's from where the data plane is. `port` is
    53, unless packets to it are led to another one in the namespace.
    """

    task_id: str
    netns: str
    servers: tuple[str, ...] = ()
    forward: bool = True
    networks: tuple[str, ...] = ()
    port: int = 53


class Tasks(Message, frozen=True):
    """All task namespaces there are: those of other tasks are let go of."""

    tasks: tuple[TaskNamespace, ...]


class TaskGone(Message, frozen=True):
    """Names are no longer served in a task's namespace. Of an unknown task: nothing."""

    task_id: str


# ---- data plane to worker


class TaskServed(Message, frozen=True):
    """The answer to each `TaskNamespace`, also of `Tasks`: names are served there, or `problem` says why not yet."""

    task_id: str
    problem: str = ""


class Hello(Message, frozen=True):
    """The answer to `Configure`, and repeated when one of its facts changes. The current problems follow it,
    so earlier ones are void.

    `dns_port` is 0 and `vip_prefix` ("127.93") empty while the node could not get them. `revision` is the
    last applied one, 0 if none; revisions are comparable only within `cluster_id`.
    """

    dns_address: str
    dns_port: int
    vip_prefix: str
    cluster_id: str
    revision: int


class Applied(Message, frozen=True):
    """The watermark of draining: updates up to `revision` are in force; `busy` still have connections here."""

    revision: int
    busy: tuple[str, ...] = ()


class PortProblem(Message, frozen=True):
    """A port that a service or the DNS should be served on cannot be bound; it is tried again."""

    transport: str
    address: str
    port: int
    message: str


class PortCleared(Message, frozen=True):
    """A port of an earlier `PortProblem` is bound now, or is no longer wanted."""

    transport: str
    address: str
    port: int


class Counters(Message, frozen=True):
    """Totals since the process started. `loop_lag_max_s` is the longest since the last `Counters`."""

    dns: dict[str, int]
    balancer: tuple[CounterRow, ...]
    loop_lag_max_s: float
    loop_lag_total_s: float
    rss_bytes: int


ToDataPlane = Configure | Endpoints | GetCounters | TaskNamespace | Tasks | TaskGone
ToWorker = Hello | Applied | PortProblem | PortCleared | Counters | TaskServed
M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """Return `message` as one frame.

    Raises:
        SwarmError: RESOURCE_EXHAUSTED, the message is larger than `MAX_FRAME_BYTES`.
    """
    body = _ENCODER.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise SwarmError(
            Code.RESOURCE_EXHAUSTED,
            f"a {type(message).__name__} message of {len(body)} bytes is larger than the data plane's limit of"
            f" {MAX_FRAME_BYTES}; the cluster has too many endpoints for one update",
        )
    return _LENGTH.pack(len(body)) + body


class FrameDecoder(Generic[M]):
    """Turns a stream of bytes, cut anywhere, into messages of one direction."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[M]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[M]:
        """Yield the messages that `data` completes.

        Raises:
            SwarmError: CORRUPT, the frame is too large or is not one of the messages; the connection
                cannot be read any further.
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > MAX_FRAME_BYTES:
                raise SwarmError(
                    Code.CORRUPT,
                    f"a frame of {size} bytes on the data plane's socket is over the limit of {MAX_FRAME_BYTES};"
                    " the other side speaks another protocol",
                )
            end = _LENGTH.size + size
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield self._decode(body)

    def _decode(self, body: bytes) -> M:
        try:
            return self._decoder.decode(body)
        except msgspec.DecodeError as error:
            raise SwarmError(
                Code.CORRUPT,
                f"a frame on the data plane's socket is not one of its messages ({error});"
                " worker and data plane are of different versions, restart both",
            ) from error


def data_plane_decoder() -> FrameDecoder[ToDataPlane]:
    """Return the decoder of what a data plane receives."""
    return FrameDecoder(msgspec.msgpack.Decoder(ToDataPlane))


def worker_decoder() -> FrameDecoder[ToWorker]:
    """Return the decoder of what a worker receives."""
    return FrameDecoder(msgspec.msgpack.Decoder(ToWorker))
