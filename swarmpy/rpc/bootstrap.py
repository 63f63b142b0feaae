"""The bootstrap protocol's frames: a 4-byte big-endian length, then a protobuf message."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from swarmpy.errors import Code, SwarmError, invalid

MAX_FRAME_BYTES: Final = 64 * 1024

M = TypeVar("M", bound=Message)


async def read_frame(reader: asyncio.StreamReader, message_type: type[M]) -> M:
    """Read one message.

    Raises:
        SwarmError: INVALID_ARGUMENT for what is not such a frame, UNAVAILABLE when the other side closed.
    """
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > MAX_FRAME_BYTES:
            raise invalid(f"a bootstrap message of {size} bytes is too large: at most {MAX_FRAME_BYTES} are taken")
        return message_type.FromString(await reader.readexactly(size))
    except asyncio.IncompleteReadError as error:
        raise SwarmError(Code.UNAVAILABLE, "the other side closed the connection") from error
    except DecodeError as error:
        raise invalid("a bootstrap message cannot be read") from error


async def write_frame(writer: asyncio.StreamWriter, message: Message) -> None:
    """Write one message and wait until it is on its way."""
    data = message.SerializeToString()
    writer.write(len(data).to_bytes(4, "big") + data)
    await writer.drain()
