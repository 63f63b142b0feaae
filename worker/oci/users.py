"""Who a container runs as: `user[:group]` looked up in the image's own `/etc/passwd` and `/etc/group`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from swarmpy.errors import invalid

_MOST_ID: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Accounts:
    """The texts of a root file system's `/etc/passwd` and `/etc/group`; empty where there is no such file."""

    passwd: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """Numbers for the kernel and the home directory. `groups` holds the primary group too."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = (0,)
    home: str = "/"


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve(user: str, groups: Iterable[str], accounts: Accounts) -> User:
    """Return whom `user` (`name|uid[:group|gid]`, empty is root) stands for, by Docker's rules.

    A number without an account is a user of its own, in group 0. Groups that list the user as a member count only
    where no group is named. Lines that make no sense are passed over.

    Args:
        groups: further groups, by name or number.

    Raises:
        SwarmError: INVALID_ARGUMENT, the image has no such user or group, or a number is out of range.
    """
    name, _, group = user.partition(":")
    name = name or "0"
    account = _account(name, accounts)
    uid = account.uid if account is not None else _number(name, "user")
    gid = account.gid if account is not None else 0
    known = tuple(_groups(accounts.group))
    listed: tuple[int, ...] = ()
    if group:
        gid = _gid(group, known)
    elif account is not None:
        listed = tuple(g.gid for g in known if account.name in g.members)
    extra = tuple(_gid(text, known) for text in groups)
    home = account.home if account is not None and account.home else "/"
    return User(uid, gid, tuple(dict.fromkeys((gid, *listed, *extra))), home)


def _account(name: str, accounts: Accounts) -> _Account | None:
    """Return the first account of that name or number; None for a number without one, which is a user too."""
    found = list(_accounts(accounts.passwd))
    for account in found:
        if account.name == name:
            return account
    if not name.isdecimal():
        raise invalid(f"the image has no user {name!r} in its /etc/passwd; name one that it has, or give a number")
    return next((a for a in found if a.uid == int(name)), None)


def _gid(text: str, known: tuple[_Group, ...]) -> int:
    for group in known:
        if group.name == text:
            return group.gid
    if not text.isdecimal():
        raise invalid(f"the image has no group {text!r} in its /etc/group; name one that it has, or give a number")
    return _number(text, "group")


def _number(text: str, what: str) -> int:
    number = int(text)
    if number > _MOST_ID:
        raise invalid(f"the {what} {text} is out of range: {_MOST_ID} is the most")
    return number


def _accounts(text: str) -> Iterator[_Account]:
    for line in text.splitlines():
        words = line.split(":")
        if len(words) >= 4 and words[2].isdecimal() and words[3].isdecimal():
            yield _Account(words[0], int(words[2]), int(words[3]), words[5] if len(words) > 5 else "")


def _groups(text: str) -> Iterator[_Group]:
    for line in text.splitlines():
        words = line.split(":")
        if len(words) >= 3 and words[2].isdecimal():
            members = tuple(words[3].split(",")) if len(words) > 3 else ()
            yield _Group(words[0], int(words[2]), members)
