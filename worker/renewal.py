"""Keeps the node's certificate young: renewed at a random point between 50 and 80 % of its life."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import grpc
import msgspec
import structlog

from swarmpy.api.v1 import node_pb2 as pb
from swarmpy.api.v1 import node_pb2_grpc
from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from swarmpy.model.states import NodeRole
from swarmpy.rpc.dial import manager_channel
from swarmpy.rpc.status import to_error
from swarmpy.security.identity import Identity

log = structlog.get_logger(__name__)

LOOK_AT_LEAST_EVERY_S: Final = 3600.0
RETRY_S: Final = 60.0
RETRY_OVERDUE_S: Final = 0.5
CALL_DEADLINE_S: Final = 10.0


def renewal_at(identity: Identity, share: float) -> float:
    """Return the wall time at which to renew; `share` is 0..1 within the window of 50 to 80 % of the life."""
    life_s = identity.expires_at - identity.issued_at
    return identity.issued_at + life_s * (0.5 + 0.3 * share)


def in_turn(identity: Identity) -> list[str]:
    """Return the managers (host:port) in the order in which they are asked.

    The node's own is the last: one that was let go has nobody to ask itself, and takes long to say so.
    """
    return sorted(identity.managers, key=lambda address: address == identity.advertise_addr)


class Renewal:
    """Sees to a new certificate when it is time."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        identity: Callable[[], Identity],
        renew: Callable[[Identity], Awaitable[Identity]],
        keep: Callable[[Identity], Awaitable[None]],
        is_overdue: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Args:
            renew: asks a manager for a new certificate (`request_renewal`, wherever it runs); raises SwarmError.
            keep: takes the identity over once it has one.
            is_overdue: whether the present certificate says something of this node that is not so any more.
        """
        self._clock = clock
        self._share = rng.random()
        self._identity = identity
        self._renew = renew
        self._keep = keep
        self._is_overdue = is_overdue
        self._look = asyncio.Event()

    def look(self) -> None:
        """Look at once whether a renewal is due."""
        self._look.set()

    async def run(self) -> None:
        """Renew in time until cancelled; a failure is logged and tried again within a minute."""
        while True:
            self._look.clear()
            overdue = self._is_overdue()
            wait_s = renewal_at(self._identity(), self._share) - self._clock.now()
            if wait_s > 0 and not overdue:
                await self._wait(min(wait_s, LOOK_AT_LEAST_EVERY_S))
                continue
            try:
                renewed = await self._renew(self._identity())
                # The list of managers may have changed meanwhile.
                await self._keep(msgspec.structs.replace(renewed, managers=self._identity().managers))
            except SwarmError as error:
                log.warning("certificate_not_renewed", reason=error.message, expires_at=self._identity().expires_at)
            else:
                log.info("certificate_renewed", expires_at=self._identity().expires_at)
            # Whatever lives so short that it is due again at once is not renewed in a tight loop.
            await self._clock.sleep(RETRY_OVERDUE_S if overdue else RETRY_S)

    async def _wait(self, delay_s: float) -> None:
        """Wait for a while, or until somebody says that there may be something to do."""
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(self._clock.sleep(delay_s)), group.create_task(self._look_comes())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def _look_comes(self) -> None:
        await self._look.wait()


async def request_renewal(identity: Identity) -> Identity:
    """Return the identity with a new key and certificate, from the first manager that gives one.

    Raises:
        SwarmError: what the last manager that was asked answered.
    """
    # Loaded here only: it takes 12 MB that a running node does not need.
    from swarmpy.security.x509 import check_issued, new_csr_pem, new_key_pem, validity

    key_pem = new_key_pem()
    request = pb.RenewCertificateRequest(csr_pem=new_csr_pem(key_pem))
    failure: SwarmError | None = None
    for address in in_turn(identity):
        async with manager_channel(identity, address) as channel:
            try:
                answer = await node_pb2_grpc.CAStub(channel).RenewCertificate(request, timeout=CALL_DEADLINE_S)
            except grpc.RpcError as error:
                failure = to_error(error)
                continue
        check_issued(answer.certificate_pem, identity.root_pem, key_pem)
        issued_at, expires_at = validity(answer.certificate_pem)
        return msgspec.structs.replace(
            identity,
            role=NodeRole(answer.role),
            key_pem=key_pem,
            cert_pem=answer.certificate_pem,
            issued_at=issued_at,
            expires_at=expires_at,
        )
    assert failure is not None, "an identity names at least one manager"
    raise failure
