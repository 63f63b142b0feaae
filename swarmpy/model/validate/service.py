"""The rules for a service: its name, mode, rollout, and the whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from swarmpy.errors import Problem
from swarmpy.model.spec import ServiceMode, ServiceSpec, UpdateConfig
from swarmpy.model.states import FailureAction, ModeKind, word
from swarmpy.model.validate.checks import at_least, duration, labels, unsupported
from swarmpy.model.validate.names import service_name
from swarmpy.model.validate.ports import check_endpoint
from swarmpy.model.validate.task import check_task

MAX_REPLICAS: Final = 1_000_000
MAX_SPEC_BYTES: Final = 400_000
"""An update writes three copies of a spec in one transaction, which holds 1.5 MB at most."""


def validate_service(spec: ServiceSpec) -> list[Problem]:
    """Return every problem of a service's spec; [] means that it can be stored and run as it stands."""
    return list(_problems(spec))


def _problems(spec: ServiceSpec) -> Iterator[Problem]:
    yield from service_name("name", spec.name)
    yield from labels("labels", spec.labels)
    yield from check_task(spec.task, spec.endpoint.ports)
    yield from _mode(spec.mode)
    yield from _rollout("update", spec.update)
    yield from _rollout("rollback", spec.rollback)
    yield from check_endpoint(spec.endpoint)
    size_bytes = len(msgspec.msgpack.encode(spec))
    if size_bytes > MAX_SPEC_BYTES:
        yield Problem("", f"the spec takes {size_bytes} bytes, {MAX_SPEC_BYTES} is the most: make it smaller")


def _mode(mode: ServiceMode) -> Iterator[Problem]:
    if mode.kind is not ModeKind.REPLICATED:
        yield unsupported("mode", f"the mode {word(mode.kind)} is")
        return
    if not 0 <= mode.replicas <= MAX_REPLICAS:
        yield Problem("mode.replicas", f"{mode.replicas} is not a number of replicas: give 0 to {MAX_REPLICAS}")
    for field in ("max_concurrent", "total_completions"):
        if getattr(mode, field):
            yield Problem(f"mode.{field}", "is for jobs only: leave it out of a replicated service")


def _rollout(path: str, config: UpdateConfig) -> Iterator[Problem]:
    yield from at_least(f"{path}.parallelism", config.parallelism, 0, "0 is all at once")
    yield from duration(f"{path}.delay_s", config.delay_s)
    yield from duration(f"{path}.monitor_s", config.monitor_s)
    if not 0 <= config.max_failure_ratio <= 1:
        yield Problem(
            f"{path}.max_failure_ratio", f"{config.max_failure_ratio:g} is not a ratio: give a number from 0 to 1"
        )
    if config.failure_action is FailureAction.ROLLBACK:
        if path == "rollback":
            yield Problem(f"{path}.failure_action", "a rollback is never rolled back: use pause or continue")
        else:
            yield unsupported(f"{path}.failure_action", "rollback is")
