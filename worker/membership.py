"""Coming into a cluster and leaving it: init, join, leave, one at a time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Final

import grpc
import msgspec
import structlog

from swarmpy.addresses import CONTROL_PORT, Address, bootstrap_address, parse_address
from swarmpy.api.v1 import node_pb2 as pb
from swarmpy.api.v1 import node_pb2_grpc
from swarmpy.clock import Clock
from swarmpy.daemon.client import AsyncSupervisorClient
from swarmpy.daemon.client import socket_path as supervisor_socket
from swarmpy.errors import Code, InvalidSpecError, SwarmError, precondition
from swarmpy.files import write_atomic
from swarmpy.ids import RandomBytes
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.seed import SEED_FILE
from swarmpy.model.states import Availability, NodeRole
from swarmpy.model.validate import validate_cluster_spec
from swarmpy.rpc.dial import unix_channel
from swarmpy.security import identity as identities
from swarmpy.security.identity import Identity
from worker.errand import Errands
from worker.founding import found_cluster
from worker.host import Place
from worker.member import Member, connect_data_plane

log = structlog.get_logger(__name__)

MANAGER_START_DEADLINE_S: Final = 20.0
MANAGER_LOOK_S: Final = 0.02


@dataclass(frozen=True)
class Addresses:
    """What `init` and `join` are told about addresses; empty takes the node's own."""

    advertise: str = ""
    listen: str = ""
    data_path: str = ""


