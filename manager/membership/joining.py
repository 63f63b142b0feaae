"""The joiner's side: a manager process without a log asks the others to be taken in."""

from __future__ import annotations

from typing import Final

import grpc
import structlog
import tenacity

from swarmpy.api.v1 import membership_pb2 as pb
from swarmpy.api.v1 import membership_pb2_grpc
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.model import features
from swarmpy.rpc.dial import manager_channel
from swarmpy.rpc.status import to_error
from swarmpy.security.identity import Identity

log = structlog.get_logger(__name__)

CALL_DEADLINE_S: Final = 20.0
# Whoever must be asked again says so; these are said by a manager that is not ready, or by gRPC itself.
TRY_AGAIN: Final = frozenset({Code.UNAVAILABLE, Code.NOT_LEADER, Code.DEADLINE_EXCEEDED, Code.INTERNAL})


async def ask_to_join(
    identity: Identity, own_addr: str, request_id: str, clock: Clock, *, feature_level: int = features.LEVEL
) -> pb.JoinManagersResponse:
    """Return this manager's place in the group, once a manager has given it one; asks until then.

    Args:
        request_id: kept over retries and restarts, so that one joiner gets one place.

    Raises:
        SwarmError: a manager has refused for good.
    """
    others = [address for address in identity.managers if address != own_addr]
    if not others:
        raise SwarmError(
            Code.FAILED_PRECONDITION,
            "this manager has no log, and knows no other manager that could take it in: leave the swarm with "
            "`swarmpy swarm leave --force`, then join again",
        )
    request = pb.JoinManagersRequest(request_id=request_id, addr=own_addr, feature_level=feature_level)

    async def ask_each() -> pb.JoinManagersResponse:
        failure: SwarmError | None = None
        for address in others:
            async with manager_channel(identity, address) as channel:
                try:
                    stub = membership_pb2_grpc.MembershipStub(channel)
                    answer: pb.JoinManagersResponse = await stub.JoinManagers(request, timeout=CALL_DEADLINE_S)
                except grpc.RpcError as error:
                    failure = to_error(error)
                    log.warning("not_taken_in_yet", manager=address, reason=failure.message)
                    if failure.code not in TRY_AGAIN:
                        raise failure from error
                else:
                    return answer
        assert failure is not None, "there is at least one other manager"
        raise failure

    return await tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, SwarmError) and e.code in TRY_AGAIN),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
        sleep=clock.sleep,
        reraise=True,
    )(ask_each)
