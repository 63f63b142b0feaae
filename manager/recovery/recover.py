"""Carries out the order to begin anew, at a start of the manager, before its log is opened."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import msgspec
import structlog

from manager.place import FILE as PLACE_FILE
from manager.place import LOG, Place
from manager.raft.log import storage
from manager.raft.log.crypt import AesGcm, Sealer
from manager.raft.log.disk import Disk, OsDisk
from manager.raft.log.key_file import key_file, load_or_make_key
from manager.raft.types import ConfState, Metadata, SnapshotMark
from manager.recovery import rebuild, words
from manager.recovery.rows import Founder, begin_anew
from manager.recovery.source import Source, read_file, read_log
from manager.store.snapshot import Snapshot
from manager.store.tables import NODES
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.files import sync_directory, write_atomic
from swarmpy.ids import RandomBytes
from swarmpy.model.recovery import ORDER_FILE, STATE_FILE, RecoveryKind, RecoveryOrder, RecoveryReport
from swarmpy.security.identity import Identity

log = structlog.get_logger(__name__)

_WHAT: Final = {
    RecoveryKind.FORCE: "the swarm was not begun anew, and nothing was changed",
    RecoveryKind.RESTORE: "the snapshot was not restored",
}


def recover(
    directory: Path,
    identity: Identity,
    addr: str,
    clock: Clock,
    random_bytes: RandomBytes,
    *,
    feature_level: int,
    disk: Disk | None = None,
) -> None:
    """Begin anew if this node's worker left an order to; do the rest if that was cut off. Blocks until it is done.

    Args:
        directory: the manager's own.
        addr: `host:port` at which nodes are to reach this manager.

    Raises:
        SwarmError: FAILED_PRECONDITION, the order cannot be carried out; it is dropped, and the log is as it was.
            INTERNAL, the disk failed in the swap: the next start does the rest, or begins from what was there.
    """
    disk = disk or OsDisk()
    rebuild.complete(disk, directory, lambda member_id: _save_place(directory, member_id))
    order = _read_order(directory / ORDER_FILE)
    if order is None:
        rebuild.discard(disk, directory)
        return
    done = rebuild.read_report(disk, directory / LOG)
    if done is None or done.order_id != order.id:
        founder = Founder(identity.node_id, addr, order.hostname, feature_level)
        _carry_out(_Attempt(disk, directory, identity.cluster_id, order, founder, clock.now(), random_bytes))
    _drop_order(directory)


class _Attempt:
    """One order, and what it takes to carry it out."""

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        cluster_id: str,
        order: RecoveryOrder,
        founder: Founder,
        now_s: float,
        random_bytes: RandomBytes,
    ) -> None:
        self.disk, self.directory, self.order, self._cluster_id = disk, directory, order, cluster_id
        self._founder, self._now_s, self._random_bytes = founder, now_s, random_bytes
        self._log = directory / LOG
        self.old = rebuild.old_name(disk, directory, now_s)

    def build(self) -> RecoveryReport:
        """Write the new log beside the old one."""
        sealer = self._sealer()
        source = self._source(sealer)
        founder = self._founder
        before, revision = source.state.rows(NODES).get(founder.node_id), source.state.revision
        index = source.index + 1
        anew = begin_anew(source.state, index, founder, now_s=self._now_s)
        if source.saved is not None:
            kept = words.after_restore(source, source.saved, revision, anew.given_up, founder.addr)
        else:
            assert before is not None, "begin_anew refuses a node that the state does not hold and nobody named"
            kept = words.after_force(source, revision, anew.given_up, before, self.old)
        report = RecoveryReport(order_id=self.order.id, member_id=anew.member_id, kept=kept)
        rebuild.build(
            self.disk,
            self.directory,
            Metadata(self._cluster_id, anew.member_id),
            SnapshotMark(index, source.term, ConfState(voters=(anew.member_id,))),
            Snapshot(source.state),
            report,
            salt=int.from_bytes(self._random_bytes(8), "big"),
            sealer=sealer,
        )
        return report

    def _source(self, sealer: Sealer) -> Source:
        if self.order.kind is RecoveryKind.RESTORE:
            return read_file(self.directory / STATE_FILE, self._cluster_id)
        return read_log(self.disk, self._log, sealer, self._cluster_id)

    def _sealer(self) -> Sealer:
        path = key_file(self._log)
        has_key = storage.exists(self.disk, self._log) and storage.is_encrypted(self.disk, self._log)
        return AesGcm((load_or_make_key(path, self._random_bytes, must_exist=has_key),), self._random_bytes, path)


def _carry_out(attempt: _Attempt) -> None:
    directory = attempt.directory
    try:
        report = attempt.build()
    except SwarmError as error:
        _drop_order(directory)
        with contextlib.suppress(OSError):  # what is left of it counts for nothing, and goes at the next start
            rebuild.discard(attempt.disk, directory)
        raise precondition(f"{_WHAT[attempt.order.kind]}: {error.message}") from error
    rebuild.swap(attempt.disk, directory, attempt.old, lambda member_id: _save_place(directory, member_id))
    log.warning("began_anew", kind=attempt.order.kind.value, member=report.member_id, kept=report.kept)


def _save_place(directory: Path, member_id: int) -> None:
    write_atomic(directory / PLACE_FILE, msgspec.msgpack.encode(Place(member_id=member_id)))


def _read_order(path: Path) -> RecoveryOrder | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=RecoveryOrder)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise SwarmError(Code.CORRUPT, f"{path} is damaged ({error}): remove it, and give the command again") from error


def _drop_order(directory: Path) -> None:
    (directory / ORDER_FILE).unlink(missing_ok=True)
    (directory / STATE_FILE).unlink(missing_ok=True)
    sync_directory(directory)
