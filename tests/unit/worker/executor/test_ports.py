from __future__ import annotations

import random
import socket
import uuid
from collections.abc import Iterator

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import HostPort, PublishMode, ServicePort, Transport
from tests.support.clock import FakeClock
from worker.executor import ports as module
from worker.executor.ports import BLOCK, FIRST_PORT, LAST_PORT, QUARANTINE_S, PortPool, ephemeral_range

WEB = ServicePort(target=8000)


class Pools:
    """Pools of several workers on one machine, which a test has for itself."""

    def __init__(self) -> None:
        unique = uuid.uuid4()
        self.namespace = f"test-{unique.hex}"
        # An address that only this test uses: what else runs on the machine binds ports of 127.0.0.1 at any time.
        self.address = f"127.200.{unique.bytes[0]}.{unique.bytes[1] % 254 + 1}"
        self.clock = FakeClock()
        self._open: list[PortPool] = []

    def __call__(self, *, seed: int = 1, ephemeral: range = range(32768, 61000)) -> PortPool:
        rng = random.Random(seed)
        pool = PortPool(self.address, clock=self.clock, rng=rng, ephemeral=ephemeral, namespace=self.namespace)
        self._open.append(pool)
        return pool

    def close(self) -> None:
        for pool in self._open:
            pool.close()


@pytest.fixture
def pools() -> Iterator[Pools]:
    pools = Pools()
    yield pools
    pools.close()


def test_each_target_gets_a_free_port_of_its_own(pools: Pools) -> None:
    pool = pools()
    picked = pool.pick([WEB, ServicePort(target=9000)]) + pool.pick([WEB])
    numbers = [p.port for p in picked]
    assert [p.target for p in picked] == [8000, 9000, 8000]
    assert len(set(numbers)) == 3
    assert all(FIRST_PORT <= n < LAST_PORT for n in numbers)


def test_one_target_has_one_number_on_both_transports(pools: Pools) -> None:
    tcp, udp = pools().pick([ServicePort(target=53), ServicePort(target=53, transport=Transport.UDP)])
    assert tcp.port == udp.port
    assert {tcp.transport, udp.transport} == {Transport.TCP, Transport.UDP}


def test_workers_on_one_machine_never_share_a_block(pools: Pools) -> None:
    blocks = {pools(seed=1).pick([WEB])[0].port // BLOCK for _ in range(20)}
    assert len(blocks) == 20


def test_a_worker_that_goes_gives_its_blocks_back(pools: Pools) -> None:
    first = pools(seed=1)
    (port,) = first.pick([WEB])
    first.close()
    assert pools(seed=1).pick([WEB])[0].port // BLOCK == port.port // BLOCK


def test_what_somebody_else_has_bound_is_passed_over(pools: Pools) -> None:
    expected = pools(seed=3).pick([WEB])[0].port
    pools.close()
    with socket.socket() as taken:
        taken.bind((pools.address, expected))
        assert pools(seed=3).pick([WEB])[0].port == expected + 1


def test_a_port_is_not_given_again_while_balancers_may_know_it(pools: Pools) -> None:
    pool = pools()
    (first,) = pool.pick([WEB])
    pool.release([first])
    given = {p.port for p in pool.pick([ServicePort(target=t) for t in range(1, 2 * BLOCK)])}
    assert first.port not in given


async def test_after_a_while_it_is_free_again(pools: Pools) -> None:
    pool = pools()
    picked = pool.pick([ServicePort(target=t) for t in range(1, BLOCK + 1)])
    pool.release(picked)
    await pools.clock.advance(QUARANTINE_S)
    again = pool.pick([ServicePort(target=t) for t in range(1, BLOCK + 1)])
    assert {p.port for p in again} == {p.port for p in picked}


def test_ports_of_tasks_taken_over_are_not_given_again(pools: Pools) -> None:
    (port,) = pools(seed=5).pick([WEB])
    pools.close()
    pool = pools(seed=5)
    pool.hold([port])
    assert pool.pick([WEB])[0].port != port.port


def test_a_port_of_host_mode_is_that_port_or_an_error(pools: Pools) -> None:
    pool = pools()
    with socket.socket() as taken:
        taken.bind((pools.address, 0))
        number = taken.getsockname()[1]
        host = ServicePort(target=80, published=number, mode=PublishMode.HOST)
        with pytest.raises(SwarmError, match=f"port {number}/tcp on {pools.address} .* another program has") as caught:
            pool.pick([WEB, host])
        assert caught.value.code is Code.FAILED_PRECONDITION
    assert pool.pick([host]) == (HostPort(target=80, port=number),)
    with pytest.raises(SwarmError, match="another task here still has it") as caught:
        pool.pick([host])
    assert caught.value.retryable, "that task is ending"
    udp = ServicePort(target=80, published=number, mode=PublishMode.HOST, transport=Transport.UDP)
    assert pool.pick([udp]) == (HostPort(target=80, port=number, transport=Transport.UDP),)


def test_a_port_of_host_mode_is_on_the_address_that_was_asked_for(pools: Pools) -> None:
    pool = pools()
    with socket.socket() as taken:
        taken.bind((pools.address, 0))
        number = taken.getsockname()[1]
    there = pools.address.rpartition(".")[0] + ".255"
    chosen = [
        ServicePort(target=80, published=number, mode=PublishMode.HOST, address=address)
        for address in (pools.address, there, "0.0.0.0")
    ]
    assert pool.pick(chosen[:1]) == (HostPort(target=80, port=number, address=pools.address),)
    second = pool.pick(chosen[1:2])
    with pytest.raises(SwarmError, match="another task here still has it"):
        pool.pick(chosen[2:])
    pool.release([HostPort(target=80, port=number, address=pools.address), *second])
    assert pool.pick(chosen[2:])[0].address == "0.0.0.0"


def test_a_host_mode_port_on_an_address_that_is_elsewhere_says_so(pools: Pools) -> None:
    elsewhere = ServicePort(target=80, published=8080, mode=PublishMode.HOST, address="192.0.2.1")
    with pytest.raises(SwarmError, match="this node does not have that address") as caught:
        pools().pick([elsewhere])
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_host_mode_without_a_number_takes_a_free_one(pools: Pools) -> None:
    (port,) = pools().pick([ServicePort(target=80, mode=PublishMode.HOST, address="0.0.0.0")])
    assert FIRST_PORT <= port.port < LAST_PORT
    assert port.address == "0.0.0.0"


def test_when_all_is_taken_it_is_said(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_PORT", FIRST_PORT + BLOCK)
    pool = pools()
    pool.hold(HostPort(target=1, port=n) for n in range(FIRST_PORT, FIRST_PORT + BLOCK))
    with pytest.raises(SwarmError, match="no host port is free") as caught:
        pool.pick([WEB])
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


def test_the_kernels_own_ports_are_left_alone(pools: Pools) -> None:
    pool = pools(ephemeral=range(21000, 61000))
    picked = pool.pick([ServicePort(target=t) for t in range(1, 5 * BLOCK)])
    assert max(p.port for p in picked) < 21000
    assert pools(ephemeral=range(1024, 65536)).pick([WEB])


def test_the_kernels_range_is_read() -> None:
    assert ephemeral_range("32768\t60999\n") == range(32768, 61000)
    assert ephemeral_range("nonsense") == range(0)
