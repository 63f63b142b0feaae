"""A container in Docker's words: a row of `ls`, and the document that `inspect` shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from swarmpy import units
from swarmpy.cli.human import ago, short_id, timestamp
from swarmpy.model.container import Container, ContainerState, ContainerStatus, HealthState, PortBinding, RestartKind
from swarmpy.model.endpoints import Transport
from swarmpy.model.network import BRIDGE
from swarmpy.model.spec import Healthcheck, Mount
from swarmpy.model.states import MountType

_COMMAND_WIDTH: Final = 20
_EVERY: Final = "0.0.0.0"
_RULES: Final = {
    RestartKind.NO: "no",
    RestartKind.ON_FAILURE: "on-failure",
    RestartKind.ALWAYS: "always",
    RestartKind.UNLESS_STOPPED: "unless-stopped",
}


def container_row(one: Container, now: float, *, no_trunc: bool = False) -> dict[str, Any]:
    """Return what a list or a template shows of a container."""
    command = " ".join(one.command)
    if not no_trunc and len(command) > _COMMAND_WIDTH:
        command = command[: _COMMAND_WIDTH - 1] + "…"
    labels = one.config.task.container.labels
    return {
        "ID": short_id(one.id, no_trunc=no_trunc),
        "Names": one.name,
        "Image": one.config.task.container.image,
        "Command": f'"{command}"',
        "CreatedAt": timestamp(one.created_at),
        "RunningFor": ago(one.created_at, now),
        "State": one.state.status.name.lower(),
        "Status": status_text(one.state, now),
        "Ports": ports_text(one.ports),
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Mounts": ",".join(mount.source or mount.target for mount in one.mounts),
        "Networks": ",".join(network.target for network in one.config.task.networks) or BRIDGE,
        "Size": "" if one.written_bytes is None else units.human_bytes(one.written_bytes),
        "Service": one.service,
    }


def status_text(state: ContainerState, now: float) -> str:
    """Return what a container does, since when: `Up 5 seconds (healthy)`, `Exited (0) 2 minutes ago`."""
    up = f"Up {units.human_duration(max(0.0, now - state.started_at))}"
    match state.status:
        case ContainerStatus.RUNNING:
            if state.health is HealthState.NONE:
                return up
            starting = state.health is HealthState.STARTING
            return f"{up} ({'health: starting' if starting else state.health.name.lower()})"
        case ContainerStatus.PAUSED:
            return f"{up} (Paused)"
        case ContainerStatus.RESTARTING:
            return f"Restarting ({state.exit_code or 0}) {ago(state.finished_at, now)}".rstrip()
        case ContainerStatus.EXITED:
            return f"Exited ({state.exit_code or 0}) {ago(state.finished_at, now)}".rstrip()
        case ContainerStatus.REMOVING:
            return "Removal In Progress"
    return "Created"


def ports_text(bindings: Iterable[PortBinding]) -> str:
    """Return bindings as `ls` shows them: `0.0.0.0:8080->80/tcp, 9000/tcp`."""
    return ", ".join(
        f"{binding.address or _EVERY}:{binding.port}->{binding.target}/{transport_text(binding.transport)}"
        for binding in bindings
    )


def transport_text(transport: Transport) -> str:
    return transport.name.lower()


def container_document(one: Container) -> dict[str, Any]:
    """Return a container as `inspect` shows it: Docker's fields where there are such."""
    state, spec = one.state, one.config.task.container
    entrypoint, args = one.command[:1], one.command[1:]
    document: dict[str, Any] = {
        "Id": one.id,
        "Created": timestamp(one.created_at),
        "Path": entrypoint[0] if entrypoint else "",
        "Args": list(args),
        "State": _state_document(state),
        "Image": one.image_id,
        "LogPath": one.log_path,
        "Name": f"/{one.name}",
        "RestartCount": one.restart_count,
        "HostConfig": _host_config(one),
        "Mounts": [_mount(mount) for mount in one.mounts],
        "Config": {
            "Hostname": spec.hostname,
            "User": spec.user,
            "Tty": spec.tty,
            "OpenStdin": one.config.open_stdin,
            "StdinOnce": one.config.stdin_once,
            "Env": list(spec.env),
            "Cmd": list(spec.args),
            "Entrypoint": list(spec.command),
            "Image": spec.image,
            "WorkingDir": spec.workdir,
            "Labels": dict(spec.labels),
            "StopSignal": spec.stop_signal,
            "StopTimeout": spec.stop_grace_period_s,
            "Healthcheck": _healthcheck(spec.healthcheck),
        },
        "NetworkSettings": {"IPAddress": one.address, "Ports": _bindings(one.ports)},
    }
    if one.service_id:
        document["Service"] = {"ID": one.service_id, "Name": one.service}
    if one.written_bytes is not None:
        document["SizeRw"] = one.written_bytes
    return document


def _host_config(one: Container) -> dict[str, Any]:
    task, spec = one.config.task, one.config.task.container
    return {
        "LogConfig": {"Type": task.log_driver.name or "json-file", "Config": dict(task.log_driver.options)},
        "NetworkMode": task.networks[0].target if task.networks else BRIDGE,
        "PortBindings": _bindings(one.config.ports),
        "RestartPolicy": {
            "Name": _RULES[one.config.restart.kind],
            "MaximumRetryCount": one.config.restart.most,
        },
        "AutoRemove": one.config.auto_remove,
        "PublishAllPorts": one.config.publish_all,
        "CapAdd": list(spec.cap_add),
        "CapDrop": list(spec.cap_drop),
        "Dns": list(spec.dns),
        "DnsOptions": list(spec.dns_options),
        "DnsSearch": list(spec.dns_search),
        "ExtraHosts": list(spec.hosts),
        "GroupAdd": list(spec.groups),
        "OomScoreAdj": spec.oom_score_adj,
        "ReadonlyRootfs": spec.read_only,
        "Memory": task.limits.memory_bytes,
        "NanoCpus": task.limits.nano_cpus,
        "PidsLimit": task.limits.pids,
        "Init": spec.init,
        "Sysctls": dict(spec.sysctls),
    }


def _state_document(state: ContainerState) -> dict[str, Any]:
    document: dict[str, Any] = {
        "Status": state.status.name.lower(),
        "Running": state.status in (ContainerStatus.RUNNING, ContainerStatus.PAUSED),
        "Paused": state.status is ContainerStatus.PAUSED,
        "Restarting": state.status is ContainerStatus.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Pid": state.pid,
        "ExitCode": state.exit_code or 0,
        "Error": state.error,
        "StartedAt": timestamp(state.started_at),
        "FinishedAt": timestamp(state.finished_at),
    }
    if state.health is not HealthState.NONE:
        document["Health"] = {"Status": state.health.name.lower(), "Output": state.health_output}
    return document


def _bindings(bindings: Iterable[PortBinding]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for binding in bindings:
        key = f"{binding.target}/{transport_text(binding.transport)}"
        row = {"HostIp": binding.address or _EVERY, "HostPort": str(binding.port) if binding.port else ""}
        found.setdefault(key, []).append(row)
    return found


def _mount(mount: Mount) -> dict[str, Any]:
    named = mount.type is MountType.VOLUME
    return {
        "Type": mount.type.name.lower(),
        **({"Name": mount.source} if named else {"Source": mount.source}),
        "Destination": mount.target,
        "RW": not mount.read_only,
    }


def _healthcheck(check: Healthcheck | None) -> dict[str, Any] | None:
    return None if check is None else {"Test": list(check.test)}
