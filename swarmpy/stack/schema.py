"""Which keys of a Compose file are honoured; each other one is a fault that names its file and line.

A key that is left out of a deploy in silence changes what runs, so everything that is not honoured is refused,
all at once. `x-*`, `version` and `name` mean nothing to swarmpy and are let through.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Final

from swarmpy.errors import SwarmError
from swarmpy.stack.faults import Fault
from swarmpy.stack.tree import Node

Keys = Mapping[str, "Keys | None"]

_HEALTHCHECK: Final[Keys] = dict.fromkeys(
    ("test", "interval", "timeout", "retries", "start_period", "start_interval", "disable")
)
_ROLLOUT: Final[Keys] = dict.fromkeys(
    ("parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order")
)
_DEPLOY: Final[Keys] = {
    **dict.fromkeys(("mode", "replicas", "labels", "endpoint_mode")),
    "update_config": _ROLLOUT,
    "rollback_config": _ROLLOUT,
    "restart_policy": dict.fromkeys(("condition", "delay", "max_attempts", "window")),
    "resources": {
        "limits": dict.fromkeys(("cpus", "memory", "pids")),
        "reservations": dict.fromkeys(("cpus", "memory")),
    },
    "placement": dict.fromkeys(("constraints", "max_replicas_per_node")),
}
_SERVICE: Final[Keys] = {
    **dict.fromkeys(("image", "command", "entrypoint", "environment", "env_file", "labels", "ports", "expose")),
    **dict.fromkeys(("working_dir", "user", "group_add", "stop_signal", "stop_grace_period", "ulimits")),
    **dict.fromkeys(("oom_score_adj", "depends_on", "networks", "network_mode")),
    **dict.fromkeys(("hostname", "init", "read_only", "tty", "cap_add", "cap_drop", "sysctls", "extra_hosts")),
    **dict.fromkeys(("dns", "dns_opt", "dns_search", "volumes", "tmpfs")),
    "healthcheck": _HEALTHCHECK,
    "logging": dict.fromkeys(("driver", "options")),
    "deploy": _DEPLOY,
    "x-swarmpy": {"runtime": None, "drain_timeout": None, "readiness": _HEALTHCHECK},
}
_NETWORK: Final[Keys] = {
    **dict.fromkeys(("name", "external", "driver", "driver_opts", "labels", "internal", "attachable")),
    "ipam": dict.fromkeys(("driver", "config")),
}
_VOLUME: Final[Keys] = dict.fromkeys(("name", "external", "driver"))
_DOCUMENT: Final[Keys] = {
    **dict.fromkeys(("version", "name", "services", "networks", "volumes")),
    "x-swarmpy": {"runtime": None},
}

_KNOWN_WORDS: Final = """
annotations attach blkio_config build cgroup cgroup_parent configs container_name cpu_count cpu_percent cpu_period
cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec develop device_cgroup_rules devices
domainname extends external_links extra_hosts generic_resources enable_ipv4 enable_ipv6 gpus include ipc isolation
label_file links logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit models oom_kill_disable
pid pids_limit platform post_start pre_stop preferences privileged profiles provider pull_policy restart runtime
scale secrets security_opt shm_size stdin_open storage_opt use_api_socket userns_mode uts volumes_from
"""
_KNOWN_ELSEWHERE: Final = frozenset(_KNOWN_WORDS.split())
"""Keys of the Compose specification that swarmpy knows of and does not honour yet."""

_HINTS: Final[Mapping[str, str]] = {
    "restart": "use deploy.restart_policy",
    "scale": "use deploy.replicas",
    "build": "build the image before, and name it with image",
    "mem_limit": "use deploy.resources.limits.memory",
    "mem_reservation": "use deploy.resources.reservations.memory",
    "cpus": "use deploy.resources.limits.cpus",
    "pids_limit": "use deploy.resources.limits.pids",
}


def check(document: Node) -> Iterator[Fault]:
    """Yield a fault for every key that is not honoured."""
    yield from _check(document, _DOCUMENT, "")
    for kind, keys in (("services", _SERVICE), ("networks", _NETWORK), ("volumes", _VOLUME)):
        try:
            found = document.mapping.get(kind)
            for name, child in (found.mapping if found is not None else {}).items():
                yield from _check(child, keys, f"{kind}.{name}")
        except SwarmError as error:
            yield Fault(document.place, kind, f"{kind} {error.message}", is_structural=True)


def _check(node: Node, keys: Keys, path: str) -> Iterator[Fault]:
    if node.value is None:
        return
    if not isinstance(node.value, dict):
        yield Fault(node.place, path, f"{path or 'a Compose file'} must be a mapping", is_structural=True)
        return
    for name, child in node.value.items():
        child_path = f"{path}.{name}".lstrip(".")
        if name not in keys:
            if not name.startswith("x-"):
                yield Fault(child.place, child_path, _sentence(name, child_path, keys))
        elif (below := keys[name]) is not None:
            yield from _check(child, below, child_path)


def _sentence(name: str, path: str, keys: Keys) -> str:
    if name in _KNOWN_ELSEWHERE:
        hint = f": {_HINTS[name]}" if name in _HINTS else ""
        return f"{path} is not supported yet{hint}"
    close = difflib.get_close_matches(name, [*keys, *_KNOWN_ELSEWHERE], n=1)
    return f"{path} is not a key of a Compose file" + (f"; did you mean {close[0]}?" if close else "")
