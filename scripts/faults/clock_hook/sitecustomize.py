"""Lets a round move the wall clock of one node's processes; Python imports this by its name at their start.

The machine's clock is everybody's, and monotonic time is not to jump. So `time.time` alone is shifted, by the seconds
in the file that an environment variable names: a double, which whoever moves the clock writes.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

VARIABLE = "SWARMPY_CLOCK_OFFSET"
OFFSET = struct.Struct("d")


def shift(path: str) -> None:
    """Have `time.time` of this process follow the offset in a file."""
    with open(path, "rb") as file:  # noqa: PTH123  # pathlib would cost every process its import
        offset = mmap.mmap(file.fileno(), OFFSET.size, access=mmap.ACCESS_READ)
    real = time.time
    time.time = lambda: real() + OFFSET.unpack_from(offset)[0]


if VARIABLE in os.environ:
    shift(os.environ[VARIABLE])