class Membership:
    """This node's place in a cluster, if it has one. `member` runs while it has."""

    def __init__(self, place: Place, clock: Clock, rng: random.Random, random_bytes: RandomBytes) -> None:
        self._place = place
        self._clock = clock
        self._rng = rng
        self._random_bytes = random_bytes
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._identity = identities.load(place.state_dir)
        self._errands = Errands(place)
        self.member: Member | None = None

    @property
    def identity(self) -> Identity | None:
        return self._identity

    async def run(self) -> None:
        """Be a member of whatever cluster this node is in, until cancelled."""
        while True:
            self._changed.clear()
            if self._identity is None:
                await self._changed.wait()
                continue
            self.member = Member(self._place, self._identity, self._clock, self._rng, self._keep, self._renewed)
            try:
                async with asyncio.TaskGroup() as group:
                    running = group.create_task(self.member.run())
                    await self._changed.wait()
                    running.cancel()
            finally:
                self.member = None

    async def init(self, spec: ClusterSpec, availability: Availability, addresses: Addresses) -> tuple[Identity, str]:
        """Found a cluster with this node as its manager; return the identity and the worker token.

        Raises:
            SwarmError: FAILED_PRECONDITION where the node is in a cluster or the manager does not come up;
                then the node is as it was before.
        """
        problems = validate_cluster_spec(spec)
        if problems:
            raise InvalidSpecError(problems)
        async with self._lock:
            self._must_be_free()
            advertise, listen = _control_addresses(addresses, self._place)
            founding = found_cluster(
                clock=self._clock,
                random_bytes=self._random_bytes,
                spec=spec,
                availability=availability,
                hostname=self._place.hostname,
                advertise_addr=str(advertise),
                listen_addr=str(listen),
                data_addr=self._data_addr(addresses),
            )
            directory = self._place.state_dir / "manager"
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(directory / SEED_FILE, msgspec.msgpack.encode(founding.seed))
            identities.save(self._place.state_dir, founding.identity)
            try:
                await self._start_manager()
            except BaseException:
                await self._set_manager(running=False)
                identities.erase(self._place.state_dir)
                raise
            self._become(founding.identity)
            return founding.identity, founding.seed.cluster.join_tokens.worker

    async def join(
        self,
        remote: str,
        token: str,
        addresses: Addresses,
        *,
        join_addr: str,
        availability: Availability,
        request_id: str,
    ) -> Identity:
        """Join the cluster of the manager at `remote` as a worker; return the identity.

        Raises:
            SwarmError: as `worker.join.request_admission`; FAILED_PRECONDITION where the node is in a cluster already.
        """
        async with self._lock:
            self._must_be_free()
            manager = parse_address(remote, "the manager's address")
            door = parse_address(join_addr, "the join address", CONTROL_PORT + 1) if join_addr else None
            # Whatever can be wrong on our side is found before the cluster takes us in.
            data_addr = self._data_addr(addresses)
            admission = await self._errands.admission(
                door or bootstrap_address(manager),
                token,
                hostname=self._place.hostname,
                availability=availability,
                request_id=request_id,
            )
            identity = Identity(
                cluster_id=admission.cluster_id,
                node_id=admission.node_id,
                role=admission.role,
                key_pem=admission.key_pem,
                cert_pem=admission.cert_pem,
                root_pem=admission.root_pem,
                managers=(str(manager),),
                advertise_addr=addresses.advertise or self._place.addr,
                listen_addr=addresses.listen,
                data_addr=data_addr,
                issued_at=admission.issued_at,
                expires_at=admission.expires_at,
            )
            identities.save(self._place.state_dir, identity)
            self._become(identity)
            return identity

    async def leave(self, *, force: bool) -> None:
        """Leave the cluster: stop all tasks, forget identity and endpoints.

        Raises:
            SwarmError: FAILED_PRECONDITION where the node is in no cluster, or is a manager and not forced.
        """
        async with self._lock:
            if self._identity is None:
                raise precondition("this node is not part of a swarm")
            if self._identity.role is NodeRole.MANAGER and not force:
                raise precondition(
                    "this node is the last manager: leaving erases the whole state of the swarm; "
                    "use `swarmpy swarm leave --force` to do so"
                )
            if self.member is not None:
                try:
                    await self.member.empty()
                except TimeoutError as error:
                    raise precondition("a task did not stop within a minute: look at `swarmpy info`") from error
            if self._identity.role is NodeRole.MANAGER:
                await self._set_manager(running=False)
            identities.erase(self._place.state_dir)
            self._identity = None
            self._changed.set()
            await self._forget_endpoints()

    def _must_be_free(self) -> None:
        if self._identity is not None:
            raise precondition(
                "this node is already part of a swarm: use `swarmpy swarm leave` to leave it before joining another"
            )

    def _data_addr(self, addresses: Addresses) -> str:
        if addresses.data_path and addresses.data_path != self._place.data_addr:
            raise precondition(
                f"the data path address is the one that swarmpyd was started with ({self._place.data_addr}): "
                f"start it with --data-addr {addresses.data_path} instead"
            )
        return self._place.data_addr

    def _become(self, identity: Identity) -> None:
        self._identity = identity
        self._changed.set()

    def _keep(self, identity: Identity) -> None:
        if self._identity is None or self._identity.node_id != identity.node_id:
            return  # a late word from the membership that this node has left
        self._identity = identity
        identities.save(self._place.state_dir, identity)

    async def _renewed(self) -> None:
        """A manager takes its new certificate up by being started again; tasks and sessions do not mind."""
        if self._identity is not None and self._identity.role is NodeRole.MANAGER:
            client = AsyncSupervisorClient(supervisor_socket(self._place.state_dir))
            try:
                await client.call("restart", process="manager")
            finally:
                client.close()

    async def _start_manager(self) -> None:
        """Have swarmpyd start the manager, and wait until it leads."""
        await self._set_manager(running=True)
        try:
            async with asyncio.timeout(MANAGER_START_DEADLINE_S):
                while not await self._manager_serves():
                    await self._clock.sleep(MANAGER_LOOK_S)
        except TimeoutError as error:
            raise precondition(await self._why_no_manager()) from error

    async def _set_manager(self, *, running: bool) -> None:
        client = AsyncSupervisorClient(supervisor_socket(self._place.state_dir))
        try:
            await client.set_role(manager=running)
        finally:
            client.close()

    async def _manager_serves(self) -> bool:
        note = self._place.state_dir / "run" / "manager.error"
        if note.exists():
            raise SwarmError(Code.FAILED_PRECONDITION, note.read_text().strip().removeprefix("manager: "))
        if not self._place.control_socket.exists():
            return False
        async with unix_channel(self._place.control_socket) as channel:
            try:
                answer = await node_pb2_grpc.HealthStub(channel).Check(pb.HealthRequest(), timeout=1.0)
            except grpc.RpcError:
                return False
        return bool(answer.serving)

    async def _why_no_manager(self) -> str:
        return (
            f"the manager did not come up within {MANAGER_START_DEADLINE_S:g} s: see the log of swarmpyd, "
            "then try again"
        )

    async def _forget_endpoints(self) -> None:
        try:
            client = await connect_data_plane(self._place, "", "")
        except SwarmError as error:
            log.warning("endpoints_not_forgotten", reason=error.message)
        else:
            await client.close()


def _control_addresses(addresses: Addresses, place: Place) -> tuple[Address, Address]:
    """Return where the manager is reached and where it listens; each takes from the other what it is not given."""
    if not addresses.listen:
        advertise = parse_address(addresses.advertise or place.addr, "the advertised address")
        return advertise, Address(place.addr, advertise.port)
    listen = parse_address(addresses.listen, "the listen address")
    return parse_address(addresses.advertise or place.addr, "the advertised address", listen.port), listen
