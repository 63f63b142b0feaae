"""Who a process task runs as: `user`, `uid`, `user:group` and their like, looked up on this node."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass

from swarmpy.errors import invalid, precondition


@dataclass(frozen=True, slots=True)
class Identity:
    """Numbers for the kernel, and the home directory; `uid` None keeps the worker's own identity."""

    uid: int | None
    gid: int | None
    groups: tuple[int, ...]
    home: str


def look_up(user: str, groups: Iterable[str], *, may_switch: bool) -> Identity:
    """Return whom `user` (`name|uid[:group|gid]`, empty: the worker's own) and `groups` stand for.

    Args:
        may_switch: whether this node can start processes as another user.

    Raises:
        SwarmError: INVALID_ARGUMENT, there is no such user or group; FAILED_PRECONDITION, switching is needed
            and not possible.
    """
    extra = tuple(_gid(g) for g in groups)
    if not user and not extra:
        return Identity(None, None, (), _home(os.geteuid()))
    name, _, group = user.partition(":")
    entry = _entry(name) if name else _entry(str(os.geteuid()))
    uid = int(name) if entry is None else entry.pw_uid
    own_gid = uid if entry is None else entry.pw_gid
    gid = _gid(group) if group else own_gid
    listed = () if entry is None or group else tuple(os.getgrouplist(entry.pw_name, gid))
    found = Identity(uid, gid, tuple(dict.fromkeys((gid, *listed, *extra))), _home(uid))
    if not may_switch and (uid, gid) != (os.geteuid(), os.getegid()):
        raise precondition(
            f"cannot run as user {user!r}: swarmpyd on this node does not run as root;"
            " leave --user out or start it as root"
        )
    return found if may_switch else Identity(None, None, (), found.home)


def _entry(name: str) -> pwd.struct_passwd | None:
    """Return the user's row; None for a number without one, which is a valid user too."""
    try:
        return pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        if name.isdigit():
            return None
        raise invalid(f"there is no user {name!r} on this node") from None


def _gid(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise invalid(f"there is no group {name!r} on this node") from None


def _home(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"
