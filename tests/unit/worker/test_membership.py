"""Joining as a manager, and what of it is undone when that fails; the manager process of a node that was promoted."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from swarmpy.addresses import Address
from swarmpy.clock import Clock, SystemClock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.states import Availability, NodeRole
from swarmpy.security import identity as identities
from swarmpy.security.identity import Identity
from tests.support.clock import FakeClock
from tests.support.health_server import FakeHealth, manager_socket
from tests.support.membership_server import founder
from tests.support.supervisor import FakeSupervisor, supervising
from worker.errand import Errands
from worker.host import Place
from worker.join import Admission
from worker.member import Member
from worker.membership import Addresses, Membership

MANAGER = "10.0.0.1:2377"


class FakeErrands:
    """A cluster that takes everybody in, in one role."""

    def __init__(self, role: NodeRole) -> None:
        self.founder = founder()
        self.role = role
        self.doors: list[Address] = []

    async def admission(self, door: Address, token: str, **_: Any) -> Admission:
        self.doors.append(door)
        founder = self.founder
        return Admission(
            cluster_id=founder.cluster_id,
            node_id="n9",
            role=self.role,
            key_pem=founder.key_pem,
            cert_pem=founder.cert_pem,
            root_pem=founder.root_pem,
            issued_at=founder.issued_at,
            expires_at=founder.expires_at,
        )


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[FakeSupervisor]:
    async with supervising(tmp_path) as made:
        yield made


@pytest.fixture
async def health(tmp_path: Path, supervisor: FakeSupervisor) -> AsyncIterator[FakeHealth]:
    """A manager that serves as soon as it is started."""
    async with manager_socket(tmp_path) as made:

        def begin() -> None:
            made.serving = True

        supervisor.on_start = begin
        yield made


def no_member(*_: object) -> Member:
    raise AssertionError("nothing here runs a membership")


def node(tmp_path: Path, role: NodeRole, clock: Clock | None = None, addr: str = "10.0.0.9") -> Membership:
    place = Place(tmp_path, addr, addr, "m9", "boot")
    errands = cast("Errands", FakeErrands(role))
    return Membership(place, clock or SystemClock(), random.Random(1), os.urandom, no_member, errands)


async def join(membership: Membership, **addresses: str) -> Identity:
    return await membership.join(
        MANAGER, "token", Addresses(**addresses), join_addr="", availability=Availability.ACTIVE, request_id="r1"
    )


async def test_a_manager_joins_and_is_waited_for(
    tmp_path: Path, supervisor: FakeSupervisor, health: FakeHealth
) -> None:
    membership = node(tmp_path, NodeRole.MANAGER)
    joined = await join(membership, advertise="192.0.2.9", listen="0.0.0.0:9377")
    assert (joined.role, joined.managers) == (NodeRole.MANAGER, (MANAGER,))
    assert (joined.advertise_addr, joined.listen_addr) == ("192.0.2.9:9377", "0.0.0.0:9377")
    assert supervisor.calls == ["run"]
    assert membership.identity == identities.load(tmp_path) == joined
    with pytest.raises(SwarmError, match="this node is already part of a swarm"):
        await join(membership)


async def test_a_worker_starts_no_manager(tmp_path: Path, supervisor: FakeSupervisor) -> None:
    joined = await join(node(tmp_path, NodeRole.WORKER))
    assert (joined.role, supervisor.calls) == (NodeRole.WORKER, [])


async def test_a_manager_that_is_refused_leaves_the_node_as_it_was(tmp_path: Path, supervisor: FakeSupervisor) -> None:
    def refuse() -> None:
        (tmp_path / "manager").mkdir()
        (tmp_path / "run" / "manager.error").write_text("manager: install a newer release of swarmpy on this node")

    supervisor.on_start = refuse
    membership = node(tmp_path, NodeRole.MANAGER)
    with pytest.raises(SwarmError, match=r"^install a newer release of swarmpy on this node$") as caught:
        await join(membership)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert (supervisor.calls, membership.identity, identities.load(tmp_path)) == (["run", "stop"], None, None)
    assert not (tmp_path / "manager").exists()


async def test_a_manager_that_is_slow_stays_a_member(tmp_path: Path, supervisor: FakeSupervisor) -> None:
    clock = FakeClock()
    membership = node(tmp_path, NodeRole.MANAGER, clock)
    with pytest.raises(SwarmError, match="does not serve after") as caught:
        await clock.through(join(membership))
    assert caught.value.code is Code.UNAVAILABLE
    assert supervisor.runs
    assert membership.identity is not None
    assert membership.identity == identities.load(tmp_path)


async def test_a_node_that_comes_back_elsewhere_stores_where_it_is(tmp_path: Path, supervisor: FakeSupervisor) -> None:
    before = await join(node(tmp_path, NodeRole.WORKER))
    after = node(tmp_path, NodeRole.WORKER, addr="10.0.0.77").identity
    assert after == identities.load(tmp_path)
    assert after is not None
    assert (after.advertise_addr, after.listen_addr) == ("10.0.0.77:2377", "10.0.0.77:2377")
    assert (after.node_id, after.managers) == (before.node_id, before.managers)
    assert node(tmp_path, NodeRole.WORKER, addr="10.0.0.77").identity == after


async def test_where_it_is_counts_though_it_cannot_be_stored(
    tmp_path: Path, supervisor: FakeSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await join(node(tmp_path, NodeRole.WORKER))

    def full(*_: object) -> None:
        raise SwarmError(Code.RESOURCE_EXHAUSTED, "the disk is full")

    monkeypatch.setattr(identities, "save", full)
    after = node(tmp_path, NodeRole.WORKER, addr="10.0.0.77").identity
    assert after is not None
    assert after.advertise_addr == "10.0.0.77:2377"
    assert identities.load(tmp_path) == before
