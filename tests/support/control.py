"""A cluster of straw: state that a test can read and push around, and `tests.support.server` serves.

Not the real use cases: just enough of them that clients and the command line can be held against exact output.
By default every task runs at once; a test that wants otherwise sets `settle`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import node_pb2, types_pb2
from swarmpy.errors import Code, InvalidSpecError, SwarmError, invalid, not_found
from swarmpy.model.cluster import Cluster, JoinTokens
from swarmpy.model.config import Config
from swarmpy.model.endpoints import HostPort, ServicePort
from swarmpy.model.network import PREDEFINED, Network, NetworkAddress
from swarmpy.model.node import ManagerStatus, Node, NodeDescription, NodeSpec, Platform
from swarmpy.model.service import Endpoint, Service, ServiceVersion, UpdateStatus, version_id
from swarmpy.model.spec import Resources, ServiceSpec
from swarmpy.model.states import NodeRole, NodeState, TaskState
from swarmpy.model.task import Task
from swarmpy.model.validate import validate_service
from swarmpy.wire.convert import fill

NOW = 1_700_000_000.0
"""The wall time at which everything happens."""

Settle = Callable[["FakeCluster", Service], None]


def fake_id(kind: str, number: int) -> str:
    """Return an id in the right form that says what it is."""
    return f"{kind}{number}".ljust(25, "0")


def run_all(cluster: FakeCluster, service: Service) -> None:
    """Bring the service's tasks to what its spec asks for, all at once."""
    live = {task.slot: task for task in cluster.tasks.values() if task.service_id == service.id and task.is_wanted}
    for slot, task in sorted(live.items()):
        if slot > service.spec.mode.replicas:
            cluster.stop_task(task, "scaled down")
        elif task.spec_version != service.spec_version:
            cluster.stop_task(task, "replaced by an update")
            cluster.run_task(service, slot)
    for slot in range(1, service.spec.mode.replicas + 1):
        if slot not in live:
            cluster.run_task(service, slot)


