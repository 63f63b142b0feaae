"""Errands: what needs the cryptography library runs in a short process of its own, `python -m worker.errand FILE`.

The library takes 13 MB for as long as a process lives, and a worker needs it for a few milliseconds in months. The
task host starts the process, since a process with gRPC in it must not fork. The errand and its outcome are files
that only this user can read, for they hold keys and a token.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import msgspec

from swarmpy.addresses import Address
from swarmpy.errors import Code, SwarmError
from swarmpy.files import write_atomic
from swarmpy.model.base import Model
from swarmpy.model.states import Availability
from swarmpy.security.identity import Identity
from worker.host import Place
from worker.join import Admission, request_admission
from worker.renewal import request_renewal
from worker.taskhost.client import ExecRequest, TaskHostClient
from worker.taskhost.client import socket_path as task_host_socket

DEADLINE_S: Final = 60.0


class Errand(Model, frozen=True):
    """Either a wish to be admitted (`address`, `token` and what follows) or an identity to be renewed."""

    address: str = ""
    port: int = 0
    token: str = ""
    hostname: str = ""
    availability: Availability = Availability.ACTIVE
    request_id: str = ""
    renew: Identity | None = None


class Outcome(Model, frozen=True):
    """What came of it: one of the first two, or an error's code, sentence and retryability."""

    admission: Admission | None = None
    identity: Identity | None = None
    code: str = ""
    message: str = ""
    retryable: bool = False


class Errands:
    """Sends errands from this node's worker, through its task host."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def admission(
        self, door: Address, token: str, *, hostname: str, availability: Availability, request_id: str
    ) -> Admission:
        """Do `request_admission` elsewhere; raises what it raises."""
        errand = Errand(
            address=door.host,
            port=door.port,
            token=token,
            hostname=hostname,
            availability=availability,
            request_id=request_id,
        )
        outcome = await self._send(errand)
        assert outcome.admission is not None, "an outcome without an error holds what was asked for"
        return outcome.admission

    async def renewal(self, identity: Identity) -> Identity:
        """Do `request_renewal` elsewhere; raises what it raises."""
        outcome = await self._send(Errand(renew=identity))
        assert outcome.identity is not None, "an outcome without an error holds what was asked for"
        return outcome.identity

    async def _send(self, errand: Errand) -> Outcome:
        path = self._place.state_dir / "worker" / "errand"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, msgspec.msgpack.encode(errand))
        try:
            await self._run(path)
            outcome = msgspec.msgpack.decode(path.read_bytes(), type=Outcome)
        except msgspec.DecodeError as error:
            raise SwarmError(Code.INTERNAL, "the process that was to see to a certificate left no outcome") from error
        finally:
            path.unlink(missing_ok=True)
        if outcome.code:
            raise SwarmError(Code(outcome.code), outcome.message, retryable=outcome.retryable)
        return outcome

    async def _run(self, path: Path) -> None:
        host = await TaskHostClient.connect(task_host_socket(self._place.state_dir), lambda _exit: None)
        try:
            request = ExecRequest(
                argv=(sys.executable, "-P", "-m", "worker.errand", str(path)),
                timeout_s=DEADLINE_S,
                env=dict(os.environ),
            )
            ended = await host.exec(request)
        finally:
            await host.close()
        if ended.exit_code:
            last = ended.output.strip().rpartition("\n")[2]
            raise SwarmError(Code.INTERNAL, f"the process that was to see to a certificate failed: {last}")


async def run(errand: Errand) -> Outcome:
    """Do an errand; a refusal is an outcome too."""
    try:
        if errand.renew is not None:
            return Outcome(identity=await request_renewal(errand.renew))
        admission = await request_admission(
            Address(errand.address, errand.port),
            errand.token,
            hostname=errand.hostname,
            availability=errand.availability,
            request_id=errand.request_id,
        )
        return Outcome(admission=admission)
    except SwarmError as error:
        return Outcome(code=error.code.value, message=error.message, retryable=error.retryable)


def main() -> None:
    path = Path(sys.argv[1])
    errand = msgspec.msgpack.decode(path.read_bytes(), type=Errand)
    write_atomic(path, msgspec.msgpack.encode(asyncio.run(run(errand))))


if __name__ == "__main__":
    main()
