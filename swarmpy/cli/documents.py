"""Objects as JSON documents, in the names and units of the Docker Engine API (durations in nanoseconds)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from swarmpy.cli.human import timestamp
from swarmpy.model.endpoints import ServicePort
from swarmpy.model.node import Node
from swarmpy.model.service import Service
from swarmpy.model.spec import (
    ContainerSpec,
    Healthcheck,
    PortSpec,
    Resources,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from swarmpy.model.states import ModeKind, Runtime, UpdateState, word
from swarmpy.model.task import Task
from swarmpy.notation.ports import protocol_word

if TYPE_CHECKING:
    from swarmpy.client import ConsensusMember

Document = dict[str, Any]


def service_document(service: Service) -> Document:
    """Return the service as `service inspect` shows it."""
    document: Document = {
        "ID": service.id,
        "Version": {"Index": service.version},
        "CreatedAt": timestamp(service.created_at),
        "UpdatedAt": timestamp(service.updated_at),
        "SpecVersion": service.spec_version,
        "Spec": spec_document(service.spec),
    }
    if service.previous_spec is not None:
        document["PreviousSpec"] = spec_document(service.previous_spec)
    document["Endpoint"] = {
        "Ports": [_port(port) for port in service.endpoint.ports],
        "VirtualIPIndex": service.endpoint.vip_index,
        **_filled(VirtualIPs=[{"NetworkID": v.network_id, "Addr": v.address} for v in service.endpoint.vips]),
        **_filled(Problem=service.allocation_problem),
    }
    status = service.update_status
    if status.state is not UpdateState.NONE:
        document["UpdateStatus"] = {
            "State": word(status.state).replace("-", "_"),
            "StartedAt": timestamp(status.started_at),
            **_filled(CompletedAt=timestamp(status.completed_at)),
            "Message": status.message,
        }
    return document


def spec_document(spec: ServiceSpec) -> Document:
    """Return a service's spec."""
    return {
        "Name": spec.name,
        "Labels": in_order(spec.labels),
        "TaskTemplate": _task_template(spec.task),
        "Mode": _mode(spec),
        "UpdateConfig": _rollout(spec.update),
        "RollbackConfig": _rollout(spec.rollback),
        "EndpointSpec": {"Mode": word(spec.endpoint.mode), "Ports": [_port(p) for p in spec.endpoint.ports]},
    }


def task_document(task: Task) -> Document:
    """Return a task as `inspect` shows it."""
    return {
        "ID": task.id,
        "Version": {"Index": task.version},
        "CreatedAt": timestamp(task.created_at),
        "ServiceID": task.service_id,
        "SpecVersion": task.spec_version,
        "Slot": task.slot,
        "NodeID": task.node_id,
        "DesiredState": word(task.desired_state),
        **_filled(DesiredReason=task.desired_reason, PendingReason=task.pending_reason),
        **_filled(
            NetworksAttachments=[{"Network": {"ID": a.network_id}, "Addresses": [a.address]} for a in task.networks]
        ),
        "Status": {
            "Timestamp": timestamp(task.status_at),
            "State": word(task.state),
            "Ready": task.ready,
            **_filled(Message=task.message, Err=task.error, NotReadyReason=task.not_ready_reason),
            **({} if task.exit_code is None else {"ExitCode": task.exit_code}),
            **_filled(PID=task.pid),
            "HostPorts": [
                {"TargetPort": p.target, "Port": p.port, "Protocol": word(p.transport), **_filled(Address=p.address)}
                for p in task.host_ports
            ],
        },
    }


def node_document(node: Node, member: ConsensusMember | None = None) -> Document:
    """Return a node as `node inspect` shows it; `member` is what the managers' leader knows of a manager."""
    described = node.description
    document: Document = {
        "ID": node.id,
        "Version": {"Index": node.version},
        "CreatedAt": timestamp(node.created_at),
        "UpdatedAt": timestamp(node.updated_at),
        "Spec": {
            "Name": node.spec.name,
            "Labels": in_order(node.spec.labels),
            "Role": word(node.spec.role),
            "Availability": word(node.spec.availability),
        },
        "Description": {
            "Hostname": described.hostname,
            "Platform": {"Architecture": described.platform.arch, "OS": described.platform.os},
            "Resources": _resources(described.resources),
            "Engine": {
                "EngineVersion": described.engine_version,
                "Labels": in_order(described.engine_labels),
                "ContainerRuntime": described.container_runtime,
                "StorageDriver": described.storage_driver,
            },
            "Capabilities": list(described.capabilities),
        },
        "Status": {
            "State": word(node.state),
            "Addr": node.addr,
            "DataAddr": node.data_addr,
            **_filled(Message=node.message),
        },
    }
    if node.manager is not None:
        document["ManagerStatus"] = {
            "Leader": node.manager.leader,
            "Reachability": "reachable" if node.manager.reachable else "unreachable",
            "Addr": node.manager.addr,
            "Learner": node.manager.learner,
            **_progress(member),
        }
    return document


