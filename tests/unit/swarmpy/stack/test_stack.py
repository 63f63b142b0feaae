"""Stack files: reading, merging, conversion, the plan."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from swarmpy.errors import SwarmError
from swarmpy.model.endpoints import AppProtocol, Transport
from swarmpy.model.service import Service
from swarmpy.model.spec import (
    ContainerSpec,
    EndpointSpec,
    Healthcheck,
    LogDriver,
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
from swarmpy.model.states import FailureAction, RestartCondition, Runtime, UpdateOrder
from swarmpy.stack import tree
from swarmpy.stack.convert import StackService, convert
from swarmpy.stack.load import load
from swarmpy.stack.merge import merge
from swarmpy.stack.plan import Action, plan
from swarmpy.stack.tree import parse

EVERYTHING = """
x-swarmpy: {runtime: process}
version: "3.8"
name: shop
services:
  web:
    entrypoint: python3 -u
    command: ["web.py", "--port", 8000]
    environment: {MODE: fast, DEBUG: true, N: 3, FROM_OUTSIDE: , EMPTY: ""}
    env_file: web.env
    labels: [a=1, b]
    working_dir: /srv
    user: www:www
    group_add: [audio, 44]
    stop_signal: SIGINT
    stop_grace_period: 1m30s
    oom_score_adj: -500
    logging: {driver: json-file, options: {max-size: 1m, max-file: 3}}
    ulimits: {nproc: 100, nofile: {soft: 10, hard: 20}}
    ports:
      - 8080:8000
      - {target: 9000, published: "9090", protocol: http, mode: ingress, name: api}
      - {target: 7000, app_protocol: http, published: 7000, host_ip: 10.0.0.5, x-proxy-protocol: v1}
      - 127.0.0.1:5000:5000/udp
    expose: ["6000"]
    healthcheck: {test: curl -f localhost, interval: 5s, timeout: 1s, retries: 2, start_period: 3s}
    x-swarmpy:
      drain_timeout: 20s
      readiness: {test: [HTTP, ":8000/ready"]}
    deploy:
      replicas: 4
      labels: {team: shop}
      endpoint_mode: vip
      update_config: {parallelism: 0, delay: 1s, failure_action: continue, monitor: 2s, max_failure_ratio: 0.5,
                      order: start-first}
      rollback_config: {order: start-first}
      restart_policy: {condition: on-failure, delay: 0s, max_attempts: 3, window: 1m}
      resources:
        limits: {cpus: "0.5", memory: 64M, pids: 10}
        reservations: {cpus: 0.25, memory: 32M}
      placement: {constraints: [node.labels.zone==a], max_replicas_per_node: 2}