class FakeCluster:
    """The state, and what a manager would do to it. Every write makes a revision that watchers see."""

    def __init__(self, *, settle: Settle = run_all) -> None:
        self.settle = settle
        self.changed = threading.Condition()
        self.revision = 1
        self.log: list[pb.WatchResponse] = []
        self.compacted = 0
        self.refused_watches = 0
        self.closed = False
        self.page_size = 1000
        self.calls: list[tuple[str, Any]] = []
        self.digests: dict[str, str] = {}
        self.unresolved: set[str] = set()
        self.failures: list[SwarmError] = []
        self.services: dict[str, Service] = {}
        self.tasks: dict[str, Task] = {}
        self.versions: dict[str, ServiceVersion] = {}
        self.nodes: dict[str, Node] = {}
        self.cluster = Cluster(id=fake_id("cluster", 1), version=1, created_at=NOW)
        self.tokens = JoinTokens(worker="SWMTKN-1-root-worker1", manager="SWMTKN-1-root-manager1")
        self.output: list[pb.LogLine] = []
        self.warnings: list[str] = []
        self.touched: set[str] = set()
        self.stale_reads: list[str] = []
        self.configs: dict[str, Config] = {}
        self.networks: dict[str, Network] = {}
        self.consensus = _one_manager()
        self.snapshot = b""
        self.add_node("n1", manager=ManagerStatus(raft_id=1, addr="127.0.0.1:2377", leader=True, reachable=True))
        self.here = fake_id("node", 1)
        self.info = node_pb2.InfoResponse(
            node_id=self.here,
            cluster_id=self.cluster.id,
            role=types_pb2.NODE_ROLE_MANAGER,
            state="connected",
            addr="127.0.0.1",
            data_addr="127.0.0.1",
            managers=["127.0.0.1:2377"],
            dns_addr="127.0.0.1:5354",
        )
        fill(self.info.description, self.nodes[self.here].description)

    def add_manager(self, name: str, *, voter: bool = True, **told: Any) -> Node:
        """Add a manager that follows the first one; `told` is what the leader knows of its member."""
        member_id = len(self.nodes) + 1
        addr = f"127.0.0.{member_id}:2377"
        active = told.setdefault("active", True)
        node = self.add_node(
            name, manager=ManagerStatus(raft_id=member_id, addr=addr, reachable=active, learner=not voter)
        )
        self.consensus.members.add(member_id=member_id, node_id=node.id, hostname=name, addr=addr, voter=voter, **told)
        return node

    def add_node(self, name: str, *, manager: ManagerStatus | None = None, state: NodeState = NodeState.READY) -> Node:
        node = Node(
            id=fake_id("node", len(self.nodes) + 1),
            spec=NodeSpec(role=NodeRole.MANAGER if manager else NodeRole.WORKER),
            version=self.revision,
            created_at=NOW,
            updated_at=NOW,
            description=NodeDescription(
                hostname=name,
                platform=Platform(os="linux", arch="x86_64"),
                resources=Resources(nano_cpus=2_000_000_000, memory_bytes=4 * 1024**3),
                engine_version="0.1.0",
                capabilities=("process",),
                container_runtime="containerd 1.6.20",
                storage_driver="overlayfs",
            ),
            state=state,
            addr="127.0.0.1",
            data_addr="127.0.0.1",
            manager=manager,
        )
        self.put(node)
        return self.nodes[node.id]

    def put(self, thing: Service | Task | Node | Cluster | Config | Network, *, removed: bool = False) -> Any:
        """Write one object (or remove it) as a revision of its own, and return it as written."""
        with self.changed:
            self.revision += 1
            thing = msgspec.structs.replace(thing, version=self.revision)
            change = pb.Change(removed=removed)
            match thing:
                case Service():
                    table: dict[str, Any] = self.services
                    fill(change.service, thing)
                case Task():
                    table = self.tasks
                    fill(change.task, thing)
                case Node():
                    table = self.nodes
                    fill(change.node, thing)
                case Config():
                    table = self.configs
                    fill(change.config, thing)
                case Network():
                    table = self.networks
                    fill(change.network, thing)
                case Cluster():
                    table = {}
                    self.cluster = thing
                    fill(change.cluster, thing)
            if removed:
                table.pop(thing.id)
            else:
                table[thing.id] = thing
            self.log.append(pb.WatchResponse(revision=self.revision, changes=[change]))
            self.changed.notify_all()
            return thing

    def run_task(self, service: Service, slot: int, **fields: Any) -> Task:
        """Make a task of the service's present version that runs on the first node."""
        number = len(self.log)
        port = service.spec.endpoint.ports[0].target if service.spec.endpoint.ports else 0
        defaults: dict[str, Any] = {
            "node_id": fake_id("node", 1),
            "state": TaskState.RUNNING,
            "ready": True,
            "host_ports": (HostPort(target=port, port=20_000 + slot),) if port else (),
            "networks": tuple(
                NetworkAddress(network_id=vip.network_id, address=f"{vip.address.rpartition('.')[0]}.{100 + slot}")
                for vip in service.endpoint.vips
            ),
        }
        task = Task(
            id=fake_id("task", number),
            service_id=service.id,
            spec_version=service.spec_version,
            slot=slot,
            created_at=NOW + number / 1000,
            status_at=NOW,
            **(defaults | fields),
        )
        written: Task = self.put(task)
        return written

    def stop_task(self, task: Task, reason: str, **fields: Any) -> None:
        defaults: dict[str, Any] = {"desired_state": TaskState.SHUTDOWN, "state": TaskState.SHUTDOWN, "ready": False}
        self.put(msgspec.structs.replace(task, desired_reason=reason, **(defaults | fields)))

    def find(self, table: dict[str, Any], ref: str, what: str) -> Any:
        named = [row for row in table.values() if row.id == ref or getattr(row, "name", None) == ref]
        rows = named or [row for row in table.values() if row.id.startswith(ref)]
        if len(rows) != 1:
            raise not_found(f"{what} {ref} not found") if not rows else invalid(f"{what} {ref} is ambiguous")
        return rows[0]

    def create(self, spec: ServiceSpec) -> Service:
        _check(spec)
        if any(service.name.casefold() == spec.name.casefold() for service in self.services.values()):
            raise SwarmError(Code.ALREADY_EXISTS, f"service {spec.name} already exists")
        spec = self._with_network_ids(spec)
        service = self.put(
            Service(
                id=fake_id("service", len(self.log) + 1),
                spec=spec,
                created_at=NOW,
                updated_at=NOW,
                endpoint=_endpoint(spec, 1 + len(self.services)),
            )
        )
        self._remember(service)
        self.settle(self, service)
        return service  # type: ignore[no-any-return]  # put() answers with what it was given

    def update(self, service_id: str, version: int, spec: ServiceSpec) -> Service:
        _check(spec)
        service = self.find(self.services, service_id, "service")
        if service.version != version or service.name in self.touched:
            self.touched.discard(service.name)
            raise _stale("service")
        spec = self._with_network_ids(spec)
        new = spec.task != service.spec.task
        service = self.put(
            msgspec.structs.replace(
                service,
                spec=spec,
                previous_spec=service.spec,
                updated_at=service.updated_at + 1,
                spec_version=service.spec_version + new,
                endpoint=_endpoint(spec, service.endpoint.vip_index),
                update_status=UpdateStatus(),
            )
        )
        self._remember(service)
        self.settle(self, service)
        return service  # type: ignore[no-any-return]  # put() answers with what it was given

    def _with_network_ids(self, spec: ServiceSpec) -> ServiceSpec:
        joined = tuple(
            one
            if one.target in PREDEFINED
            else msgspec.structs.replace(one, target=self.find(self.networks, one.target, "network").id)
            for one in spec.task.networks
        )
        return msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, networks=joined))

    def _remember(self, service: Service) -> None:
        version = version_id(service.id, service.spec_version)
        self.versions[version] = ServiceVersion(
            id=version,
            service_id=service.id,
            number=service.spec_version,
            name=service.name,
            task=service.spec.task,
            ports=tuple(
                ServicePort(target=port.target, transport=port.transport) for port in service.spec.endpoint.ports
            ),
        )

    def remove(self, ref: str) -> str:
        service: Service = self.find(self.services, ref, "service")
        self.put(service, removed=True)
        for task in [task for task in self.tasks.values() if task.service_id == service.id]:
            self.put(task, removed=True)
        return service.id

    def update_node(self, node_id: str, version: int, spec: NodeSpec) -> Node:
        node: Node = self.find(self.nodes, node_id, "node")
        if node.version != version:
            raise _stale("node")
        written: Node = self.put(msgspec.structs.replace(node, spec=spec))
        return written

    def rotate(self, role: NodeRole) -> None:
        if role is NodeRole.MANAGER:
            self.tokens = msgspec.structs.replace(self.tokens, manager="SWMTKN-1-root-manager2")
        else:
            self.tokens = msgspec.structs.replace(self.tokens, worker="SWMTKN-1-root-worker2")

    def follow(self, since: int, context: Any) -> Iterator[pb.WatchResponse]:
        """Yield the revisions after `since` (0: the present one) until the caller or the cluster goes away."""
        reached = since or self.revision
        yield pb.WatchResponse(revision=reached)
        while context.is_active() and not self.closed:
            with self.changed:
                if self.revision <= reached:
                    self.changed.wait(timeout=0.2)
                news = [answer for answer in self.log if answer.revision > reached]
            for answer in news:
                reached = answer.revision
                yield answer


