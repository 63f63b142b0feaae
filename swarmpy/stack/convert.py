"""Services of a Compose file -> specs of services: pure but for env files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from swarmpy.errors import invalid
from swarmpy.model.spec import (
    STACK_LABEL,
    ContainerSpec,
    EndpointSpec,
    Healthcheck,
    LogDriver,
    Placement,
    Resources,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from swarmpy.model.states import EndpointMode, FailureAction, RestartCondition, Runtime, UpdateOrder
from swarmpy.model.validate import validate_service
from swarmpy.notation.choices import parse_choice
from swarmpy.notation.pairs import merge_env, parse_env
from swarmpy.stack import values
from swarmpy.stack.faults import Faults
from swarmpy.stack.networks import StackNetwork, declared, joined, used
from swarmpy.stack.schema import check
from swarmpy.stack.tree import Node
from swarmpy.stack.volumes import mounts, stack_volumes

S = TypeVar("S", bound=msgspec.Struct)

Keys = dict[str, Node]

READY_INTERVAL_S: Final = 1.0
_STACK_NAME: Final = re.compile(r"[a-z0-9A-Z](?:[-_]*[A-Za-z0-9]+)*")


@dataclass(frozen=True)
class StackService:
    """A service of a stack: its short name, its spec, and the short names to create before."""

    short: str
    spec: ServiceSpec
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Converted:
    """What a stack consists of: services that join networks by name, and the networks that they join."""

    services: list[StackService]
    networks: list[StackNetwork]


def convert(document: Node, stack: str, *, directory: Path, environ: Mapping[str, str]) -> Converted:
    """Return what a merged document stands for, as the stack `stack` names it.

    Args:
        directory: what env files are relative to.
        environ: where variables without a value take theirs from.

    Raises:
        SwarmError: INVALID_ARGUMENT, with every fault by file and line.
    """
    if not _STACK_NAME.fullmatch(stack) or len(stack) > 63:
        raise invalid(f'invalid stack name "{stack}": use letters, digits, - and _, at most 63')
    faults = Faults(check(document))
    faults.raise_if_structural()
    services = document.mapping.get("services")
    if services is None or not services.mapping:
        faults.raise_if_any()
        raise invalid(f"{document.place}: there are no services")
    runtime = _runtime(document, Runtime.CONTAINER, "", faults)
    networks = declared(document, stack, faults)
    context = _Context(stack, directory, environ, runtime, networks, stack_volumes(document, stack, faults))
    converted = [_service(name, node, context, faults) for name, node in services.mapping.items()]
    for service in converted:
        for before in service.after:
            if before not in services.mapping:
                path = f"services.{service.short}.depends_on"
                faults.add(services.mapping[service.short], path, f"there is no service {before}")
    faults.raise_if_any()
    for service in converted:
        for problem in validate_service(service.spec):
            faults.add(services.mapping[service.short], f"services.{service.short}", str(problem))
    faults.raise_if_any()
    return Converted(converted, used(networks.values(), (s.spec.task.networks for s in converted)))


@dataclass(frozen=True)
class _Context:
    stack: str
    directory: Path
    environ: Mapping[str, str]
    runtime: Runtime
    networks: Mapping[str, StackNetwork]
    volumes: Mapping[str, str]


def _changed(struct: S, **changes: Any) -> S:
    """Return `struct` with the changes that are not None."""
    return msgspec.structs.replace(struct, **{k: v for k, v in changes.items() if v is not None})


def _below(keys: Keys, name: str) -> Keys:
    return keys[name].mapping if name in keys else {}


def _runtime(node: Node, default: Runtime, path: str, faults: Faults) -> Runtime:
    extension = _below(node.mapping, "x-swarmpy")
    found = faults.read(
        extension, "runtime", f"{path}.x-swarmpy".lstrip("."), lambda n: parse_choice(values.text(n), Runtime)
    )
    return default if found is None else found


def _service(name: str, node: Node, context: _Context, faults: Faults) -> StackService:
    path = f"services.{name}"
    keys = node.mapping
    deploy = _below(keys, "deploy")
    ports = (
        *(faults.read(keys, "ports", path, values.ports) or ()),
        *(faults.read(keys, "expose", path, values.exposed) or ()),
    )
    labels = faults.read(deploy, "labels", f"{path}.deploy", values.labels) or {}
    mode = faults.read(deploy, "endpoint_mode", f"{path}.deploy", _choice(EndpointMode))
    spec = ServiceSpec(
        name=f"{context.stack}_{name}",
        labels={**labels, STACK_LABEL: context.stack},
        task=_task(node, path, context, faults),
        mode=_mode(deploy, f"{path}.deploy", faults),
        update=_rollout(_below(deploy, "update_config"), f"{path}.deploy.update_config", faults),
        rollback=_rollout(_below(deploy, "rollback_config"), f"{path}.deploy.rollback_config", faults),
        endpoint=_changed(EndpointSpec(ports=ports), mode=mode),
    )
    return StackService(name, spec, faults.read(keys, "depends_on", path, values.depends_on) or ())


def _choice(choices: Any) -> Any:
    return lambda node: parse_choice(values.text(node), choices)


def _mode(deploy: Keys, path: str, faults: Faults) -> ServiceMode:
    kind = faults.read(deploy, "mode", path, values.text)
    if kind not in (None, "replicated"):
        faults.add(deploy["mode"], f"{path}.mode", f'"{kind}" is not supported yet: use replicated')
    return _changed(ServiceMode(), replicas=faults.read(deploy, "replicas", path, values.integer()))


def _task(node: Node, path: str, context: _Context, faults: Faults) -> TaskSpec:
    keys = node.mapping
    runtime = _runtime(node, context.runtime, path, faults)
    container = _container(keys, path, context, faults)
    if runtime is Runtime.PROCESS:
        if "image" in keys:
            faults.add(keys["image"], f"{path}.image", "a plain process has no image: remove it")
        if not container.command and not container.args:
            faults.add(node, path, "a plain process needs a command")
    elif not container.image:
        faults.add(node, path, "it needs an image, or `x-swarmpy: {runtime: process}` to run plain processes")
    deploy = _below(keys, "deploy")
    resources = _below(deploy, "resources")
    placement = _below(deploy, "placement")
    return TaskSpec(
        runtime=runtime,
        container=container,
        limits=_resources(_below(resources, "limits"), f"{path}.deploy.resources.limits", faults),
        reservations=_resources(_below(resources, "reservations"), f"{path}.deploy.resources.reservations", faults),
        restart=_restart(_below(deploy, "restart_policy"), f"{path}.deploy.restart_policy", faults),
        placement=_changed(
            Placement(),
            constraints=faults.read(placement, "constraints", f"{path}.deploy.placement", values.strings),
            max_replicas=faults.read(placement, "max_replicas_per_node", f"{path}.deploy.placement", values.integer()),
        ),
        networks=joined(node, path, runtime, context.networks, faults),
        log_driver=_changed(
            LogDriver(),
            name=faults.read(_below(keys, "logging"), "driver", f"{path}.logging", values.text),
            options=faults.read(_below(keys, "logging"), "options", f"{path}.logging", values.labels),
        ),
    )


def _container(keys: Keys, path: str, context: _Context, faults: Faults) -> ContainerSpec:
    extension = _below(keys, "x-swarmpy")
    from_files = faults.read(keys, "env_file", path, values.env_files(context.directory)) or []
    given = faults.read(keys, "environment", path, values.env_entries) or []
    env = merge_env(parse_env(from_files, context.environ), parse_env(given, context.environ))
    return _changed(
        ContainerSpec(env=env),
        image=faults.read(keys, "image", path, values.text),
        command=faults.read(keys, "entrypoint", path, values.command),
        args=faults.read(keys, "command", path, values.command),
        workdir=faults.read(keys, "working_dir", path, values.text),
        user=faults.read(keys, "user", path, values.text),
        groups=faults.read(keys, "group_add", path, values.strings),
        labels=faults.read(keys, "labels", path, values.labels),
        stop_signal=faults.read(keys, "stop_signal", path, values.text),
        stop_grace_period_s=faults.read(keys, "stop_grace_period", path, values.duration_s),
        drain_timeout_s=faults.read(extension, "drain_timeout", f"{path}.x-swarmpy", values.duration_s),
        healthcheck=_probe(keys, "healthcheck", path, Healthcheck(), faults),
        readiness=_probe(extension, "readiness", f"{path}.x-swarmpy", Healthcheck(interval_s=READY_INTERVAL_S), faults),
        hostname=faults.read(keys, "hostname", path, values.text),
        init=faults.read(keys, "init", path, values.boolean),
        read_only=faults.read(keys, "read_only", path, values.boolean),
        tty=faults.read(keys, "tty", path, values.boolean),
        hosts=faults.read(keys, "extra_hosts", path, values.hosts),
        dns=faults.read(keys, "dns", path, values.one_or_more),
        dns_options=faults.read(keys, "dns_opt", path, values.one_or_more),
        dns_search=faults.read(keys, "dns_search", path, values.one_or_more),
        mounts=mounts(keys, path, context.volumes, context.directory, faults),
        cap_add=faults.read(keys, "cap_add", path, values.strings),
        cap_drop=faults.read(keys, "cap_drop", path, values.strings),
        sysctls=faults.read(keys, "sysctls", path, values.labels),
        ulimits=faults.read(keys, "ulimits", path, values.ulimits),
        oom_score_adj=faults.read(keys, "oom_score_adj", path, values.integer(lowest=-1000)),
    )


def _probe(parent: Keys, key: str, path: str, default: Healthcheck, faults: Faults) -> Healthcheck | None:
    if key not in parent:
        return None
    keys = parent[key].mapping
    path = f"{path}.{key}"
    if faults.read(keys, "disable", path, values.boolean):
        return Healthcheck(test=("NONE",))
    test = faults.read(keys, "test", path, _test)
    if not test:
        faults.add(parent[key], path, "it needs a test")
    return _changed(
        default,
        test=test,
        interval_s=faults.read(keys, "interval", path, values.duration_s),
        timeout_s=faults.read(keys, "timeout", path, values.duration_s),
        retries=faults.read(keys, "retries", path, values.integer()),
        start_period_s=faults.read(keys, "start_period", path, values.duration_s),
        start_interval_s=faults.read(keys, "start_interval", path, values.duration_s),
    )


def _test(node: Node) -> tuple[str, ...]:
    if not isinstance(node.value, list):
        return ("CMD-SHELL", values.text(node))
    words = values.strings(node)
    kinds = ("NONE", "CMD", "CMD-SHELL", "HTTP", "TCP")
    if not words or words[0] not in kinds:
        raise invalid(f"a list must begin with one of {', '.join(kinds)}")
    return words


def _resources(keys: Keys, path: str, faults: Faults) -> Resources:
    return _changed(
        Resources(),
        nano_cpus=faults.read(keys, "cpus", path, values.nano_cpus),
        memory_bytes=faults.read(keys, "memory", path, values.memory_bytes),
        pids=faults.read(keys, "pids", path, values.integer()),
    )


def _restart(keys: Keys, path: str, faults: Faults) -> RestartPolicy:
    return _changed(
        RestartPolicy(),
        condition=faults.read(keys, "condition", path, _choice(RestartCondition)),
        delay_s=faults.read(keys, "delay", path, values.duration_s),
        max_attempts=faults.read(keys, "max_attempts", path, values.integer()),
        window_s=faults.read(keys, "window", path, values.duration_s),
    )


def _rollout(keys: Keys, path: str, faults: Faults) -> UpdateConfig:
    return _changed(
        UpdateConfig(),
        parallelism=faults.read(keys, "parallelism", path, values.integer()),
        delay_s=faults.read(keys, "delay", path, values.duration_s),
        failure_action=faults.read(keys, "failure_action", path, _choice(FailureAction)),
        monitor_s=faults.read(keys, "monitor", path, values.duration_s),
        max_failure_ratio=faults.read(keys, "max_failure_ratio", path, values.ratio),
        order=faults.read(keys, "order", path, _choice(UpdateOrder)),
    )
