"""Requests to start something, checked and turned into a `Program`."""

from __future__ import annotations

import resource

from swarmpy.daemon.request import Refused, Request, is_whole
from swarmpy.daemon.spawn import Program, rlimit_number

MOST_ID = (1 << 32) - 2  # -1 means "unchanged" to the kernel
_DEFAULT_UMASK = 0o022


def task_program(request: Request) -> Program:
    """Return the program of a `start` request.

    Raises:
        Refused: a field is missing or wrong; the sentence names it.
    """
    program = _program(request)
    program.stdout = request.text("stdout")
    program.stderr = request.text("stderr")
    return program


def probe_program(request: Request, output_fd: int) -> Program:
    """Return the program of an `exec` request, writing to `output_fd`.

    Raises:
        Refused: a field is missing or wrong; the sentence names it.
    """
    program = _program(request)
    program.stdout = program.stderr = output_fd
    return program


def _program(request: Request) -> Program:
    argv = request.texts("argv")
    if not argv or not argv[0]:
        raise Refused("invalid", "the request's field 'argv' is empty: it must name a program")
    return Program(
        argv,
        _environment(request),
        cwd=request.text("cwd", "/"),
        uid=request.optional_whole("uid", least=0, most=MOST_ID),
        gid=request.optional_whole("gid", least=0, most=MOST_ID),
        groups=request.wholes("groups", [], least=0, most=MOST_ID),
        umask=request.whole("umask", _DEFAULT_UMASK, least=0, most=0o777),
        rlimits=_rlimits(request),
        cgroup_procs=request.texts("cgroup_procs", []),
        oom_score_adj=request.optional_whole("oom_score_adj", least=-1000, most=1000),
        netns=request.text("netns") if request.has("netns") else None,
        binds=_binds(request),
    )


def _binds(request: Request) -> dict[str, str]:
    binds: dict[str, str] = {}
    for target, source in request.mapping("binds", {}).items():
        if not isinstance(source, str) or any(not p.startswith("/") or "\0" in p for p in (target, source)):
            raise Refused("invalid", f"the request's field 'binds' maps {target!r} to {source!r}, not paths to paths")
        binds[target] = source
    return binds


def _environment(request: Request) -> dict[str, str]:
    environment: dict[str, str] = {}
    for name, value in request.mapping("env", {}).items():
        if not name or "=" in name or "\0" in name:
            raise Refused("invalid", f"{name!r} cannot be the name of an environment variable")
        if not isinstance(value, str) or "\0" in value:
            raise Refused("invalid", f"the environment variable {name!r} is not a text without a zero byte")
        environment[name] = value
    return environment


def _rlimits(request: Request) -> dict[str, tuple[int, int]]:
    limits: dict[str, tuple[int, int]] = {}
    for name, pair in request.mapping("ulimits", {}).items():
        try:
            rlimit_number(name)
        except KeyError as error:
            raise Refused("invalid", f"there is no ulimit {name!r} on this machine") from error
        if not isinstance(pair, list) or len(pair) != 2 or not all(is_whole(v) and -1 <= v < 1 << 63 for v in pair):
            raise Refused("invalid", f"the ulimit {name!r} is not [soft, hard] (whole numbers, -1 for unlimited)")
        soft, hard = pair
        if _at_most(hard) < _at_most(soft):
            raise Refused("invalid", f"the ulimit {name!r} has a soft limit above its hard one")
        limits[name] = (soft, hard)
    return limits


def _at_most(limit: int) -> float:
    return float("inf") if limit in (-1, resource.RLIM_INFINITY) else limit
