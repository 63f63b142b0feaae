"""What the task host is to start for a task: argv, environment, directory, user, limits.

Reads the node (users, directories, programs) and changes nothing.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmpy.errors import invalid, not_supported
from swarmpy.model import network
from swarmpy.model.endpoints import HostPort, Transport
from swarmpy.model.spec import Ulimit
from worker.assignments import Assignment
from worker.dataplane.protocol import TASK_NAME_SERVER
from worker.executor.node import NodeFacts
from worker.executor.templates import expand
from worker.executor.users import Identity, look_up
from worker.task.outcome import signal_number

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ANYWHERE: Final = "0.0.0.0"
_UNLIMITED: Final = -1
# What needs namespaces of its own: a process that was started without it would not be what was asked for.
_NEEDS_CONTAINER: Final = (
    ("mounts", "--mount"),
    ("secrets", "--secret"),
    ("configs", "--config"),
    ("tty", "--tty"),
    ("read_only", "--read-only"),
    ("hostname", "--hostname"),
    ("cap_add", "--cap-add"),
    ("cap_drop", "--cap-drop"),
    ("sysctls", "--sysctl"),
)
# These are files of its own, which it has together with a network of its own.
_NEEDS_NETWORK: Final = (
    ("hosts", "--host"),
    ("dns", "--dns"),
    ("dns_search", "--dns-search"),
    ("dns_options", "--dns-option"),
)


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """What to start. `argv[0]` is an absolute path; `ulimits` maps names to (soft, hard), -1 unlimited."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    identity: Identity
    ulimits: Mapping[str, tuple[int, int]]
    oom_score_adj: int | None


def plan_process(
    assignment: Assignment,
    host_ports: tuple[HostPort, ...],
    node: NodeFacts,
    work_directory: Path,
    *,
    may_switch: bool,
) -> ProcessPlan:
    """Return how a process task is started.

    Args:
        work_directory: where it runs unless its spec names a directory.
        may_switch: whether this node can start processes as another user.

    Raises:
        SwarmError: the spec cannot be met on this node; the sentence says what is missing.
    """
    container = assignment.version.task.container
    for field, flag in _NEEDS_CONTAINER:
        if getattr(container, field):
            raise not_supported(f"{flag} for a plain process")
    apart = has_own_network(assignment)
    for field, flag in _NEEDS_NETWORK:
        if getattr(container, field) and not apart:
            raise not_supported(f"{flag} for a plain process on the network of its node; join it to one by --network")
    signal_number(container.stop_signal)
    identity = look_up(container.user, container.groups, may_switch=may_switch)
    cwd = Path(container.workdir) if container.workdir else work_directory
    if container.workdir and not cwd.is_dir():
        raise invalid(f"the working directory {container.workdir!r} does not exist on this node")
    env = environment(assignment, host_ports, node, home=identity.home)
    argv = container.command + container.args
    if not argv:
        raise invalid("the service has no command; give the program and its arguments")
    program = find_command(argv[0], env.get("PATH", DEFAULT_PATH), cwd)
    return ProcessPlan(
        argv=(program, *argv[1:]),
        env=env,
        cwd=str(cwd),
        identity=identity,
        ulimits=ulimits(container.ulimits),
        oom_score_adj=container.oom_score_adj or None,
    )


def environment(
    assignment: Assignment, host_ports: tuple[HostPort, ...], node: NodeFacts, *, home: str
) -> dict[str, str]:
    """Return the task's whole environment: ours, then the spec's; nothing is inherited."""
    env = {"PATH": DEFAULT_PATH, "HOME": home, **identity_variables(assignment, node)}
    if has_own_network(assignment):
        # The address to listen on, by whatever name a program looks for it.
        env["SWARMPY_NODE_ADDR"] = ANYWHERE
        env["SWARMPY_DNS"] = f"{TASK_NAME_SERVER}:53"
        env.update(port_variables(target_ports(host_ports), ANYWHERE))
    else:
        if node.dns:
            env["SWARMPY_DNS"] = node.dns
        env.update(port_variables(host_ports, node.data_addr))
    env.update(spec_variables(assignment, node))
    return env


