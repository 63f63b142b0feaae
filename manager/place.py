"""This manager's place in the group, on disk: found again at a start, given to a founder, asked for by a joiner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from manager.membership.joining import ask_to_join
from manager.raft.api import Peer
from manager.raft.driver import bootstrap
from manager.raft.log import storage
from manager.raft.log.crypt import AesGcm, Sealer
from manager.raft.log.disk import OsDisk
from manager.raft.log.key_file import key_file, load_or_make_key
from manager.raft.types import Metadata
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.files import write_atomic
from swarmpy.ids import RandomBytes, new_id
from swarmpy.model.base import Model
from swarmpy.model.seed import SEED_FILE
from swarmpy.security.identity import Identity

log = structlog.get_logger(__name__)

FILE: Final = "place.msgpack"
LOG: Final = "raft"
FOUNDER: Final = 1


class Known(Model, frozen=True):
    """Another manager, as it was when this one joined: enough to know it by until the rows have come."""

    node_id: str
    addr: str


class Place(Model, frozen=True):
    """`member_id` 0: asked for with `request_id`, and not given yet."""

    member_id: int = 0
    request_id: str = ""
    members: dict[int, Known] = msgspec.field(default_factory=dict)

    @property
    def peers(self) -> Mapping[int, Peer]:
        return {member_id: Peer(known.node_id, known.addr) for member_id, known in self.members.items()}


async def take_place(
    directory: Path, identity: Identity, own_addr: str, clock: Clock, random_bytes: RandomBytes, *, feature_level: int
) -> tuple[Place, Sealer]:
    """Return this manager's place, its log begun, and what the log is encrypted with.

    A manager whose log is gone asks to join anew, as another member: what the old one has voted for is forgotten.

    Args:
        directory: the manager's own; made if it is not there.

    Raises:
        SwarmError: CORRUPT, FAILED_PRECONDITION: what is on disk cannot be used, or the others refuse it.
    """
    place, sealer = _find(directory, identity, random_bytes)
    if place.member_id:
        return place, sealer
    answer = await ask_to_join(identity, own_addr, place.request_id, clock, feature_level=feature_level)
    members = {m.member_id: Known(node_id=m.node_id, addr=m.addr) for m in answer.members}
    members.pop(answer.member_id, None)
    place = Place(member_id=answer.member_id, request_id=place.request_id, members=members)
    _save(directory / FILE, place)
    metadata = Metadata(identity.cluster_id, place.member_id)
    bootstrap(directory / LOG, metadata, salt=_salt(random_bytes), joins=True, sealer=sealer)
    log.info("joined_as_learner", member=place.member_id)
    return place, sealer


def _find(directory: Path, identity: Identity, random_bytes: RandomBytes) -> tuple[Place, Sealer]:
    """Return the place that is on disk, a founder's log begun; one without a member is still to be asked for."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, raft = directory / FILE, directory / LOG
    has_log = storage.exists(OsDisk(), raft)
    place = _load(path)
    key = load_or_make_key(key_file(raft), random_bytes, must_exist=has_log and storage.is_encrypted(OsDisk(), raft))
    sealer = AesGcm((key,), random_bytes, key_file(raft))
    if has_log:
        # The first release had no such file, and one manager.
        return (place if place.member_id else Place(member_id=FOUNDER)), sealer
    if (directory / SEED_FILE).exists():
        place = Place(member_id=FOUNDER)
        _save(path, place)
        bootstrap(raft, Metadata(identity.cluster_id, FOUNDER), salt=_salt(random_bytes), sealer=sealer)
        return place, sealer
    if place.member_id:
        log.warning("log_is_gone", member=place.member_id, consequence="joining anew, as another member")
    if place.member_id or not place.request_id:
        place = Place(request_id=new_id(random_bytes))
        _save(path, place)
    return place, sealer


def _salt(random_bytes: RandomBytes) -> int:
    return int.from_bytes(random_bytes(8), "big")


def _load(path: Path) -> Place:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Place)
    except FileNotFoundError:
        return Place()
    except msgspec.DecodeError as error:
        raise SwarmError(
            Code.CORRUPT,
            f"{path} is damaged ({error}): run `swarmpy swarm leave --force` on this node, then join again",
        ) from error


def _save(path: Path, place: Place) -> None:
    write_atomic(path, msgspec.msgpack.encode(place))
