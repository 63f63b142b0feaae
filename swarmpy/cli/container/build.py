"""The flags of `swarmpy run` -> what a container is to be."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from swarmpy.cli.given import Given, usage_error
from swarmpy.errors import invalid
from swarmpy.model import network
from swarmpy.model.container import ContainerConfig, RestartRule
from swarmpy.model.spec import ContainerSpec, Healthcheck, LogDriver, Mount, NetworkAttachment, Resources, TaskSpec
from swarmpy.notation.bindings import parse_binding, parse_restart
from swarmpy.notation.limits import parse_ulimit
from swarmpy.notation.mounts import parse_mount, parse_tmpfs, parse_volume
from swarmpy.notation.pairs import parse_env, parse_labels, read_env_file

S = TypeVar("S", bound=msgspec.Struct)
_TIMING = ("health-interval", "health-retries", "health-start-interval", "health-start-period", "health-timeout")


def container_config(
    given: Given, image: str, command: tuple[str, ...], *, environ: Mapping[str, str], here: Path
) -> ContainerConfig:
    """Return what the flags ask for.

    Args:
        environ: where `-e KEY` without a value is looked up.
        here: the directory that relative paths of mounts begin at.
    """
    interactive = given.switch("interactive")
    attached = not given.switch("detach")
    return ContainerConfig(
        task=TaskSpec(
            container=_container(given, image, command, environ, here),
            limits=_changed(
                Resources(),
                nano_cpus=given.nano_cpus("cpus"),
                memory_bytes=given.memory_bytes("memory"),
                pids=given.number("pids-limit"),
            ),
            networks=_networks(given),
            log_driver=LogDriver(name=given.text("log-driver") or "", options=_pairs(given, "log-opt")),
        ),
        ports=tuple(binding for bindings in given.parse_items("publish", parse_binding) for binding in bindings),
        publish_all=given.switch("publish-all"),
        restart=given.parse("restart", parse_restart) or RestartRule(),
        auto_remove=given.switch("rm"),
        open_stdin=interactive,
        stdin_once=interactive and attached,
    )


def _changed(struct: S, **values: Any) -> S:
    """Return `struct` with the values that are neither None nor empty."""
    return msgspec.structs.replace(struct, **{k: v for k, v in values.items() if v not in (None, (), {}, "")})


def _container(
    given: Given, image: str, command: tuple[str, ...], environ: Mapping[str, str], here: Path
) -> ContainerSpec:
    entrypoint = given.text("entrypoint")
    files = [entry for file in given.items("env-file") for entry in read_env_file(Path(file))]
    return _changed(
        ContainerSpec(image=image),
        command=_words(entrypoint) if entrypoint else (),
        args=command,
        env=parse_env((*files, *given.items("env")), environ),
        workdir=given.text("workdir"),
        user=given.text("user"),
        groups=given.items("group-add"),
        hostname=given.text("hostname"),
        labels=_pairs(given, "label"),
        tty=given.switch("tty"),
        init=given.switch("init"),
        read_only=given.switch("read-only"),
        stop_signal=given.text("stop-signal"),
        stop_grace_period_s=None if (number := given.number("stop-timeout", lowest=-1)) is None else float(number),
        healthcheck=_healthcheck(given),
        hosts=given.items("add-host"),
        dns=given.items("dns"),
        dns_search=given.items("dns-search"),
        dns_options=given.items("dns-option"),
        mounts=_mounts(given, here),
        cap_add=given.items("cap-add"),
        cap_drop=given.items("cap-drop"),
        sysctls=_pairs(given, "sysctl"),
        ulimits=given.parse_items("ulimit", parse_ulimit),
        oom_score_adj=given.number("oom-score-adj", lowest=-1000, highest=1000),
    )


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise invalid(f"{error}".lower()) from error


def _pairs(given: Given, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given.parse_items(name, lambda text: parse_labels((text,))):
        found.update(pair)
    return found


def _mounts(given: Given, here: Path) -> tuple[Mount, ...]:
    mounts = (
        *given.parse_items("volume", lambda text: parse_volume(text, here)),
        *given.parse_items("mount", parse_mount),
        *given.parse_items("tmpfs", parse_tmpfs),
    )
    twice = _repeated(mount.target for mount in mounts)
    if twice:
        raise usage_error(f"more than one mount is at {twice}")
    return mounts


def _repeated(targets: Iterable[str]) -> str:
    seen: set[str] = set()
    for target in targets:
        if target in seen:
            return target
        seen.add(target)
    return ""


def _networks(given: Given) -> tuple[NetworkAttachment, ...]:
    name = given.text("network") or network.BRIDGE
    if name in ("default", network.BRIDGE):
        return ()
    return (NetworkAttachment(target=name),)


def _healthcheck(given: Given) -> Healthcheck | None:
    command = given.text("health-cmd")
    if given.switch("no-healthcheck"):
        if given.any("health-cmd", *_TIMING):
            raise usage_error("--no-healthcheck conflicts with the --health-* flags")
        return Healthcheck(test=("NONE",))
    if command is None:
        if given.any(*_TIMING):
            raise usage_error("the --health-* flags need --health-cmd")
        return None
    return _changed(
        Healthcheck(test=("CMD-SHELL", command)),
        interval_s=given.duration_s("health-interval"),
        timeout_s=given.duration_s("health-timeout"),
        retries=given.number("health-retries"),
        start_period_s=given.duration_s("health-start-period"),
        start_interval_s=given.duration_s("health-start-interval"),
    )
