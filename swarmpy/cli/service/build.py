"""From the flags of one call to the spec that is sent: pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Final

import msgspec

from swarmpy.cli.given import Given, usage_error
from swarmpy.cli.service.lists import NO_NAMES, apply_lists
from swarmpy.cli.service.scalars import apply_scalars
from swarmpy.errors import not_supported
from swarmpy.model.spec import ContainerSpec, ServiceSpec, TaskSpec
from swarmpy.model.states import ModeKind, Runtime, word
from swarmpy.notation.pairs import merge_env, parse_env, read_env_file

NOT_SENT: Final = ("detach", "no-resolve-image", "quiet", "resolve-image")
"""Flags that are not about the spec."""


def new_spec(given: Given, arguments: tuple[str, ...], environ: Mapping[str, str], *, suffix: str) -> ServiceSpec:
    """Return the spec of a new service.

    Args:
        arguments: `IMAGE [COMMAND...]`, or with `--process` the command.
        environ: where `--env KEY` takes its value from.
        suffix: makes the name unique where none is given.
    """
    mode = given.choice("mode", ModeKind)
    if mode not in (None, ModeKind.REPLICATED):
        raise not_supported(f"--mode {word(mode)}")
    if given.switch("process"):
        task = TaskSpec(runtime=Runtime.PROCESS, container=ContainerSpec(args=arguments))
    else:
        task = TaskSpec(container=ContainerSpec(image=arguments[0], args=arguments[1:]))
    name = given.text("name") or f"{_stem(arguments[0])}-{suffix}"
    spec = _with_env_files(ServiceSpec(name=name, task=task), given, environ)
    return apply_scalars(apply_lists(spec, given, environ), given)


def changed_spec(
    spec: ServiceSpec, given: Given, environ: Mapping[str, str], networks: Mapping[str, str] = NO_NAMES
) -> ServiceSpec:
    """Return `spec` as the flags of an update change it.

    Args:
        networks: the names of all networks by id; needed for the flags about networks only.
    """
    if given.any("image") and spec.task.runtime is Runtime.PROCESS:
        raise usage_error(f"service {spec.name} runs plain processes and has no image: change its command with --args")
    changed = apply_lists(spec, given, environ, added="-add", removed="-rm", networks=networks)
    spec = apply_scalars(changed, given)
    if given.switch("force"):
        task = msgspec.structs.replace(spec.task, force_update=spec.task.force_update + 1)
        spec = msgspec.structs.replace(spec, task=task)
    return spec


def _with_env_files(spec: ServiceSpec, given: Given, environ: Mapping[str, str]) -> ServiceSpec:
    env: tuple[str, ...] = ()
    for file in given.items("env-file"):
        env = merge_env(env, parse_env(read_env_file(Path(file)), environ))
    container = msgspec.structs.replace(spec.task.container, env=env)
    return msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, container=container))


def _stem(argument: str) -> str:
    """Return a service name from an image or a program: `registry/team/web:1.2` is web."""
    base = PurePath(argument).name.split("@")[0].split(":")[0]
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in base).strip("-")
    return kept[:40] or "service"
