"""Every rule of a spec, by the field that is named and the sentence that is said."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.endpoints import AppProtocol, PublishMode, Transport
from swarmpy.model.node import NodeSpec
from swarmpy.model.spec import (
    ContainerSpec,
    EndpointSpec,
    FileReference,
    Healthcheck,
    LogDriver,
    Mount,
    NetworkAttachment,
    Placement,
    PortSpec,
    Resources,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    Ulimit,
    UpdateConfig,
)
from swarmpy.model.states import EndpointMode, FailureAction, ModeKind, Runtime, UpdateOrder
from swarmpy.model.validate import validate_cluster_spec, validate_node_spec, validate_service

GOOD = ServiceSpec(
    name="shop_web-1",
    labels={"team": "a"},
    task=TaskSpec(
        runtime=Runtime.PROCESS,
        container=ContainerSpec(
            command=("python3",),
            args=("-m", "http.server"),
            env=("A=1", "EMPTY=", 'ID={{.Service.ID}}.{{ .Task.Slot }} {{index .Service.Labels "team"}}'),
            workdir="/srv",
            user="www:1000",
            groups=("adm", "4"),
            stop_signal="SIGINT",
            healthcheck=Healthcheck(test=("HTTP", ":8000/healthz")),
            readiness=Healthcheck(test=("TCP", ":8000")),
            ulimits=(Ulimit(name="nofile", soft=1024, hard=-1),),
            oom_score_adj=-10,
        ),
        limits=Resources(nano_cpus=10**9, memory_bytes=1 << 30, pids=10),
        reservations=Resources(nano_cpus=10**9, memory_bytes=1 << 29),
        restart=RestartPolicy(delay_s=0.0, max_attempts=3, window_s=60.0),
        placement=Placement(constraints=("node.role==worker",), max_replicas=2, platforms=("linux/amd64", "linux")),
        log_driver=LogDriver(name="json-file", options={"max-size": "10m", "max-file": "3"}),
    ),
    mode=ServiceMode(replicas=3),
    update=UpdateConfig(parallelism=0, order=UpdateOrder.START_FIRST, failure_action=FailureAction.CONTINUE),
    rollback=UpdateConfig(parallelism=2, delay_s=1.0),
    endpoint=EndpointSpec(
        ports=(PortSpec(target=8000, published=80, app_protocol=AppProtocol.HTTP), PortSpec(target=9))
    ),
)


def problems(spec: ServiceSpec) -> dict[str, str]:
    return {problem.path: problem.message for problem in validate_service(spec)}


def service(**fields: Any) -> dict[str, str]:
    return problems(replace(GOOD, **fields))


def task(**fields: Any) -> dict[str, str]:
    return service(task=replace(GOOD.task, **fields))


def container(**fields: Any) -> dict[str, str]:
    return task(container=replace(GOOD.task.container, **fields))


def endpoint(*ports: PortSpec, mode: EndpointMode = EndpointMode.VIP) -> dict[str, str]:
    plain = replace(GOOD.task, container=replace(GOOD.task.container, healthcheck=None, readiness=None))
    return problems(replace(GOOD, task=plain, endpoint=EndpointSpec(ports=ports, mode=mode)))


def test_a_good_spec_has_no_problem() -> None:
    assert problems(GOOD) == {}


def test_every_problem_is_said_at_once() -> None:
    found = problems(
        ServiceSpec(
            name="tasks",
            task=TaskSpec(
                container=ContainerSpec(env=("A=1", "B=2", "C"), hostname="a b", tty=True),
                networks=(NetworkAttachment(""),),
            ),
            mode=ServiceMode(replicas=-1),
            update=UpdateConfig(max_failure_ratio=2.0),
            endpoint=EndpointSpec(ports=(PortSpec(target=0),)),
        )
    )
    assert list(found) == [
        "name",
        "task.container.image",
        "task.container.env[2]",
        "task.container.hostname",
        "task.networks[0]",
        "mode.replicas",
        "update.max_failure_ratio",
        "endpoint.ports[0].target",
    ]
    assert "image to run" in found["task.container.image"]


@pytest.mark.parametrize("name", ["", "a" * 64, "-a", "a-", "a.b", "a b", "TASKS", "42", "ä", "a" * 60 + "!", "a\n"])
def test_names_that_are_refused(name: str) -> None:
    assert list(service(name=name)) == ["name"]


@pytest.mark.parametrize("name", ["a", "A1", "stack_web", "a--b__c", "1a", "a" * 63, "task"])
def test_names_that_are_accepted(name: str) -> None:
    assert service(name=name) == {}


@pytest.mark.parametrize(
    ("found", "path", "sentence"),
    [
        (service(labels={" ": "x"}), "labels", "give it a name"),
        (service(labels={"a": "\x1b[2J"}), "labels['a']", "control characters"),
        (service(mode=ServiceMode(kind=ModeKind.GLOBAL)), "mode", "global is not supported yet"),
        (service(mode=ServiceMode(max_concurrent=1)), "mode.max_concurrent", "jobs only"),
        (service(update=UpdateConfig(parallelism=-1)), "update.parallelism", "0 or more"),
        (service(update=UpdateConfig(delay_s=-1.0)), "update.delay_s", "not a duration"),
        (service(update=UpdateConfig(monitor_s=float("inf"))), "update.monitor_s", "not a duration"),
        (service(update=UpdateConfig(max_failure_ratio=float("nan"))), "update.max_failure_ratio", "from 0 to 1"),
        (service(update=UpdateConfig(failure_action=FailureAction.ROLLBACK)), "update.failure_action", "supported yet"),
        (
            service(rollback=UpdateConfig(failure_action=FailureAction.ROLLBACK)),
            "rollback.failure_action",
            "never rolled back",
        ),
        (task(limits=Resources(nano_cpus=999_999), reservations=Resources()), "task.limits.nano_cpus", "0.001 or more"),
        (task(limits=Resources(nano_cpus=-1)), "task.limits.nano_cpus", "0.001 or more"),
        (task(limits=Resources(pids=-1)), "task.limits.pids", "0 or more"),
        (task(reservations=Resources(memory_bytes=(4 << 20) - 1)), "task.reservations.memory_bytes", "4MiB or more"),
        (task(reservations=Resources(generic={"gpu": 1})), "task.reservations.generic", "not supported yet"),
        (task(reservations=Resources(pids=1)), "task.reservations.pids", "use a limit"),
        (task(reservations=Resources(nano_cpus=2 * 10**9)), "task.limits.nano_cpus", "below the reservation of 2"),
        (task(reservations=Resources(memory_bytes=1 << 31)), "task.limits.memory_bytes", "limit of 1GiB is below"),
        (task(restart=RestartPolicy(delay_s=-1.0)), "task.restart.delay_s", "not a duration"),
        (task(restart=RestartPolicy(max_attempts=-1)), "task.restart.max_attempts", "0 or more"),
        (task(restart=RestartPolicy(window_s=float("nan"))), "task.restart.window_s", "not a duration"),
        (task(placement=Placement(constraints=("a==b",))), "task.placement.constraints[0]", "unknown constraint key"),
        (task(placement=Placement(preferences=("spread=x",))), "task.placement.preferences", "not supported yet"),
        (task(placement=Placement(max_replicas=-1)), "task.placement.max_replicas", "0 or more"),
        (task(placement=Placement(platforms=("Linux",))), "task.placement.platforms[0]", "os/arch"),
        (task(log_driver=LogDriver(name="syslog")), "task.log_driver.name", "not supported yet"),
        (task(log_driver=LogDriver(options={"max-file": "0"})), "task.log_driver.options['max-file']", "1 or more"),
        (task(log_driver=LogDriver(options={"max-size": "1k"})), "task.log_driver.options['max-size']", "from 32k"),
        (
            task(log_driver=LogDriver(options={"tag": "x"})),
            "task.log_driver.options['tag']",
            "use max-size or max-file",
        ),
        (task(log_driver=LogDriver(name="none", options={"a": ""})), "task.log_driver.options", "no effect"),
        (task(force_update=-1), "task.force_update", "0 or more"),
    ],
)
def test_services_and_tasks(found: dict[str, str], path: str, sentence: str) -> None:
    assert list(found) == [path]
    assert sentence in found[path]


@pytest.mark.parametrize(
    ("found", "path", "sentence"),
    [
        (container(image="nginx"), "image", "a process has no image"),
        (container(command=(), args=()), "command", "is missing"),
        (container(command=("", "x")), "command", "is missing"),
        (container(args=("a\0b",)), "args[0]", "NUL"),
        (container(args=("x" * 131_072,)), "args[0]", "131071 is the most"),
        (container(workdir="srv"), "workdir", "begin it with /"),
        (container(env=("A",)), "env[0]", "KEY=value"),
        (container(env=("A=1", "=x")), "env[1]", "has no name"),
        (container(env=("A={{.Task.Slo}}",)), "env[0]", "{{.Task.Slo}} is not known: use one of .Service.ID"),
        (container(user="a:b:c"), "user", "write name, uid"),
        (container(user=":x"), "user", "write name, uid"),
        (container(groups=("a b",)), "groups[0]", "is not a group"),
        (container(stop_signal="SIGNOPE"), "stop_signal", "is not a signal"),
        (container(stop_signal="99"), "stop_signal", "is not a signal"),
        (container(stop_grace_period_s=-1.0), "stop_grace_period_s", "not a duration"),
        (container(drain_timeout_s=float("nan")), "drain_timeout_s", "not a duration"),
        (container(oom_score_adj=1001), "oom_score_adj", "-1000 to 1000"),
        (container(ulimits=(Ulimit(name="files", soft=1, hard=1),)), "ulimits[0]", "use one of as, core"),
        (container(ulimits=(Ulimit(name="core", soft=2, hard=1),)), "ulimits[0]", "above the hard limit"),
        (container(ulimits=(Ulimit(name="core", soft=-1, hard=1),)), "ulimits[0]", "above the hard limit"),
        (container(ulimits=(Ulimit(name="core", soft=-2, hard=-1),)), "ulimits[0]", "use -1 for unlimited"),
        (container(ulimits=(Ulimit(name="core", soft=1, hard=1),) * 2), "ulimits[1]", "twice"),
        (container(healthcheck=Healthcheck()), "healthcheck.test", "is empty"),
        (container(healthcheck=Healthcheck(test=("CMD",))), "healthcheck.test", "not understood"),
        (container(healthcheck=Healthcheck(test=("CMD-SHELL", "a", "b"))), "healthcheck.test", "not understood"),
        (container(healthcheck=Healthcheck(test=("HTTP", "8000/x"))), "healthcheck.test", ":PORT/PATH"),
        (container(readiness=Healthcheck(test=("TCP", ":1"))), "readiness.test", "it has 9, 8000"),
        (container(healthcheck=Healthcheck(test=("TCP", ":9"), interval_s=0.0)), "healthcheck.interval_s", "longer"),
        (container(healthcheck=Healthcheck(test=("TCP", ":9"), retries=0)), "healthcheck.retries", "1 or more"),
        (container(hostname="h"), "hostname", "not supported yet"),
        (container(init=True), "init", "not supported yet"),
        (container(mounts=(Mount(target="/x"),)), "mounts", "not supported yet"),
        (container(secrets=(FileReference(source="s"),)), "secrets", "not supported yet"),
        (container(sysctls={"a": "1"}), "sysctls", "not supported yet"),
    ],
)
def test_what_runs(found: dict[str, str], path: str, sentence: str) -> None:
    assert list(found) == [f"task.container.{path}"]
    assert sentence in found[f"task.container.{path}"]


@pytest.mark.parametrize(
    "test", [("NONE",), ("CMD", "true"), ("CMD-SHELL", "exit 0"), ("HTTP", ":8000"), ("TCP", ":9")]
)
def test_health_checks(test: tuple[str, ...]) -> None:
    assert container(healthcheck=Healthcheck(test=test)) == {}


@pytest.mark.parametrize(
    ("found", "path", "sentence"),
    [
        (endpoint(PortSpec(target=70_000)), "target", "give 1 to 65535"),
        (endpoint(PortSpec(target=1, published=-1)), "published", "0 to have one picked"),
        (endpoint(PortSpec(target=1, published=1, publish=False)), "published", "not published"),
        (endpoint(PortSpec(target=1, proxy_protocol=3)), "proxy_protocol", "use 1 or 2, or 0 for none"),
        (endpoint(PortSpec(target=1, proxy_protocol=1, transport=Transport.UDP)), "proxy_protocol", "needs tcp"),
        (endpoint(PortSpec(target=1, proxy_protocol=1, mode=PublishMode.HOST)), "proxy_protocol", "see their clients"),
        (endpoint(PortSpec(target=1, address="10.0.0")), "address", "is not an address to publish on"),
        (endpoint(PortSpec(target=1, address="::1")), "address", "give one such as 10.0.0.5 or 0.0.0.0"),
        (endpoint(PortSpec(target=1, address="224.0.0.1")), "address", "no machine's address"),
        (endpoint(PortSpec(target=1, address="10.0.0.1", publish=False)), "address", "not published"),
        (endpoint(PortSpec(target=1, published=5), mode=EndpointMode.DNSRR), "mode", "use endpoint mode vip"),
    ],
)
def test_ports(found: dict[str, str], path: str, sentence: str) -> None:
    assert list(found) == [f"endpoint.ports[0].{path}"]
    assert sentence in found[f"endpoint.ports[0].{path}"]


def test_ports_must_differ() -> None:
    found = endpoint(
        PortSpec(target=1, published=5),
        PortSpec(target=2, published=5),
        PortSpec(target=3),
        PortSpec(target=3),
        PortSpec(target=1, publish=False),
        PortSpec(target=4, published=6, mode=PublishMode.HOST),
        PortSpec(target=4, published=7, mode=PublishMode.HOST),
        PortSpec(target=5, published=5, address="10.0.0.5"),
    )
    paths = ["[1].published", "[3].target", "[4].target", "[6].target", "[7].published"]
    assert list(found) == [f"endpoint.ports{path}" for path in paths]


def test_a_target_may_be_published_more_than_once() -> None:
    assert endpoint(PortSpec(target=1), PortSpec(target=2)) == {}
    assert endpoint(PortSpec(target=1, published=5), PortSpec(target=1, published=6)) == {}
    assert endpoint(PortSpec(target=1, published=5), PortSpec(target=1, published=6, mode=PublishMode.HOST)) == {}
    places = [PortSpec(target=n, published=5, address=f"10.0.0.{n}") for n in (1, 2)]
    assert endpoint(*places) == {}


def test_a_service_has_a_bounded_number_of_ports() -> None:
    assert "give at most 1000" in endpoint(*(PortSpec(target=n) for n in range(1, 1002)))["endpoint.ports"]


def test_mode_host_needs_no_virtual_address() -> None:
    assert endpoint(PortSpec(target=1, published=5, mode=PublishMode.HOST), mode=EndpointMode.DNSRR) == {}


def test_http_needs_tcp() -> None:
    found = endpoint(PortSpec(target=1, transport=Transport.UDP, app_protocol=AppProtocol.HTTP))
    assert list(found) == ["endpoint.ports[0].app_protocol"]
    assert endpoint(PortSpec(target=1), PortSpec(target=1, transport=Transport.UDP)) == {}


def test_dnsrr_without_published_ports_is_fine() -> None:
    assert endpoint(PortSpec(target=1, publish=False), mode=EndpointMode.DNSRR) == {}


def test_a_spec_must_fit_a_transaction() -> None:
    assert "400000 is the most" in service(labels={"a": "x" * 400_000})[""]


def test_nodes() -> None:
    assert validate_node_spec(NodeSpec(name="worker-1.example", labels={"zone": "a"})) == []
    found = validate_node_spec(NodeSpec(name="a b", labels={"": "x"}))
    assert [problem.path for problem in found] == ["name", "labels"]


def test_clusters() -> None:
    assert validate_cluster_spec(ClusterSpec()) == []
    found = validate_cluster_spec(
        ClusterSpec(
            name="x",
            heartbeat_period_s=float("nan"),
            task_history_limit=-1,
            node_cert_expiry_s=60.0,
            snapshot_interval=0,
            keep_old_snapshots=-1,
        )
    )
    assert [problem.path for problem in found] == [
        "name",
        "heartbeat_period_s",
        "task_history_limit",
        "node_cert_expiry_s",
        "snapshot_interval",
        "keep_old_snapshots",
    ]
