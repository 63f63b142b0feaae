"""The rules for what runs: command, environment, user, stopping, and fields that a process cannot have."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from typing import Final

from swarmpy.errors import Problem
from swarmpy.model.placeholders import unknown_placeholders
from swarmpy.model.spec import ContainerSpec, PortSpec, Ulimit
from swarmpy.model.states import Runtime
from swarmpy.model.validate.checks import duration, labels, text, unsupported
from swarmpy.model.validate.health import check_health
from swarmpy.model.validate.isolation import check_isolation

MAX_ENTRY_BYTES: Final = 131_071
"""The kernel's limit for one argument or one variable of the environment."""

ULIMITS: Final = (
    *("as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "ofile", "rss"),
    *("rtprio", "rttime", "sigpending", "stack"),
)
_CONTAINERS_ONLY: Final = (
    ("hostname", "a host name of its own is"),
    ("tty", "a terminal is"),
    ("init", "an init process is"),
    ("read_only", "a read-only root is"),
    ("hosts", "extra hosts are"),
    ("dns", "DNS servers are"),
    ("dns_search", "DNS search domains are"),
    ("dns_options", "DNS options are"),
    ("mounts", "mounts are"),
    ("cap_add", "added capabilities are"),
    ("cap_drop", "dropped capabilities are"),
    ("sysctls", "sysctls are"),
)
_NO_EFFECT_YET: Final = (("secrets", "secrets are"), ("configs", "configs are"))
_USER: Final = re.compile(r"(?:[a-zA-Z_][a-zA-Z0-9_.-]*\$?|\d{1,10})", re.ASCII)


def check_container(
    path: str, container: ContainerSpec, runtime: Runtime, ports: tuple[PortSpec, ...]
) -> Iterator[Problem]:
    """Check everything but the resources."""
    yield from _program(path, container, runtime)
    yield from _environment(path, container)
    yield from labels(f"{path}.labels", container.labels)
    yield from _user(path, container)
    yield from _stop(path, container)
    yield from _ulimits(path, container.ulimits)
    if not -1000 <= container.oom_score_adj <= 1000:
        yield Problem(f"{path}.oom_score_adj", f"{container.oom_score_adj} is out of range: give -1000 to 1000")
    for field in ("healthcheck", "readiness"):
        check = getattr(container, field)
        if check is not None:
            yield from check_health(f"{path}.{field}", check, ports, any_port=runtime is Runtime.CONTAINER)
    if runtime is Runtime.CONTAINER:
        yield from check_isolation(path, container)
    for field, what in _NO_EFFECT_YET if runtime is Runtime.CONTAINER else (*_CONTAINERS_ONLY, *_NO_EFFECT_YET):
        if getattr(container, field):
            yield unsupported(f"{path}.{field}", what)


def _program(path: str, container: ContainerSpec, runtime: Runtime) -> Iterator[Problem]:
    if runtime is Runtime.CONTAINER:
        if not container.image:
            yield Problem(f"{path}.image", "is missing: name the image to run")
    else:
        if container.image:
            yield Problem(f"{path}.image", f"a process has no image ({container.image!r}): give its command only")
        if not (*container.command, *container.args, "")[0]:
            yield Problem(f"{path}.command", "is missing: give the program to run and its arguments")
    for field in ("command", "args"):
        for number, argument in enumerate(getattr(container, field)):
            yield from _entry(f"{path}.{field}[{number}]", argument)
    if container.workdir:
        yield from text(f"{path}.workdir", container.workdir)
        if not container.workdir.startswith("/"):
            yield Problem(f"{path}.workdir", f"{container.workdir!r} is not an absolute path: begin it with /")


def _environment(path: str, container: ContainerSpec) -> Iterator[Problem]:
    for number, pair in enumerate(container.env):
        at = f"{path}.env[{number}]"
        key, equals, value = pair.partition("=")
        if not equals:
            yield Problem(at, f"{pair!r} has no value: write KEY=value, or KEY= for an empty one")
        elif not key or any(c.isspace() for c in key):
            yield Problem(at, f"{pair!r} has no name, or spaces in it: write KEY=value")
        yield from _entry(at, pair)
        for unknown, known in unknown_placeholders(value):
            yield Problem(at, f"the placeholder {unknown} is not known: use one of {known}")


def _entry(path: str, entry: str) -> Iterator[Problem]:
    yield from text(path, entry)
    size_bytes = len(entry.encode("utf-8", "surrogatepass"))
    if size_bytes > MAX_ENTRY_BYTES:
        yield Problem(path, f"takes {size_bytes} bytes, {MAX_ENTRY_BYTES} is the most: put it into a file")


def _user(path: str, container: ContainerSpec) -> Iterator[Problem]:
    if container.user:
        user, colon, group = container.user.partition(":")
        if _USER.fullmatch(user) is None or (colon and _USER.fullmatch(group) is None):
            yield Problem(f"{path}.user", f"{container.user!r} is not a user: write name, uid, name:group or uid:gid")
    for number, group in enumerate(container.groups):
        if _USER.fullmatch(group) is None:
            yield Problem(f"{path}.groups[{number}]", f"{group!r} is not a group: write its name or number")


def _stop(path: str, container: ContainerSpec) -> Iterator[Problem]:
    name = container.stop_signal.upper()
    if name.isdecimal():
        known = 0 < int(name) < signal.NSIG
    else:
        known = not name or f"SIG{name.removeprefix('SIG')}" in signal.Signals.__members__
    if not known:
        yield Problem(
            f"{path}.stop_signal",
            f"{container.stop_signal!r} is not a signal: write a name such as SIGINT, or a number",
        )
    yield from duration(f"{path}.stop_grace_period_s", container.stop_grace_period_s)
    yield from duration(f"{path}.drain_timeout_s", container.drain_timeout_s)


def _ulimits(path: str, ulimits: tuple[Ulimit, ...]) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, limit in enumerate(ulimits):
        at = f"{path}.ulimits[{number}]"
        if limit.name not in ULIMITS:
            yield Problem(at, f"{limit.name!r} is not a ulimit: use one of {', '.join(ULIMITS)}")
        if limit.name in seen:
            yield Problem(at, f"{limit.name} is given twice: drop one")
        seen.add(limit.name)
        if limit.soft < -1 or limit.hard < -1:
            yield Problem(at, f"{limit.name}={limit.soft}:{limit.hard} is below 0: use -1 for unlimited")
        elif limit.hard != -1 and not 0 <= limit.soft <= limit.hard:
            yield Problem(
                at, f"the soft limit {limit.soft} of {limit.name} is above the hard limit {limit.hard}: lower it"
            )
