"""How services and tasks are summed up."""

from __future__ import annotations

import msgspec
import pytest

from swarmpy.cli.describe import host_ports, published_ports, replicas, what_runs, what_runs_header, why
from swarmpy.cli.human import timestamp
from swarmpy.client.results import ServiceStatus
from swarmpy.model.endpoints import AppProtocol, HostPort, PublishMode, ServicePort, Transport
from swarmpy.model.service import Endpoint, Service
from swarmpy.model.spec import ContainerSpec, Placement, ServiceSpec, TaskSpec
from swarmpy.model.states import Runtime, TaskState
from swarmpy.model.task import Task

IMAGE = TaskSpec(container=ContainerSpec(image="nginx:1"))
PROCESS = TaskSpec(runtime=Runtime.PROCESS, container=ContainerSpec(command=("sh", "-c"), args=("sleep 1; " * 9,)))


def test_what_runs_is_the_image_or_the_command() -> None:
    assert what_runs(IMAGE) == "nginx:1"
    assert what_runs(PROCESS).endswith("…")
    assert len(what_runs(PROCESS)) == 40
    assert what_runs(PROCESS, no_trunc=True) == "sh -c '" + "sleep 1; " * 9 + "'"


@pytest.mark.parametrize(
    ("templates", "header"),
    [([], "IMAGE"), ([IMAGE], "IMAGE"), ([PROCESS], "COMMAND"), ([IMAGE, PROCESS], "IMAGE/COMMAND")],
)
def test_the_header_fits_what_there_is(templates: list[TaskSpec], header: str) -> None:
    assert what_runs_header(templates) == header


def test_replicas_say_what_holds_them_back() -> None:
    service = Service(id="s", spec=ServiceSpec(task=TaskSpec(placement=Placement(max_replicas=2))))
    assert replicas(service, ServiceStatus(desired=3, running=3, ready=1)) == "3/3 (1 ready, max 2 per node)"
    assert replicas(Service(id="s", spec=ServiceSpec()), ServiceStatus(desired=3, running=2, ready=2)) == "2/3"


def test_only_ports_on_every_node_are_the_services() -> None:
    ports = (
        ServicePort(target=8000, published=80, app_protocol=AppProtocol.HTTP),
        ServicePort(target=53, published=5353, transport=Transport.UDP),
        ServicePort(target=9000, published=90, mode=PublishMode.HOST),
        ServicePort(target=7000),
    )
    service = Service(id="s", spec=ServiceSpec(), endpoint=Endpoint(ports=ports))
    assert published_ports(service) == "*:80->8000/http, *:5353->53/udp"


def test_a_task_has_ports_while_it_runs_and_a_reason_when_it_does_not() -> None:
    task = Task(
        id="t",
        service_id="s",
        spec_version=1,
        slot=1,
        state=TaskState.RUNNING,
        ready=True,
        host_ports=(HostPort(target=1, port=2),),
    )
    assert (host_ports(task), why(task)) == ("*:2->1/tcp", "")
    changes: list[tuple[dict[str, object], str]] = [
        ({"ready": False, "not_ready_reason": "connection refused"}, "connection refused"),
        ({"state": TaskState.FAILED, "error": "exit status 1"}, "exit status 1"),
        ({"state": TaskState.PENDING, "pending_reason": "no suitable node"}, "no suitable node"),
        ({"desired_state": TaskState.SHUTDOWN, "desired_reason": "node w1 is down"}, "node w1 is down"),
    ]
    for change, reason in changes:
        assert why(msgspec.structs.replace(task, **change)) == reason
    assert host_ports(msgspec.structs.replace(task, state=TaskState.FAILED)) == ""


def test_times_are_utc_with_a_fraction() -> None:
    assert timestamp(0) == ""
    assert timestamp(1_700_000_000.25) == "2023-11-14T22:13:20.250000Z"
