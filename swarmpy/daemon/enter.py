"""What a forked child does to have a network, and the files that go with it, of its own.

The C library is called by way of `ctypes`, which is imported here and in no other place of the standard-library
processes: the child becomes another program at once, and its parent never holds that memory.
"""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Mapping

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000


def enter_network(netns: str, binds: Mapping[str, str]) -> None:
    """Move this process, which has one thread, to a network namespace, and show it files in place of the machine's.

    Args:
        netns: where the namespace is pinned.
        binds: by each file's name, the one that is seen there from now on; what the machine does not have is left out.

    Raises:
        OSError: it is not there, or this process is not root.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    _check(libc.setns(descriptor, CLONE_NEWNET))
    os.close(descriptor)
    if not binds:
        return
    _check(libc.unshare(CLONE_NEWNS))
    # What the machine mounts later is seen, what is mounted here stays here.
    _check(libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None))
    for target, source in binds.items():
        real = os.path.realpath(target)
        if os.path.exists(real):
            _check(libc.mount(os.fsencode(source), os.fsencode(real), None, MS_BIND, None))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
