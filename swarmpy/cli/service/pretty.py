"""`service inspect --pretty`: a service for reading."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from swarmpy import units
from swarmpy.cli.describe import replicas
from swarmpy.cli.human import ago
from swarmpy.model.endpoints import PublishMode, ServicePort
from swarmpy.model.service import Service
from swarmpy.model.spec import ContainerSpec, Healthcheck, Resources, RestartPolicy, UpdateConfig
from swarmpy.model.states import Runtime, UpdateState, word
from swarmpy.notation.ports import protocol_word

if TYPE_CHECKING:
    from swarmpy.client import ListedService

_WIDTH = 16


def pretty_service(listed: ListedService, now: float, networks: Mapping[str, str]) -> str:
    """Return the lines about a service.

    Args:
        now: wall seconds.
        networks: names of networks by id.
    """
    return "\n".join(_lines(listed, now, networks))


def _lines(listed: ListedService, now: float, networks: Mapping[str, str]) -> Iterator[str]:
    service = listed.service
    spec = service.spec
    yield _line("ID", service.id)
    yield _line("Name", service.name)
    yield from _pairs("Labels", spec.labels)
    yield _line("Service Mode", word(spec.mode.kind).title())
    yield _line("Replicas", replicas(service, listed.status), 1)
    yield from _update_status(service, now)
    yield from _placement(service)
    yield from _rollout("UpdateConfig", spec.update)
    yield from _rollout("RollbackConfig", spec.rollback)
    yield from _container("Process" if spec.task.runtime is Runtime.PROCESS else "ContainerSpec", spec.task.container)
    yield from _resources("Reservations", spec.task.reservations)
    yield from _resources("Limits", spec.task.limits)
    yield from _restart(spec.task.restart)
    yield from _networks(service, networks)
    yield _line("Endpoint Mode", word(spec.endpoint.mode))
    if service.allocation_problem:
        yield _line("Problem", service.allocation_problem, 1)
    if service.endpoint.ports:
        yield "Ports:"
    for port in service.endpoint.ports:
        yield f" {_port(port)}"


def _port(port: ServicePort) -> str:
    target = f"{port.target}/{protocol_word(port)}"
    if port.mode is PublishMode.INGRESS and not port.published:
        return f"through the name only: {target}, ingress"
    at = f"{port.address}:" if port.address else ""
    header = f", PROXY protocol v{port.proxy_protocol}" if port.proxy_protocol else ""
    return f"{at}{port.published or 'a free port'} -> {target}, {word(port.mode)}{header}"


def _networks(service: Service, names: Mapping[str, str]) -> Iterator[str]:
    joined = service.spec.task.networks
    if not joined:
        return
    yield _line("Networks", ", ".join(names.get(one.target, one.target) for one in joined))
    for one in joined:
        if one.aliases:
            yield _line("Aliases", f"{', '.join(one.aliases)} on {names.get(one.target, one.target)}", 1)
    for vip in service.endpoint.vips:
        yield _line("Virtual IP", f"{vip.address} on {names.get(vip.network_id, vip.network_id)}", 1)


def _line(name: str, value: object, indent: int = 0) -> str:
    label = f"{' ' * indent}{name}:"
    return f"{label.ljust(_WIDTH)} {value}"


def _pairs(name: str, values: dict[str, str]) -> Iterator[str]:
    if values:
        yield f"{name}:"
        yield from (f" {key}={value}" for key, value in sorted(values.items()))


def _update_status(service: Service, now: float) -> Iterator[str]:
    status = service.update_status
    if status.state is UpdateState.NONE:
        return
    yield "UpdateStatus:"
    yield _line("State", word(status.state).replace("-", "_"), 1)
    for label, at in (("Started", status.started_at), ("Completed", status.completed_at)):
        if at:
            yield _line(label, ago(at, now), 1)
    if status.message:
        yield _line("Message", status.message, 1)


def _placement(service: Service) -> Iterator[str]:
    placement = service.spec.task.placement
    if placement.constraints or placement.max_replicas:
        yield "Placement:"
    if placement.constraints:
        yield _line("Constraints", ", ".join(placement.constraints), 1)
    if placement.max_replicas:
        yield _line("Max per node", placement.max_replicas, 1)


def _rollout(name: str, config: UpdateConfig) -> Iterator[str]:
    yield f"{name}:"
    yield _line("Parallelism", config.parallelism or "all", 1)
    if config.delay_s:
        yield _line("Delay", units.format_duration(config.delay_s), 1)
    yield _line("On failure", word(config.failure_action), 1)
    yield _line("Monitor", units.format_duration(config.monitor_s), 1)
    yield _line("Failure ratio", f"{config.max_failure_ratio:g}", 1)
    yield _line("Order", word(config.order), 1)


def _container(name: str, container: ContainerSpec) -> Iterator[str]:
    yield f"{name}:"
    if container.image:
        yield _line("Image", container.image, 1)
    for label, words in (("Command", container.command), ("Args", container.args)):
        if words:
            yield _line(label, shlex.join(words), 1)
    if container.env:
        yield _line("Env", " ".join(container.env), 1)
    if container.workdir:
        yield _line("Dir", container.workdir, 1)
    if container.user:
        yield _line("User", container.user, 1)
    if container.stop_signal:
        yield _line("Stop signal", container.stop_signal, 1)
    yield _line("Stop grace", units.format_duration(container.stop_grace_period_s), 1)
    yield from _check("Healthcheck", container.healthcheck)
    yield from _check("Readiness", container.readiness)


def _check(name: str, check: Healthcheck | None) -> Iterator[str]:
    if check is not None:
        every = "" if check.test == ("NONE",) else f" every {units.format_duration(check.interval_s)}"
        yield _line(name, f"{' '.join(check.test)}{every}", 1)


def _resources(name: str, resources: Resources) -> Iterator[str]:
    amounts = {
        "CPU": f"{resources.nano_cpus / 1e9:g}" if resources.nano_cpus else "",
        "Memory": units.human_bytes(resources.memory_bytes) if resources.memory_bytes else "",
        "Pids": str(resources.pids) if resources.pids else "",
    }
    if any(amounts.values()):
        yield f"{name}:"
        yield from (_line(label, amount, 1) for label, amount in amounts.items() if amount)


def _restart(policy: RestartPolicy) -> Iterator[str]:
    yield "RestartPolicy:"
    yield _line("Condition", word(policy.condition), 1)
    yield _line("Delay", "backs off to 30s" if policy.delay_s is None else units.format_duration(policy.delay_s), 1)
    if policy.max_attempts:
        yield _line("Max attempts", policy.max_attempts, 1)
    if policy.window_s:
        yield _line("Window", units.format_duration(policy.window_s), 1)
