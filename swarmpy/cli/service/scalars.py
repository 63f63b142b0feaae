"""Flags that hold one value -> the parts of a spec; a flag that was not given leaves its part as it is."""

from __future__ import annotations

import shlex
from typing import Any, TypeVar

import msgspec

from swarmpy.cli.given import Given, usage_error
from swarmpy.errors import invalid
from swarmpy.model.spec import (
    ContainerSpec,
    Healthcheck,
    LogDriver,
    Placement,
    PortSpec,
    Resources,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from swarmpy.model.states import EndpointMode, FailureAction, RestartCondition, UpdateOrder
from swarmpy.notation.pairs import parse_labels
from swarmpy.notation.probes import http_test, tcp_test

S = TypeVar("S", bound=msgspec.Struct)

READY_INTERVAL_S = 1.0
"""Between two readiness probes: a task that has just started should not wait half a minute for its first request."""


def apply_scalars(spec: ServiceSpec, given: Given) -> ServiceSpec:
    """Return `spec` with what the flags say; its ports must be final, because a probe may refer to the first."""
    return _changed(
        spec,
        task=_task(spec.task, given, spec.endpoint.ports),
        mode=_changed(spec.mode, replicas=given.number("replicas")),
        update=_rollout(spec.update, given, "update"),
        rollback=_rollout(spec.rollback, given, "rollback"),
        endpoint=_changed(spec.endpoint, mode=given.choice("endpoint-mode", EndpointMode)),
    )


def words(text: str) -> tuple[str, ...]:
    """Return the words of a command line, quoted as for a shell."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise invalid(f"{error}".lower()) from error


def replicated(spec: ServiceSpec, replicas: int) -> ServiceMode:
    """Return the service's mode with another number of replicas."""
    return msgspec.structs.replace(spec.mode, replicas=replicas)


def _changed(struct: S, **values: Any) -> S:
    """Return `struct` with the values that are not None."""
    return msgspec.structs.replace(struct, **{k: v for k, v in values.items() if v is not None})


def _task(task: TaskSpec, given: Given, ports: tuple[PortSpec, ...]) -> TaskSpec:
    return _changed(
        task,
        container=_container(task.container, given, ports),
        limits=_changed(
            task.limits,
            nano_cpus=given.nano_cpus("limit-cpu"),
            memory_bytes=given.memory_bytes("limit-memory"),
            pids=given.number("limit-pids"),
        ),
        reservations=_reservations(task.reservations, given),
        restart=_restart(task.restart, given),
        placement=_placement(task.placement, given),
        log_driver=_log_driver(task.log_driver, given),
    )


def _log_driver(driver: LogDriver, given: Given) -> LogDriver:
    options = given.parse_items("log-opt", lambda text: parse_labels((text,)))
    merged = {key: value for item in options for key, value in item.items()}
    # Options of another driver mean nothing to the new one.
    kept = {} if given.any("log-driver") else driver.options
    return _changed(driver, name=given.text("log-driver"), options={**kept, **merged})


def _reservations(reservations: Resources, given: Given) -> Resources:
    return _changed(
        reservations,
        nano_cpus=given.nano_cpus("reserve-cpu"),
        memory_bytes=given.memory_bytes("reserve-memory"),
    )


def _restart(policy: RestartPolicy, given: Given) -> RestartPolicy:
    return _changed(
        policy,
        condition=given.choice("restart-condition", RestartCondition),
        delay_s=given.duration_s("restart-delay"),
        max_attempts=given.number("restart-max-attempts"),
        window_s=given.duration_s("restart-window"),
    )


def _placement(placement: Placement, given: Given) -> Placement:
    return _changed(placement, max_replicas=given.number("replicas-max-per-node"))


def _rollout(config: UpdateConfig, given: Given, kind: str) -> UpdateConfig:
    action = given.choice(f"{kind}-failure-action", FailureAction)
    if kind == "rollback" and action is FailureAction.ROLLBACK:
        raise usage_error('invalid argument "rollback" for "--rollback-failure-action": use one of pause, continue')
    return _changed(
        config,
        parallelism=given.number(f"{kind}-parallelism"),
        delay_s=given.duration_s(f"{kind}-delay"),
        failure_action=action,
        monitor_s=given.duration_s(f"{kind}-monitor"),
        max_failure_ratio=given.ratio(f"{kind}-max-failure-ratio"),
        order=given.choice(f"{kind}-order", UpdateOrder),
    )


def _container(container: ContainerSpec, given: Given, ports: tuple[PortSpec, ...]) -> ContainerSpec:
    return _changed(
        container,
        image=given.text("image"),
        command=given.parse("entrypoint", words),
        args=given.parse("args", words),
        workdir=given.text("workdir"),
        user=given.text("user"),
        hostname=given.text("hostname"),
        init=given.switch("init") or None,
        read_only=given.switch("read-only") or None,
        tty=given.switch("tty") or None,
        stop_signal=given.text("stop-signal"),
        stop_grace_period_s=given.duration_s("stop-grace-period"),
        drain_timeout_s=given.duration_s("drain-timeout"),
        oom_score_adj=given.number("oom-score-adj", lowest=-1000, highest=1000),
        healthcheck=_healthcheck(container.healthcheck, given, ports),
        readiness=_readiness(container.readiness, given, ports),
    )


def _healthcheck(present: Healthcheck | None, given: Given, ports: tuple[PortSpec, ...]) -> Healthcheck | None:
    timing = ("health-interval", "health-retries", "health-start-interval", "health-start-period", "health-timeout")
    probes = ("health-cmd", "health-http", "health-tcp")
    if given.switch("no-healthcheck"):
        if given.any(*timing, *probes):
            raise usage_error("--no-healthcheck conflicts with the --health-* flags")
        return Healthcheck(test=("NONE",))
    if not given.any(*timing, *probes):
        return None
    test = _test(given, "health", ports)
    base = present or Healthcheck()
    if test is None and not base.test:
        raise usage_error("the --health-* flags need one of --health-cmd, --health-http and --health-tcp")
    return _changed(
        base,
        test=test,
        interval_s=given.duration_s("health-interval"),
        timeout_s=given.duration_s("health-timeout"),
        retries=given.number("health-retries"),
        start_period_s=given.duration_s("health-start-period"),
        start_interval_s=given.duration_s("health-start-interval"),
    )


def _readiness(present: Healthcheck | None, given: Given, ports: tuple[PortSpec, ...]) -> Healthcheck | None:
    if not given.any("ready-cmd", "ready-http", "ready-tcp", "ready-interval"):
        return None
    test = _test(given, "ready", ports)
    base = present or Healthcheck(interval_s=READY_INTERVAL_S)
    if test is None and not base.test:
        raise usage_error("--ready-interval needs one of --ready-cmd, --ready-http and --ready-tcp")
    return _changed(base, test=test, interval_s=given.duration_s("ready-interval"))


def _test(given: Given, kind: str, ports: tuple[PortSpec, ...]) -> tuple[str, ...] | None:
    tests = (
        given.parse(f"{kind}-cmd", lambda line: ("CMD-SHELL", line)),
        given.parse(f"{kind}-http", lambda path: http_test(path, ports)),
        given.parse(f"{kind}-tcp", lambda port: tcp_test(port, ports)),
    )
    chosen = [test for test in tests if test is not None]
    if len(chosen) > 1:
        raise usage_error(f"--{kind}-cmd, --{kind}-http and --{kind}-tcp exclude each other")
    return chosen[0] if chosen else None