def _one_manager() -> pb.GetConsensusResponse:
    return pb.GetConsensusResponse(
        node_id=fake_id("node", 1),
        member_id=1,
        role="leader",
        term=3,
        leader_id=1,
        leader_addr="127.0.0.1:2377",
        first_index=1,
        last_index=42,
        commit_index=42,
        applied_index=42,
        log_bytes=9_000,
        log_segments=1,
        feature_level=2,
        members=[
            pb.ConsensusMember(
                member_id=1,
                node_id=fake_id("node", 1),
                hostname="n1",
                addr="127.0.0.1:2377",
                voter=True,
                leader=True,
                active=True,
                state="replicate",
                match=42,
            )
        ],
    )


def _check(spec: ServiceSpec) -> None:
    if problems := validate_service(spec):
        raise InvalidSpecError(problems)


def _stale(what: str) -> SwarmError:
    return SwarmError(Code.OUT_OF_SEQUENCE, f"update out of sequence: the {what} changed meanwhile; try again")


def _endpoint(spec: ServiceSpec, vip_index: int) -> Endpoint:
    ports = tuple(
        ServicePort(
            target=port.target,
            published=(port.published or 30_000 + index) if port.publish else 0,
            transport=port.transport,
            app_protocol=port.app_protocol,
            mode=port.mode,
            name=port.name,
        )
        for index, port in enumerate(spec.endpoint.ports)
    )
    vips = tuple(
        NetworkAddress(network_id=one.target, address=f"10.0.{number}.{1 + vip_index}")
        for number, one in enumerate(spec.task.networks, 1)
        if one.target not in PREDEFINED
    )
    return Endpoint(vip_index=vip_index, ports=ports, vips=vips)