"""


def services(text: str, *, stack: str = "shop", directory: Path = Path()) -> list[StackService]:
    return convert(parse(text, "c.yaml"), stack, directory=directory, environ={"FROM_OUTSIDE": "yes"}).services


def faults(text: str) -> str:
    with pytest.raises(SwarmError) as caught:
        services(text)
    return caught.value.message


def process(body: str) -> str:
    return f"services:\n  a:\n    x-swarmpy: {{runtime: process}}\n    command: sleep 1\n{body}"


def test_every_key_lands_in_its_field(tmp_path: Path) -> None:
    (tmp_path / "web.env").write_text("MODE=slow\nFILE=1\n")
    (found,) = services(EVERYTHING, directory=tmp_path)
    assert found.spec == ServiceSpec(
        name="shop_web",
        labels={"team": "shop", "com.docker.stack.namespace": "shop"},
        task=TaskSpec(
            runtime=Runtime.PROCESS,
            container=ContainerSpec(
                command=("python3", "-u"),
                args=("web.py", "--port", "8000"),
                env=("MODE=fast", "FILE=1", "DEBUG=true", "N=3", "FROM_OUTSIDE=yes", "EMPTY="),
                workdir="/srv",
                user="www:www",
                groups=("audio", "44"),
                labels={"a": "1", "b": ""},
                stop_signal="SIGINT",
                stop_grace_period_s=90.0,
                drain_timeout_s=20.0,
                healthcheck=Healthcheck(
                    test=("CMD-SHELL", "curl -f localhost"),
                    interval_s=5.0,
                    timeout_s=1.0,
                    retries=2,
                    start_period_s=3.0,
                ),
                readiness=Healthcheck(test=("HTTP", ":8000/ready"), interval_s=1.0),
                ulimits=(Ulimit(name="nproc", soft=100, hard=100), Ulimit(name="nofile", soft=10, hard=20)),
                oom_score_adj=-500,
            ),
            limits=Resources(nano_cpus=500_000_000, memory_bytes=64 * 1024**2, pids=10),
            reservations=Resources(nano_cpus=250_000_000, memory_bytes=32 * 1024**2),
            restart=RestartPolicy(condition=RestartCondition.ON_FAILURE, delay_s=0.0, max_attempts=3, window_s=60.0),
            placement=Placement(constraints=("node.labels.zone==a",), max_replicas=2),
            log_driver=LogDriver(name="json-file", options={"max-size": "1m", "max-file": "3"}),
        ),
        mode=ServiceMode(replicas=4),
        update=UpdateConfig(
            parallelism=0,
            delay_s=1.0,
            failure_action=FailureAction.CONTINUE,
            monitor_s=2.0,
            max_failure_ratio=0.5,
            order=UpdateOrder.START_FIRST,
        ),
        rollback=UpdateConfig(order=UpdateOrder.START_FIRST),
        endpoint=EndpointSpec(
            ports=(
                PortSpec(target=8000, published=8080),
                PortSpec(target=9000, published=9090, app_protocol=AppProtocol.HTTP, name="api"),
                PortSpec(
                    target=7000, published=7000, app_protocol=AppProtocol.HTTP, address="10.0.0.5", proxy_protocol=1
                ),
                PortSpec(target=5000, published=5000, transport=Transport.UDP, address="127.0.0.1"),
                PortSpec(target=6000, publish=False),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("    privileged: true\n", "c.yaml:5: services.a.privileged is not supported yet"),
        ("    imge: x\n", "c.yaml:5: services.a.imge is not a key of a Compose file; did you mean image?"),
        ("    image: x\n", "c.yaml:5: services.a.image: a plain process has no image: remove it"),
        ("    labels: 3\n", "c.yaml:5: services.a.labels: must be a mapping, not a number"),
        ("    stop_grace_period: 10\n", "c.yaml:5: services.a.stop_grace_period: invalid duration '10'"),
        ("    ulimits: {nofile: {soft: 1}}\n", "services.a.ulimits: nofile needs both soft and hard"),
        ("    ports: [8000/sctp]\n", 'services.a.ports: invalid protocol "sctp"'),
        ("    ports: [{published: 80}]\n", "services.a.ports: a port needs a target"),
        ("    ports: [{target: 80, host_ip: box}]\n", "services.a: endpoint.ports[0].address: 'box' is not an address"),
        ("    deploy: {replicas: two}\n", 'services.a.deploy.replicas: must be a whole number, not "two"'),
        ("    deploy: [1]\n", "c.yaml:5: services.a.deploy must be a mapping"),
        ("    deploy: {update_config: {max_failure_ratio: 2}}\n", "must be a number from 0 to 1"),
        ("    deploy: {restart_policy: {condition: always}}\n", "use one of any, on-failure, none"),
        ("    depends_on: {b: {condition: service_healthy}}\n", "condition service_healthy of b is not supported yet"),
        ("    healthcheck: {test: [curl, x]}\n", "a list must begin with one of NONE, CMD, CMD-SHELL, HTTP, TCP"),
        (
            "    deploy: {placement: {constraints: [node.colour==red]}}\n",
            "services.a: task.placement.constraints[0]: unknown constraint key 'node.colour'",
        ),
        ("    healthcheck: {disable: maybe}\n", 'must be true or false, not "maybe"'),
        ("    env_file: nope.env\n", "cannot read environment file nope.env: No such file or directory"),
        ("    x-swarmpy: {runtime: vm}\n", 'the key "x-swarmpy" is there twice (first on line 3)'),
    ],
)
def test_faults_name_file_line_and_key(body: str, sentence: str) -> None:
    assert sentence in faults(process(body))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "c.yaml:1: there are no services"),
        ("services: {}", "there are no services"),
        ("- a", "a Compose file must be a mapping"),
        ("services: [a]", "c.yaml:1: services must be a mapping, not a list"),
        ("services: {a: }", "it needs an image, or `x-swarmpy: {runtime: process}`"),
        ("services: {a: {x-swarmpy: {runtime: process}}}", "a plain process needs a command"),
        ("services: {a: {image: x, volumes: [v]}}", 'services.a.volumes[0]: invalid mount "v": the path'),
        ("services: {a: {image: x, volumes: ['v:/v']}}", 'the volume "v" is not declared'),
        ("services: {a: {image: x, tmpfs: t}}", 'services.a.tmpfs: invalid mount "t"'),
        ("services: {a: {image: x}}\nvolumes: {v: {driver: nfs}}", 'volumes.v.driver: "nfs" is not supported'),
        ("services: {a: {image: x}}\nsecrets: {s: {}}", "c.yaml:2: secrets is not supported yet"),
    ],
)
def test_faulty_documents(text: str, sentence: str) -> None:
    assert sentence in faults(text)


def test_a_disabled_healthcheck_is_none() -> None:
    (found,) = services(process("    healthcheck: {disable: true}\n"))
    assert found.spec.task.container.healthcheck == Healthcheck(test=("NONE",))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 22:22", {"a": "22:22"}),
        ("a: yes", {"a": "yes"}),
        ("a: 0123", {"a": 123}),
        ("a: 0o17", {"a": 15}),
        ("a: [1.5, 1e3, true, null, ~, 'x']", {"a": [1.5, 1000.0, True, None, None, "x"]}),
        ("b: &b {x: 1, y: 2}\na: {<<: *b, y: 3}", {"b": {"x": 1, "y": 2}, "a": {"x": 1, "y": 3}}),
        (
            "b: &b {x: 1}\nc: &c {x: 2, z: 3}\na: {<<: [*b, *c]}",
            {"b": {"x": 1}, "c": {"x": 2, "z": 3}, "a": {"x": 1, "z": 3}},
        ),
    ],
)
def test_scalars_and_merge_keys(text: str, value: object) -> None:
    assert parse(text, "f").plain() == value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\n b: 2", "f:2: not valid YAML"),
        ("a: *nope", "f:1: not valid YAML: found undefined alias"),
        ("a: &a [*a]", "an alias refers to a value that contains it"),
        ("a: 1\na: 2", 'f:2: the key "a" is there twice (first on line 1)'),
        ("? [x]\n: 1", "f:1: a key must be text"),
        ("a: {<<: 3}", "<< needs a mapping"),
        ("a: !!binary aGk=", "values are not supported"),
        ("a: \x00", "not valid YAML"),
        ("[" * 5000 + "]" * 5000, "f: its values are nested too deep"),
    ],
)
def test_documents_that_cannot_be_read(text: str, sentence: str) -> None:
    with pytest.raises(SwarmError) as caught:
        parse(text, "f")
    assert sentence in caught.value.message


def test_a_few_aliases_cannot_fill_the_memory() -> None:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(SwarmError, match=f"more than {tree.MAX_NODES} values"):
        parse("\n".join(lines), "bomb.yaml")


def merged(*texts: str) -> object:
    return merge(*(parse(text, f"f{number}") for number, text in enumerate(texts, 1))).plain()


@pytest.mark.parametrize(
    ("base", "other", "result"),
    [
        ("a: 1", "a: 2", {"a": 2}),
        ("a: {x: 1, y: 1}", "a: {y: 2, z: 2}", {"a": {"x": 1, "y": 2, "z": 2}}),
        ("a: [1, 2]", "a: [2, 3]", {"a": [1, 2, 3]}),
        ("command: [a, b]", "command: c", {"command": "c"}),
        ("entrypoint: a", "entrypoint: [b]", {"entrypoint": ["b"]}),
        ("environment: [A=1, B]", "environment: {A: 2}", {"environment": {"A": 2, "B": None}}),
        ("labels: {a: 1}", "labels: [b=2]", {"labels": {"a": 1, "b": "2"}}),
        ("ports: ['80:1', '90:2/udp']", "ports: ['80:9']", {"ports": ["80:9", "90:2/udp"]}),
        (
            "ports: ['80:1']",
            "ports: [{published: 80, target: 5}]",
            {"ports": [{"published": 80, "target": 5}]},
        ),
        ("volumes: ['a:/x', 'b:/y']", "volumes: ['c:/x']", {"volumes": ["c:/x", "b:/y"]}),
        ("secrets: [a]", "secrets: [{source: a, uid: 1}]", {"secrets": [{"source": "a", "uid": 1}]}),
        ("a: 1", "a:", {"a": 1}),
        ("a:", "a: [1]", {"a": [1]}),
    ],
)
def test_later_files_change_earlier_ones(base: str, other: str, result: object) -> None:
    assert merged(base, other) == result


def test_what_cannot_be_merged_names_both_places() -> None:
    with pytest.raises(SwarmError, match='f2:1: "a" is a list here and a mapping in f1:1: they cannot be merged'):
        merged("a: {x: 1}", "a: [1]")


def test_loading_takes_variables_from_the_environment_before_dot_env(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=from file\nB='quoted'\n")
    file = tmp_path / "c.yaml"
    file.write_text("x-a: ${A} ${B} ${C}\n")
    loaded = load([str(file)], {"A": "from outside"}, stdin=io.StringIO)
    assert loaded.document.plain() == {"x-a": "from outside quoted "}
    assert (loaded.missing, loaded.directory) == (("C",), tmp_path)
    plain = load([str(file)], {}, stdin=io.StringIO, skip_interpolation=True)
    assert plain.document.plain() == {"x-a": "${A} ${B} ${C}"}


def stack_service(short: str, *, after: Sequence[str] = (), replicas: int = 1) -> StackService:
    spec = ServiceSpec(name=f"s_{short}", mode=ServiceMode(replicas=replicas))
    return StackService(short, spec, tuple(after))


def test_the_plan_creates_what_is_missing_changes_what_differs_and_prunes_what_is_left() -> None:
    kept, changed, left = (Service(id=name, spec=ServiceSpec(name=f"s_{name}")) for name in ("kept", "changed", "left"))
    desired = [stack_service("new"), stack_service("kept"), stack_service("changed", replicas=2)]
    for prune in (False, True):
        steps = plan(desired, [kept, changed, left], prune=prune)
        removals = [(Action.REMOVE, "s_left")] if prune else []
        assert [(step.action, step.name) for step in steps] == [
            *removals,
            (Action.CREATE, "s_new"),
            (Action.KEEP, "s_kept"),
            (Action.UPDATE, "s_changed"),
        ]


def test_a_forced_update_is_not_taken_back() -> None:
    spec = stack_service("web").spec
    forced = msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, force_update=3))
    (step,) = plan([stack_service("web")], [Service(id="w", spec=forced)], prune=False)
    assert step.action is Action.KEEP


def test_services_come_after_what_they_depend_on() -> None:
    desired = [stack_service("a", after=["b", "c"]), stack_service("b", after=["c"]), stack_service("c")]
    assert [step.name for step in plan(desired, [], prune=False)] == ["s_c", "s_b", "s_a"]
    with pytest.raises(SwarmError, match="these services wait for each other: a, b"):
        plan([stack_service("a", after=["b"]), stack_service("b", after=["a"])], [], prune=False)
