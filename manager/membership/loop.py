"""The leader's `members` loop: rows and Raft's members in step with what the nodes are to be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from manager.membership.group import Group, active_of, members_of
from manager.membership.plan import (
    Admit,
    HandOver,
    Promote,
    Remove,
    Step,
    Stuck,
    dead_managers,
    next_step,
    risen_level,
    rows_in_step,
)
from manager.raft.types import ConfChange, ConfChangeKind, MemberChange
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES
from manager.store.transaction import Transaction
from manager.store.watch import CompactedError, next_or_deadline
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import Cluster
from swarmpy.model.node import Node, with_spec

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.2
RETRYABLE: Final = frozenset({Code.FAILED_PRECONDITION, Code.UNAVAILABLE, Code.NOT_LEADER})


class Members:
    """Looks after every change of the nodes, and five times a second, since Raft's progress is no event.

    Args:
        lock: held while the group changes; shared with who lets managers join.
    """

    def __init__(self, store: Store, group: Group, clock: Clock, lock: asyncio.Lock) -> None:
        self._store, self._group, self._clock, self._lock = store, group, clock, lock
        self._silent_since_s: dict[int, float] = {}
        self._said: Step | None = None

    async def run(self) -> None:
        """Keep the group as it should be, until cancelled."""
        while True:
            with self._store.watch(NODES, CLUSTERS) as watch:
                try:
                    while True:
                        async with self._lock:
                            changed = await self._look()
                        if not changed:
                            await next_or_deadline(watch, self._clock, self._clock.monotonic() + LOOK_S)
                            watch.drain()
                except CompactedError as error:
                    log.warning("members_fell_behind", reason=error.message)

    async def _look(self) -> bool:
        """Do the next thing, if there is one; return whether to look again at once."""
        view, status = self._store.view(), self._group.status()
        nodes, cluster = list(view.all(NODES)), next(iter(view.all(CLUSTERS)), None)
        if cluster is None or not status.peers:
            return False
        self._note_silence()
        dead = dead_managers(
            nodes, status, self._silent_since_s, self._clock.monotonic(), cluster.spec.remove_dead_managers_after_s
        )
        for node in dead:
            log.warning("dead_manager_demoted", node=node.id)
        rows = dead or rows_in_step(nodes, status)
        level = risen_level(cluster, nodes, status)
        if rows or level is not None:
            await self._write(rows, level, self._clock.now())
            return True
        return await self._take(next_step(nodes, status))

    def _note_silence(self) -> None:
        status, now_s = self._group.status(), self._clock.monotonic()
        silent = members_of(status.conf) - active_of(status)
        self._silent_since_s = {member_id: self._silent_since_s.get(member_id, now_s) for member_id in silent}

    async def _write(self, rows: list[Node], level: int | None, now_s: float) -> None:
        try:
            await self._store.update(_rows(rows, level, now_s))
        except SwarmError as error:
            if error.code is not Code.OUT_OF_SEQUENCE:
                raise  # otherwise a row has changed since it was read: look again

    async def _take(self, step: Step | None) -> bool:
        said, self._said = self._said, step
        match step:
            case None:
                return False
            case Stuck():
                if step != said:
                    log.warning(
                        "member_must_stay", member=step.member_id, reason=f"{step.reason}, but no quorum is left"
                    )
                return False
            case HandOver():
                log.info("lead_handed_over", reason="this manager is to be a worker")
                await self._try(self._group.transfer)
                return False
            case Admit():
                log.info("member_admitted", member=step.member_id)
                return await self._try(lambda: self._change(ConfChangeKind.ADD_LEARNER, step.member_id))
            case Promote():
                log.info("member_promoted", member=step.member_id)
                return await self._try(lambda: self._change(ConfChangeKind.ADD_VOTER, step.member_id))
            case Remove():
                log.info("member_removed", member=step.member_id, reason=step.reason)
                return await self._try(lambda: self._change(ConfChangeKind.REMOVE, step.member_id))

    async def _change(self, kind: ConfChangeKind, member_id: int) -> None:
        await self._group.change_members(ConfChange(changes=(MemberChange(kind, member_id),)))

    async def _try(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Do what may have to wait for a change under way or a quorum; whoever loses the lead over it is told so."""
        try:
            await work()
        except SwarmError as error:
            if error.code not in RETRYABLE:
                raise
            log.info("members_not_changed", reason=error.message)
            return False
        return True


def _rows(rows: list[Node], level: int | None, now_s: float) -> Callable[[Transaction], None]:
    def change(tx: Transaction) -> None:
        for row in rows:
            before = tx.get(NODES, row.id)
            is_same = before is not None and before.spec == row.spec
            revision = row.spec_revision if is_same else tx.revision
            tx.update(NODES, with_spec(row, row.spec, revision=revision, now_s=now_s))
        if level is not None:
            for cluster in list(tx.all(CLUSTERS)):
                tx.update(CLUSTERS, _at_level(cluster, level))

    return change


def _at_level(cluster: Cluster, level: int) -> Cluster:
    return msgspec.structs.replace(cluster, feature_level=level)