def has_own_network(assignment: Assignment) -> bool:
    """Whether a process is in a network namespace of its own: it is, if its spec names any network but the node's."""
    targets = {joined.target for joined in assignment.version.task.networks}
    return bool(targets - {network.HOST})


def target_ports(host_ports: tuple[HostPort, ...]) -> tuple[HostPort, ...]:
    """Return where a task with a network of its own listens: at its own addresses, on the target ports."""
    return tuple(HostPort(target=p.target, port=p.target, transport=p.transport) for p in host_ports)


def identity_variables(assignment: Assignment, node: NodeFacts) -> dict[str, str]:
    """Return what every task is told of itself, whatever runs it."""
    return {
        "SWARMPY_TASK_ID": assignment.id,
        "SWARMPY_TASK_NAME": assignment.name,
        "SWARMPY_TASK_SLOT": str(assignment.slot),
        "SWARMPY_SERVICE_ID": assignment.service_id,
        "SWARMPY_SERVICE_NAME": assignment.version.name,
        "SWARMPY_NODE_ID": node.id,
        "SWARMPY_NODE_ADDR": node.data_addr,
    }


def spec_variables(assignment: Assignment, node: NodeFacts) -> list[tuple[str, str]]:
    """Return the spec's variables with their placeholders filled in.

    Raises:
        SwarmError: INVALID_ARGUMENT, an unknown placeholder.
    """
    pairs = (pair.partition("=") for pair in assignment.version.task.container.env)
    return [(name, expand(value, assignment, node)) for name, separator, value in pairs if separator]


def port_variables(host_ports: tuple[HostPort, ...], data_addr: str) -> dict[str, str]:
    """Return HOST, PORT (the first TCP port, else the first) and PORT_<target> for each target.

    HOST is what to bind. A target that is published on an address of its own has HOST_<target>, too.
    """
    if not host_ports:
        return {}
    main = next((p for p in host_ports if p.transport is Transport.TCP), host_ports[0])
    named = {f"PORT_{p.target}": str(p.port) for p in host_ports}
    named.update({f"HOST_{p.target}": p.address for p in host_ports if p.address})
    return {"HOST": main.address or data_addr, "PORT": str(main.port), **named}


def find_command(name: str, search_path: str, cwd: Path) -> str:
    """Return the absolute path of a program, found as a shell does.

    Raises:
        SwarmError: INVALID_ARGUMENT, there is none, or it is not executable.
    """
    if "/" in name:
        path = cwd / name
        if not path.exists():
            raise invalid(f"command not found: {name!r} (looked for {path})")
        return _executable(path, name)
    for directory in search_path.split(":"):
        path = cwd / directory / name
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise invalid(f"command not found: {name!r} (looked in PATH={search_path})")


def _executable(path: Path, name: str) -> str:
    if not path.is_file():
        raise invalid(f"command {name!r} is not a file ({path})")
    if not os.access(path, os.X_OK):
        raise invalid(f"command {name!r} is not executable ({path}); set its x bit")
    return str(path)


def ulimits(wanted: tuple[Ulimit, ...]) -> dict[str, tuple[int, int]]:
    """Return limits by name (`nofile`), checked against those that the kernel has.

    Raises:
        SwarmError: INVALID_ARGUMENT, an unknown name or a soft limit above the hard one.
    """
    checked = {}
    for limit in wanted:
        if not hasattr(resource, f"RLIMIT_{limit.name.upper()}"):
            raise invalid(f"there is no ulimit {limit.name!r}")
        hard = limit.hard if limit.hard != _UNLIMITED else float("inf")
        soft = limit.soft if limit.soft != _UNLIMITED else float("inf")
        if soft > hard:
            raise invalid(f"the ulimit {limit.name} has a soft limit of {limit.soft} above its hard limit {limit.hard}")
        checked[limit.name] = (limit.soft, limit.hard)
    return checked
