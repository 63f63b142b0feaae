"""The rules for a task template: runtime, resources, restarts, placement, logs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from swarmpy import units
from swarmpy.errors import Problem, SwarmError
from swarmpy.model import constraints
from swarmpy.model.spec import LogDriver, Placement, PortSpec, Resources, RestartPolicy, TaskSpec
from swarmpy.model.validate.checks import MIN_MEMORY_BYTES, MIN_NANO_CPUS, at_least, duration, unsupported
from swarmpy.model.validate.container import check_container
from swarmpy.model.validate.network import check_networks

_PLATFORM: Final = re.compile(r"[a-z0-9]+(?:/[a-z0-9_]+)?")
_LOG_DRIVERS: Final = ("", "json-file", "local", "journald", "none")
_LOG_SIZE: Final = re.compile(r"\d+[bkmg]?", re.ASCII | re.IGNORECASE)
_LOG_OPTIONS: Final = ("max-size", "max-file")
_MIN_LOG_BYTES: Final = 32 * 1024


def check_task(task: TaskSpec, ports: tuple[PortSpec, ...]) -> Iterator[Problem]:
    """Check a template; health checks may ask for the target ports among `ports`."""
    yield from check_container("task.container", task.container, task.runtime, ports)
    yield from _amounts("task.limits", task.limits)
    yield from _amounts("task.reservations", task.reservations)
    yield from _reservations_within_limits(task)
    yield from _restart(task.restart)
    yield from _placement(task.placement)
    yield from check_networks(task.networks, ports)
    yield from _logs(task.log_driver)
    yield from at_least("task.force_update", task.force_update, 0)


def _amounts(path: str, amounts: Resources) -> Iterator[Problem]:
    if amounts.nano_cpus and amounts.nano_cpus < MIN_NANO_CPUS:
        yield Problem(f"{path}.nano_cpus", f"{amounts.nano_cpus / 1e9:g} CPUs is too little: give 0.001 or more")
    if amounts.memory_bytes and amounts.memory_bytes < MIN_MEMORY_BYTES:
        yield Problem(f"{path}.memory_bytes", f"{amounts.memory_bytes} bytes is too little: give 4MiB or more")
    yield from at_least(f"{path}.pids", amounts.pids, 0, "0 is no limit")
    if amounts.generic:
        yield unsupported(f"{path}.generic", "generic resources are")


def _reservations_within_limits(task: TaskSpec) -> Iterator[Problem]:
    limits, reservations = task.limits, task.reservations
    if reservations.pids:
        yield Problem("task.reservations.pids", "cannot be reserved: use a limit")
    if 0 < limits.nano_cpus < reservations.nano_cpus:
        yield Problem(
            "task.limits.nano_cpus",
            f"the limit of {limits.nano_cpus / 1e9:g} CPUs is below the reservation of "
            f"{reservations.nano_cpus / 1e9:g}: raise the limit or reserve less",
        )
    if 0 < limits.memory_bytes < reservations.memory_bytes:
        yield Problem(
            "task.limits.memory_bytes",
            f"the limit of {units.human_bytes(limits.memory_bytes)} is below the reservation of "
            f"{units.human_bytes(reservations.memory_bytes)}: raise the limit or reserve less",
        )


def _restart(policy: RestartPolicy) -> Iterator[Problem]:
    if policy.delay_s is not None:
        yield from duration("task.restart.delay_s", policy.delay_s)
    yield from at_least("task.restart.max_attempts", policy.max_attempts, 0, "0 is no limit")
    yield from duration("task.restart.window_s", policy.window_s)


def _placement(placement: Placement) -> Iterator[Problem]:
    for number, text in enumerate(placement.constraints):
        try:
            constraints.parse(text)
        except SwarmError as error:
            yield Problem(f"task.placement.constraints[{number}]", error.message)
    if placement.preferences:
        yield unsupported("task.placement.preferences", "placement preferences are")
    yield from at_least("task.placement.max_replicas", placement.max_replicas, 0, "0 is no limit")
    for number, platform in enumerate(placement.platforms):
        if _PLATFORM.fullmatch(platform) is None:
            yield Problem(
                f"task.placement.platforms[{number}]",
                f"{platform!r} is not a platform: write os/arch, such as linux/amd64",
            )


def _logs(driver: LogDriver) -> Iterator[Problem]:
    if driver.name not in _LOG_DRIVERS:
        yield unsupported("task.log_driver.name", f"the log driver {driver.name!r} is")
        return
    if driver.name == "none" and driver.options:
        yield Problem("task.log_driver.options", "have no effect with the log driver none: drop one of both")
        return
    for name, value in sorted(driver.options.items()):
        path = f"task.log_driver.options[{name!r}]"
        if name not in _LOG_OPTIONS:
            yield Problem(
                path, f"is not an option of {driver.name or 'json-file'} logs: use {' or '.join(_LOG_OPTIONS)}"
            )
        elif name == "max-file" and not (value.isdecimal() and int(value) >= 1):
            yield Problem(path, f"{value!r} is not a number of files: give 1 or more")
        elif name == "max-size":
            yield from _log_size(path, value)


def _log_size(path: str, value: str) -> Iterator[Problem]:
    if _LOG_SIZE.fullmatch(value) is None or units.parse_memory_bytes(value) < _MIN_LOG_BYTES:
        yield Problem(path, f"{value!r} is not a size from 32k on: give one such as 10m")
