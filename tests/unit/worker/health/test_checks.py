from __future__ import annotations

import pytest

from swarmpy.errors import SwarmError
from swarmpy.model.endpoints import HostPort, Transport
from swarmpy.model.spec import ContainerSpec, Healthcheck
from worker.health.checks import CheckKind, HealthPlan, plan

WEB = HostPort(target=8000, port=20001)
DNS = HostPort(target=53, port=20002, transport=Transport.UDP)


def test_without_ports_and_checks_there_is_nothing_to_ask() -> None:
    assert plan(ContainerSpec(), ()) == HealthPlan()
    assert plan(ContainerSpec(), (DNS,)) == HealthPlan()


def test_by_default_each_tcp_port_is_asked_once() -> None:
    readiness = plan(ContainerSpec(), (WEB, DNS)).readiness
    assert readiness is not None
    assert (readiness.kind, readiness.ports, readiness.once) == (CheckKind.TCP, (WEB,), True)


def test_any_check_of_the_spec_takes_the_place_of_the_default() -> None:
    http = Healthcheck(test=("HTTP", ":8000/well"), interval_s=7.0, timeout_s=2.0, retries=0)
    found = plan(ContainerSpec(healthcheck=http), (WEB,))
    assert found.readiness is None
    assert found.health is not None
    assert (found.health.kind, found.health.ports, found.health.path) == (CheckKind.HTTP, (WEB,), "/well")
    assert (found.health.interval_s, found.health.timeout_s, found.health.retries) == (7.0, 2.0, 1)
    found = plan(ContainerSpec(readiness=Healthcheck(test=("TCP", ":8000"))), (WEB,))
    assert found.health is None
    assert found.readiness is not None
    assert (found.readiness.kind, found.readiness.once) == (CheckKind.TCP, False)


def test_commands_are_run_as_given_or_by_a_shell() -> None:
    found = plan(ContainerSpec(healthcheck=Healthcheck(test=("CMD", "a", "b"))), ())
    assert found.health is not None
    assert found.health.argv == ("a", "b")
    found = plan(ContainerSpec(healthcheck=Healthcheck(test=("CMD-SHELL", "a | b"))), ())
    assert found.health is not None
    assert found.health.argv == ("/bin/sh", "-c", "a | b")


def test_none_switches_a_check_off() -> None:
    found = plan(ContainerSpec(healthcheck=Healthcheck(test=("NONE",))), ())
    assert found == HealthPlan()


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (("HTTP", "8000"), "not of the form :PORT"),
        (("HTTP", ":9/x"), "asks for port 9, which is no TCP target port of the service (it has 8000)"),
        (("TCP", ":53"), "asks for port 53"),
        (("CMD",), "is not understood"),
        (("SHELL", "x"), "is not understood"),
    ],
)
def test_what_makes_no_sense_is_refused(test: tuple[str, ...], reason: str) -> None:
    with pytest.raises(SwarmError) as caught:
        plan(ContainerSpec(healthcheck=Healthcheck(test=test)), (WEB, DNS))
    assert reason in caught.value.message
