"""When a certificate is renewed, and what happens if that fails."""

from __future__ import annotations

import os
import random

import msgspec
import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.states import Availability, NodeRole
from swarmpy.security.identity import Identity
from tests.support.clock import FakeClock
from tests.support.cluster import leading
from worker.founding import found_cluster
from worker.renewal import RETRY_OVERDUE_S, Renewal, in_turn, renewal_at

LIFE_S = 1000.0


def identity(now_s: float) -> Identity:
    founding = found_cluster(
        clock=FakeClock(now_s),
        random_bytes=os.urandom,
        spec=ClusterSpec(node_cert_expiry_s=LIFE_S),
        availability=Availability.ACTIVE,
        hostname="m",
        advertise_addr="127.0.0.1:1",
        listen_addr="127.0.0.1:1",
        node_addr="127.0.0.1",
    )
    return founding.identity


class Scripted:
    """A renewal whose manager is a list of what it answers; `held` gets what it keeps."""

    def __init__(self, clock: FakeClock, held: list[Identity], answers: list[Identity | SwarmError]) -> None:
        self.overdue = False
        self._clock = clock
        self._held = held
        self._answers = answers
        self.asked_at: list[float] = []
        self.renewal = Renewal(clock, random.Random(1), lambda: held[-1], self._renew, self._keep, lambda: self.overdue)

    async def _renew(self, identity: Identity) -> Identity:
        self.asked_at.append(self._clock.now())
        answer = self._answers.pop(0)
        if isinstance(answer, SwarmError):
            raise answer
        return answer

    async def _keep(self, identity: Identity) -> None:
        self.overdue = identity.role is NodeRole.MANAGER and self.overdue
        self._held.append(identity)


def test_a_node_asks_its_own_manager_last() -> None:
    held = msgspec.structs.replace(identity(0.0), managers=("127.0.0.1:1", "127.0.0.3:1", "127.0.0.2:1"))
    assert in_turn(held) == ["127.0.0.3:1", "127.0.0.2:1", "127.0.0.1:1"]


def test_the_window_is_from_half_to_four_fifths_of_its_life() -> None:
    held = identity(1000.0)
    assert renewal_at(held, 0.0) == pytest.approx(1500.0)
    assert renewal_at(held, 1.0) == pytest.approx(1800.0)


async def test_it_is_renewed_in_its_window_and_tried_again_after_a_failure() -> None:
    clock, held = FakeClock(), [identity(1000.0)]
    fresh = msgspec.structs.replace(held[0], issued_at=2000.0, expires_at=9000.0)
    scripted = Scripted(clock, held, [SwarmError(Code.UNAVAILABLE, "nobody is there"), fresh])
    async with leading(scripted.renewal):
        await clock.advance(499.0)
        assert scripted.asked_at == []
        await clock.advance(301.0 + 60.0)
        first, second = scripted.asked_at
        assert 1500.0 <= first <= 1800.0
        assert second == first + 60.0
        assert held[-1] == fresh


async def test_one_that_is_due_again_at_once_is_not_asked_for_in_a_tight_loop() -> None:
    clock, held = FakeClock(), [identity(0.0)]
    scripted = Scripted(clock, held, [held[0]] * 10)
    async with leading(scripted.renewal):
        await clock.advance(150.0)
        assert len(scripted.asked_at) == 3


async def test_one_that_says_another_role_is_renewed_at_once_and_often_until_it_does_not() -> None:
    clock, held = FakeClock(), [identity(1000.0)]
    demoted = msgspec.structs.replace(held[0], role=NodeRole.WORKER)
    not_yet = SwarmError(Code.UNAVAILABLE, "nobody leads")
    scripted = Scripted(clock, held, [not_yet, held[0], demoted])
    async with leading(scripted.renewal):
        await clock.advance(10.0)
        assert scripted.asked_at == []
        scripted.overdue = True
        scripted.renewal.look()
        await clock.advance(10.0)
    assert scripted.asked_at == [1010.0, 1010.0 + RETRY_OVERDUE_S, 1010.0 + 2 * RETRY_OVERDUE_S]
    assert held[-1].role is NodeRole.WORKER


async def test_a_look_at_one_that_is_good_asks_nobody() -> None:
    clock, held = FakeClock(), [identity(1000.0)]
    scripted = Scripted(clock, held, [])
    async with leading(scripted.renewal):
        for _ in range(3):
            scripted.renewal.look()
            await clock.advance(10.0)
    assert scripted.asked_at == []


async def test_managers_that_came_meanwhile_are_not_forgotten() -> None:
    clock, held = FakeClock(), [identity(1000.0)]
    scripted = Scripted(clock, held, [msgspec.structs.replace(held[0], issued_at=2000.0, expires_at=9000.0)])
    held.append(msgspec.structs.replace(held[0], managers=("m2:2377",)))
    async with leading(scripted.renewal):
        await clock.advance(900.0)
    assert (held[-1].issued_at, held[-1].managers) == (2000.0, ("m2:2377",))
