"""Coming into a cluster and leaving it: init, join, leave, one at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import msgspec
import structlog

from swarmpy.addresses import CONTROL_PORT, Address, bootstrap_address, parse_address
from swarmpy.clock import Clock
from swarmpy.errors import Code, InvalidSpecError, SwarmError, precondition
from swarmpy.files import write_atomic
from swarmpy.ids import RandomBytes, new_id
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.seed import SEED_FILE
from swarmpy.model.states import Availability, NodeRole
from swarmpy.model.validate import validate_cluster_spec
from swarmpy.security import identity as identities
from swarmpy.security.identity import Identity
from worker.duty import Duty
from worker.errand import Errands
from worker.founding import found_cluster, restored_identity
from worker.host import Place
from worker.managing import ManagerProcess
from worker.member import Member, connect_data_plane
from worker.recovery import Recovery
from worker.standing import StandingWatch

log = structlog.get_logger(__name__)

MakeMember = Callable[
    [Identity, Callable[[Identity], None], Callable[[Identity, Identity], Awaitable[None]], StandingWatch], Member
]


@dataclass(frozen=True)
class Addresses:
    """What `init` and `join` are told about addresses; empty takes the node's own."""

    advertise: str = ""
    listen: str = ""
    data_path: str = ""


class Membership:
    """This node's place in a cluster, if it has one. `member` runs while it has."""

    def __init__(
        self,
        place: Place,
        clock: Clock,
        rng: random.Random,
        random_bytes: RandomBytes,
        make_member: MakeMember,
        errands: Errands | None = None,
    ) -> None:
        """
        Args:
            make_member: puts the parts of a member together, given what the parameters of `Member` say.
            errands: None sends them through this node's task host.
        """
        self._place = place
        self._clock = clock
        self._rng = rng
        self._random_bytes = random_bytes
        self._make_member = make_member
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._identity = _here(place)
        self._errands = errands or Errands(place)
        self._manager = ManagerProcess(place, clock)
        self._recovery = Recovery(place, self._manager, clock, random_bytes)
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
            await self._belong(self._identity)

    async def _belong(self, identity: Identity) -> None:
        """Be a member of a cluster until this node is in another one, or in none."""
        duty = Duty(self._manager, self._role, self._clock, self._lock)
        standing = StandingWatch(self._clock, self._manager.member_id, duty.begin_anew)

        async def renewed(before: Identity, after: Identity) -> None:
            if before.role is not after.role:
                log.info("promoted" if after.role is NodeRole.MANAGER else "demoted")
                duty.look()

        self.member = self._make_member(identity, self._keep, renewed, standing)
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(self.member.run()), group.create_task(duty.run())]
                await self._changed.wait()
                for task in running:
                    task.cancel()
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
            self._check_data_path(addresses)
            advertise, listen = _control_addresses(addresses, self._place)
            founding = found_cluster(
                clock=self._clock,
                random_bytes=self._random_bytes,
                spec=spec,
                availability=availability,
                hostname=self._place.hostname,
                advertise_addr=str(advertise),
                listen_addr=str(listen),
                node_addr=self._place.addr,
                feature_level=self._place.feature_level,
            )
            directory = self._place.state_dir / "manager"
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(directory / SEED_FILE, msgspec.msgpack.encode(founding.seed))
            identities.save(self._place.state_dir, founding.identity)
            try:
                await self._manager.start()
            except BaseException:
                await self._manager.forget()
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
        """Join the cluster of the manager at `remote`, in the role that the token gives; return the identity.

        Raises:
            SwarmError: as `worker.join.request_admission`; FAILED_PRECONDITION where the node is in a cluster already,
                or its manager is refused; UNAVAILABLE where that has joined and does not serve in time.
        """
        async with self._lock:
            self._must_be_free()
            manager = parse_address(remote, "the manager's address")
            door = parse_address(join_addr, "the join address", CONTROL_PORT + 1) if join_addr else None
            # Whatever can be wrong on our side is found before the cluster takes us in.
            self._check_data_path(addresses)
            advertise, listen = _control_addresses(addresses, self._place)
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
                advertise_addr=str(advertise),
                listen_addr=str(listen),
                node_addr=self._place.addr,
                issued_at=admission.issued_at,
                expires_at=admission.expires_at,
            )
            identities.save(self._place.state_dir, identity)
            if identity.role is NodeRole.MANAGER:
                await self._join_managers(identity)
            self._become(identity)
            return identity

    async def _join_managers(self, identity: Identity) -> None:
        """Have this node's manager join the others. One that is refused leaves the node as it was before."""
        try:
            await self._manager.start()
        except SwarmError as error:
            if error.code is Code.UNAVAILABLE:
                # It is a member of the cluster, and comes up by itself once the others can take it in.
                self._become(identity)
                raise
            await self._manager.forget()
            identities.erase(self._place.state_dir)
            raise

    async def leave(self, *, force: bool) -> None:
        """Leave the cluster: stop all tasks, forget identity and endpoints.

        Raises:
            SwarmError: FAILED_PRECONDITION where the node is in no cluster, or is a manager and not forced.
        """
        async with self._lock:
            if self._identity is None:
                raise precondition("this node is not part of a swarm")
            was_manager = self._identity.role is NodeRole.MANAGER
            if was_manager:
                await self._resign(self._identity, force=force)
            if self.member is not None:
                try:
                    await self.member.empty()
                except TimeoutError as error:
                    raise precondition("a task did not stop within a minute: look at `swarmpy info`") from error
            if was_manager:
                await self._manager.forget()
            identities.erase(self._place.state_dir)
            self._identity = None
            self._changed.set()
            await self._forget_endpoints()

    async def _resign(self, identity: Identity, *, force: bool) -> None:
        """Have the other managers go on without this one, if there are others and the user insists."""
        others = [address for address in identity.managers if address != identity.advertise_addr]
        if not others:
            if not force:
                raise precondition(
                    "this node is the last manager: leaving erases the whole state of the swarm; "
                    "use `swarmpy swarm leave --force` to do so"
                )
            return
        if not force:
            raise precondition(
                "this node is a manager: demote it first with `swarmpy node demote self`, "
                "or use `swarmpy swarm leave --force`"
            )
        try:
            await self._manager.be_let_go(identity, lambda: new_id(self._random_bytes))
        except SwarmError as error:
            log.warning("left_without_being_let_go", reason=error.message)

    async def force_new_cluster(self, addresses: Addresses) -> tuple[Identity, tuple[str, ...]]:
        """Go on with this node as the only manager; return its identity, and what is kept and what is not.

        Raises:
            SwarmError: FAILED_PRECONDITION where the node is no manager or one leads, or the state cannot be read:
                then everything is as it was before.
        """
        async with self._lock:
            before = self._identity
            if before is None:
                raise precondition("this node is not part of a swarm: `swarmpy swarm init` alone starts a new one")
            if before.role is not NodeRole.MANAGER:
                raise precondition(
                    "this node is a worker and holds nothing of the swarm's state: run this on one of its managers"
                )
            warning = await self._recovery.why_nobody_leads()
            identity = self._readdressed(before, addresses)
            try:
                self._readdress(identity)
                kept = await self._recovery.force()
            except BaseException:
                self._readdress(before)
                await self._manager.restart()
                raise
            return identity, ((warning,) if warning else ()) + kept

    async def restore(self, chunks: AsyncIterator[bytes], addresses: Addresses) -> tuple[Identity, tuple[str, ...]]:
        """Bring a cluster back from a snapshot file, with this node as its only manager; returns as the above.

        Raises:
            SwarmError: FAILED_PRECONDITION where the node is in a cluster or the file is none that can be used;
                CORRUPT, RESOURCE_EXHAUSTED. Then the node is as it was before.
        """
        async with self._lock:
            self._must_be_free()
            advertise, listen = _control_addresses(addresses, self._place)
            try:
                header = await self._recovery.receive(chunks)
                identity = restored_identity(
                    header.cluster,
                    clock=self._clock,
                    random_bytes=self._random_bytes,
                    advertise_addr=str(advertise),
                    listen_addr=str(listen),
                    node_addr=self._place.addr,
                )
                identities.save(self._place.state_dir, identity)
                kept = await self._recovery.restore()
            except BaseException:
                await self._manager.forget()
                identities.erase(self._place.state_dir)
                raise
            self._become(identity)
            return identity, kept

    def _readdressed(self, identity: Identity, addresses: Addresses) -> Identity:
        """Return the identity of an only manager, with other addresses if some are given."""
        if addresses.advertise or addresses.listen:
            advertise, listen = _control_addresses(addresses, self._place)
            identity = msgspec.structs.replace(identity, advertise_addr=str(advertise), listen_addr=str(listen))
        return msgspec.structs.replace(identity, managers=(identity.advertise_addr,))

    def _readdress(self, identity: Identity) -> None:
        self._identity = identity
        identities.save(self._place.state_dir, identity)
        if self.member is not None:
            self.member.identity = identity

    def _must_be_free(self) -> None:
        if self._identity is not None:
            raise precondition(
                "this node is already part of a swarm: use `swarmpy swarm leave` to leave it before joining another"
            )

    def _check_data_path(self, addresses: Addresses) -> None:
        if addresses.data_path and addresses.data_path != self._place.data_addr:
            raise precondition(
                f"the data path address is the one that swarmpyd was started with ({self._place.data_addr}): "
                f"start it with --data-addr {addresses.data_path} instead"
            )

    def _become(self, identity: Identity) -> None:
        self._identity = identity
        self._changed.set()

    def _keep(self, identity: Identity) -> None:
        if self._identity is None or self._identity.node_id != identity.node_id:
            return  # a late word from the membership that this node has left
        self._identity = identity
        identities.save(self._place.state_dir, identity)

    def _role(self) -> NodeRole:
        return self._identity.role if self._identity is not None else NodeRole.WORKER

    async def _forget_endpoints(self) -> None:
        try:
            client = await connect_data_plane(self._place, "", "")
        except SwarmError as error:
            log.warning("endpoints_not_forgotten", reason=error.message)
        else:
            await client.close()


def _here(place: Place) -> Identity | None:
    """Return this node's identity, moved to the address that swarmpyd was started with."""
    stored = identities.load(place.state_dir)
    if stored is None:
        return None
    identity = identities.at_address(stored, place.addr)
    if identity.advertise_addr != stored.advertise_addr:
        log.info("node_moved", before=stored.advertise_addr, now=identity.advertise_addr)
    if identity is not stored:
        try:
            identities.save(place.state_dir, identity)
        except SwarmError as error:
            log.warning("address_not_kept", reason=error.message)  # the next start finds out the same
    return identity


def _control_addresses(addresses: Addresses, place: Place) -> tuple[Address, Address]:
    """Return where the manager is reached and where it listens; each takes from the other what it is not given."""
    if not addresses.listen:
        advertise = parse_address(addresses.advertise or place.addr, "the advertised address")
        return advertise, Address(place.addr, advertise.port)
    listen = parse_address(addresses.listen, "the listen address")
    return parse_address(addresses.advertise or place.addr, "the advertised address", listen.port), listen