def _progress(member: ConsensusMember | None) -> Document:
    """Return how far a manager is; nothing where its leader is not known to know."""
    if member is None or not member.state:
        return {}
    return {"Lag": member.lag, "LastContact": member.last_contact_s}


def in_order(pairs: Mapping[str, Any]) -> Document:
    """Return the pairs in order of their keys: on the wire they have none."""
    return dict(sorted(pairs.items()))


def _filled(**values: Any) -> Document:
    """Return the values that are not empty."""
    return {name: value for name, value in values.items() if value}


def _nanos(duration_s: float) -> int:
    return round(duration_s * 1_000_000_000)


def _task_template(task: TaskSpec) -> Document:
    return {
        "Runtime": word(task.runtime),
        "ContainerSpec": _container(task.container, task.runtime),
        "Resources": {"Limits": _resources(task.limits), "Reservations": _resources(task.reservations)},
        "RestartPolicy": _restart(task.restart),
        "Placement": _filled(
            Constraints=list(task.placement.constraints),
            Preferences=list(task.placement.preferences),
            MaxReplicas=task.placement.max_replicas,
        ),
        **_filled(Networks=[{"Target": one.target, **_filled(Aliases=list(one.aliases))} for one in task.networks]),
        "ForceUpdate": task.force_update,
        **(
            {"LogDriver": {"Name": task.log_driver.name, "Options": in_order(task.log_driver.options)}}
            if task.log_driver.name or task.log_driver.options
            else {}
        ),
    }


def _container(container: ContainerSpec, runtime: Runtime) -> Document:
    return {
        **({"Image": container.image} if runtime is Runtime.CONTAINER else {}),
        **_filled(
            Labels=in_order(container.labels),
            Command=list(container.command),
            Args=list(container.args),
            Env=list(container.env),
            Dir=container.workdir,
            User=container.user,
            Groups=list(container.groups),
            StopSignal=container.stop_signal,
        ),
        "StopGracePeriod": _nanos(container.stop_grace_period_s),
        "DrainTimeout": _nanos(container.drain_timeout_s),
        **_filled(
            Healthcheck=_healthcheck(container.healthcheck),
            Readiness=_healthcheck(container.readiness),
            Ulimits=[{"Name": u.name, "Soft": u.soft, "Hard": u.hard} for u in container.ulimits],
            OomScoreAdj=container.oom_score_adj,
        ),
    }


def _healthcheck(check: Healthcheck | None) -> Document:
    if check is None:
        return {}
    return {
        "Test": list(check.test),
        "Interval": _nanos(check.interval_s),
        "Timeout": _nanos(check.timeout_s),
        "Retries": check.retries,
        "StartPeriod": _nanos(check.start_period_s),
        "StartInterval": _nanos(check.start_interval_s),
    }


def _resources(resources: Resources) -> Document:
    return _filled(
        NanoCPUs=resources.nano_cpus,
        MemoryBytes=resources.memory_bytes,
        Pids=resources.pids,
        GenericResources=in_order(resources.generic),
    )


def _restart(policy: RestartPolicy) -> Document:
    return {
        "Condition": word(policy.condition),
        **({} if policy.delay_s is None else {"Delay": _nanos(policy.delay_s)}),
        "MaxAttempts": policy.max_attempts,
        **_filled(Window=_nanos(policy.window_s)),
    }


def _mode(spec: ServiceSpec) -> Mapping[str, Document]:
    match spec.mode.kind:
        case ModeKind.REPLICATED:
            return {"Replicated": {"Replicas": spec.mode.replicas}}
        case ModeKind.GLOBAL:
            return {"Global": {}}
        case ModeKind.REPLICATED_JOB:
            jobs = {"MaxConcurrent": spec.mode.max_concurrent, "TotalCompletions": spec.mode.total_completions}
            return {"ReplicatedJob": jobs}
        case ModeKind.GLOBAL_JOB:
            return {"GlobalJob": {}}


def _rollout(config: UpdateConfig) -> Document:
    return {
        "Parallelism": config.parallelism,
        "Delay": _nanos(config.delay_s),
        "FailureAction": word(config.failure_action),
        "Monitor": _nanos(config.monitor_s),
        "MaxFailureRatio": config.max_failure_ratio or 0,
        "Order": word(config.order),
    }


def _port(port: ServicePort) -> Document:
    return {
        **_filled(Name=port.name),
        "Protocol": protocol_word(port),
        "TargetPort": port.target,
        **_filled(PublishedPort=port.published, Address=port.address, ProxyProtocol=port.proxy_protocol),
        "PublishMode": word(port.mode) if not isinstance(port, PortSpec) or port.publish else "none",
    }
