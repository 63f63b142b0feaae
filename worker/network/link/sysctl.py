"""The kernel's settings below /proc/sys/net, of the namespace in which the calling thread is."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from swarmpy.errors import Code, SwarmError, invalid

_ROOT: Final = Path("/proc/sys")
# A part may hold dots (an interface `eth0.5`), which are written as slashes then, as sysctl(8) has it.
_NAME: Final = re.compile(r"net[./][\w-]+(?:[./][\w./:-]+)?")

TASK_DEFAULTS: Final[Mapping[str, str]] = {
    # Interfaces made from now on have no IPv6; the loopback keeps ::1.
    "net/ipv6/conf/default/disable_ipv6": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/default/accept_redirects": "0",
    "net/ipv4/ip_unprivileged_port_start": "0",
}


def check(settings: Mapping[str, str]) -> None:
    """Refuse settings that are not a namespace's own.

    Raises:
        SwarmError: INVALID_ARGUMENT, a name is not below `net.`, or leaves it.
    """
    for name in settings:
        if not _NAME.fullmatch(name) or ".." in name:
            raise invalid(f"the sysctl {name!r} is not one of a network namespace: only net.* can be set here")


def write(settings: Mapping[str, str], *, missing_ok: bool = False) -> None:
    """Set each of `settings`, named with dots or slashes, in this thread's namespace.

    Args:
        missing_ok: pass over those that this kernel does not have.

    Raises:
        SwarmError: INVALID_ARGUMENT, there is no such setting, or not that value; PERMISSION_DENIED.
    """
    for name, value in settings.items():
        path = _ROOT / (name if "/" in name else name.replace(".", "/"))
        try:
            # Not write_text, which would make a file where there is none.
            with path.open("r+") as file:
                file.write(value)
        except FileNotFoundError as error:
            if not missing_ok:
                raise invalid(f"this kernel has no sysctl {name!r}") from error
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise SwarmError(
                    Code.PERMISSION_DENIED, f"the sysctl {name!r} cannot be set: {error.strerror}"
                ) from error
            raise invalid(f"the sysctl {name!r} cannot be {value!r}: {error.strerror}") from error


def read(name: str) -> str | None:
    """Return a setting of this thread's namespace, None if this kernel has none of that name."""
    try:
        return (_ROOT / (name if "/" in name else name.replace(".", "/"))).read_text().strip()
    except OSError:
        return None
