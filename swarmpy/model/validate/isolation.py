"""The rules for what only a container has: a host name, mounts, name servers, capabilities, kernel settings."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Final

from swarmpy import units
from swarmpy.errors import Problem, SwarmError
from swarmpy.model.kernel import capability_name, is_namespaced
from swarmpy.model.placeholders import unknown_placeholders
from swarmpy.model.spec import ContainerSpec, Mount
from swarmpy.model.states import MountType
from swarmpy.model.validate.checks import text

_HOSTNAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?", re.ASCII | re.IGNORECASE)
_WORD: Final = re.compile(r"[!-~]+", re.ASCII)
_VOLUME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,254}", re.ASCII | re.IGNORECASE)
_MODE: Final = re.compile(r"0?[0-7]{1,4}", re.ASCII)
_PROPAGATIONS: Final = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_OPTIONS: Final = {
    MountType.BIND: ("propagation",),
    MountType.VOLUME: ("nocopy",),
    MountType.TMPFS: ("mode", "size"),
}
_MOST_SERVERS: Final = 3
_MOST_SEARCH_CHARACTERS: Final = 256


def check_isolation(path: str, container: ContainerSpec) -> Iterator[Problem]:
    """Check the fields that only a container has."""
    yield from _hostname(f"{path}.hostname", container.hostname)
    yield from _names(path, container)
    yield from _mounts(f"{path}.mounts", container.mounts)
    for field in ("cap_add", "cap_drop"):
        for number, name in enumerate(getattr(container, field)):
            if not capability_name(name):
                yield Problem(
                    f"{path}.{field}[{number}]", f"{name!r} is no capability: give one such as NET_ADMIN, or ALL"
                )
    for name, value in sorted(container.sysctls.items()):
        at = f"{path}.sysctls[{name!r}]"
        if not is_namespaced(name):
            yield Problem(at, "is the whole machine's, not a container's own: set it on the nodes, or leave it out")
        yield from text(at, value)


def _hostname(path: str, hostname: str) -> Iterator[Problem]:
    if "{{" in hostname:
        yield from _placeholders(path, hostname)
    elif hostname and _HOSTNAME.fullmatch(hostname) is None:
        yield Problem(path, f"{hostname!r} is not a host name: use letters, digits, '-' and '.', 64 of them at most")


def _placeholders(path: str, value: str) -> Iterator[Problem]:
    for unknown, known in unknown_placeholders(value):
        yield Problem(path, f"the placeholder {unknown} is not known: use one of {known}")


def _names(path: str, container: ContainerSpec) -> Iterator[Problem]:
    for number, entry in enumerate(container.hosts):
        if not _is_host(entry):
            yield Problem(f"{path}.hosts[{number}]", f"{entry!r} is not NAME:ADDRESS: write one such as db:10.0.0.5")
    for number, server in enumerate(container.dns):
        if not _is_address(server):
            yield Problem(f"{path}.dns[{number}]", f"{server!r} is not an IP address")
    if len(container.dns) > _MOST_SERVERS:
        yield Problem(f"{path}.dns", f"{len(container.dns)} are too many: programs ask {_MOST_SERVERS} at most")
    for field in ("dns_search", "dns_options"):
        yield from _words(f"{path}.{field}", getattr(container, field))
    if len(" ".join(container.dns_search)) > _MOST_SEARCH_CHARACTERS:
        yield Problem(f"{path}.dns_search", f"is longer than {_MOST_SEARCH_CHARACTERS} characters: leave some out")


def _words(path: str, words: Iterable[str]) -> Iterator[Problem]:
    for number, word in enumerate(words):
        if _WORD.fullmatch(word) is None:
            yield Problem(f"{path}[{number}]", f"{word!r} is not one word")


def _is_host(entry: str) -> bool:
    """Whether it is `name:address` or `address name...`, which the API of Docker has."""
    address, *names = entry.split()
    if names:
        return _is_address(address) and all(_WORD.fullmatch(name) for name in names)
    name, colon, address = entry.partition(":")
    return bool(colon) and _HOSTNAME.fullmatch(name) is not None and _is_address(address)


def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def _mounts(path: str, mounts: tuple[Mount, ...]) -> Iterator[Problem]:
    targets: dict[str, int] = {}
    for number, mount in enumerate(mounts):
        at = f"{path}[{number}]"
        for field in ("source", "target"):
            yield from text(f"{at}.{field}", getattr(mount, field))
            yield from _placeholders(f"{at}.{field}", getattr(mount, field))
        if not mount.target.startswith("/") or posixpath.normpath(mount.target).strip("/") == "":
            yield Problem(f"{at}.target", f"{mount.target!r} is not an absolute path below /: give one such as /data")
        first = targets.setdefault(posixpath.normpath(mount.target), number)
        if first != number:
            yield Problem(f"{at}.target", f"{mount.target} is the target of mount {first} too: leave one out")
        yield from _source(at, mount)
        yield from _options(at, mount)


def _source(path: str, mount: Mount) -> Iterator[Problem]:
    match mount.type:
        case MountType.BIND if not mount.source.startswith(("/", "{{")):
            yield Problem(f"{path}.source", f"{mount.source!r} is not an absolute path on the node: begin it with /")
        case MountType.VOLUME if mount.source and "{{" not in mount.source and not _VOLUME.fullmatch(mount.source):
            yield Problem(
                f"{path}.source",
                f"{mount.source!r} is not a volume name: use letters and digits, after the first one also _ . and -",
            )
        case MountType.TMPFS if mount.source:
            yield Problem(f"{path}.source", "a tmpfs has no source: leave it out")
        case MountType.TMPFS if mount.read_only:
            yield Problem(f"{path}.read_only", "a tmpfs begins empty, so a read-only one stays so: leave one out")
        case _:
            return


def _options(path: str, mount: Mount) -> Iterator[Problem]:
    for name, value in sorted(mount.options.items()):
        at = f"{path}.options[{name!r}]"
        if name not in _OPTIONS[mount.type]:
            known = " or ".join(_OPTIONS[mount.type])
            yield Problem(at, f"is not an option of a {mount.type.name.lower()} mount: use {known}")
        elif name == "propagation" and value not in _PROPAGATIONS:
            yield Problem(at, f"{value!r} is not one of {', '.join(_PROPAGATIONS)}")
        elif name == "nocopy" and value not in ("true", "false"):
            yield Problem(at, f"{value!r} is neither true nor false")
        elif name == "mode" and _MODE.fullmatch(value) is None:
            yield Problem(at, f"{value!r} is not an octal number such as 1777")
        elif name == "size":
            yield from _size(at, value)


def _size(path: str, value: str) -> Iterator[Problem]:
    try:
        size = units.parse_memory_bytes(value)
    except SwarmError as error:
        yield Problem(path, error.message)
        return
    if size <= 0:
        yield Problem(path, f"{value!r} is not a size above 0: give one such as 64m")
