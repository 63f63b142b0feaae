"""The store against a model of plain dicts: every interleaving of writes, commits, failures and restores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from manager.store import codec
from manager.store.line import Limits
from manager.store.state import GENESIS
from manager.store.store import Store
from manager.store.tables import SERVICES, TASKS, Table
from manager.store.transaction import Transaction
from manager.store.view import View
from swarmpy.errors import Code, SwarmError
from swarmpy.model.service import Service
from swarmpy.model.spec import ServiceSpec
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task
from tests.support.clock import settle
from tests.support.store import FakeProposer

IDS = [f"id{number}" for number in range(6)]
OWNERS = ["s1", "s2"]
NODES = ["", "n1", "n2"]
Model = dict[str, dict[str, tuple[Any, ...]]]
BY_NAME: dict[str, Table[Any]] = {"tasks": TASKS, "services": SERVICES}

tasks = st.builds(
    Task,
    id=st.sampled_from(IDS),
    service_id=st.sampled_from(OWNERS),
    spec_version=st.just(1),
    slot=st.integers(1, 2),
    node_id=st.sampled_from(NODES),
    state=st.sampled_from(TaskState),
)
services = st.builds(
    Service,
    id=st.sampled_from(IDS[:3]),
    spec=st.builds(ServiceSpec, name=st.sampled_from(["web", "WEB", "db"])),
)
deletions = st.tuples(st.sampled_from(["tasks", "services"]), st.sampled_from(IDS))
operation = st.one_of(tasks, services, deletions)


class DroppedError(Exception):
    """Raised by a change function to drop its transaction."""


def put(tx: Transaction, row: Task | Service) -> None:
    """Create or update a row through the transaction, with the version that is stored."""
    table: Any = TASKS if isinstance(row, Task) else SERVICES
    stored = tx.get(table, row.id)
    if stored is None:
        written = tx.create(table, row)
    else:
        written = tx.update(table, msgspec.structs.replace(row, version=stored.version))
    assert tx.get(table, row.id) == written
    assert written.version == tx.revision


def contents(view: View) -> Model:
    """Return all rows of a view as plain data."""
    return {
        "tasks": {t.id: (t.service_id, t.slot, t.node_id, t.state, t.version) for t in view.all(TASKS)},
        "services": {s.id: (s.name, s.version) for s in view.all(SERVICES)},
    }


def check_reads(view: View) -> None:
    """Every index, count and page of a view says what a walk over all its rows says."""
    rows = {task.id: task for task in view.all(TASKS)}

    def same(index: str, key: str, wanted: Callable[[Task], bool]) -> None:
        expected = {task.id for task in rows.values() if wanted(task)}
        found = view.find(TASKS, index, key)
        assert len(found) == view.count(TASKS, index, key) == len(expected)
        assert {task.id for task in found} == expected

    for owner in [*OWNERS, "none"]:
        same("service_id", owner, lambda task, owner=owner: task.service_id == owner)  # type: ignore[misc]  # default
        for slot in (1, 2, 3):
            same(
                "slot",
                f"{owner}/{slot}",
                lambda task, at=(owner, slot): (task.service_id, task.slot) == at,  # type: ignore[misc]  # default
            )
    for node in NODES:
        same("node_id", node, lambda task, node=node: task.node_id == node)  # type: ignore[misc]  # default
    for name in ("web", "DB"):
        named = [s for s in view.all(SERVICES) if s.name.casefold() == name.casefold()]
        assert list(view.find(SERVICES, "name", name)) == named
        assert len(named) <= 1
    for after in ["", *IDS]:
        expected_page = sorted(row_id for row_id in rows if row_id > after)[:2]
        assert [task.id for task in view.after(TASKS, after, 2)] == expected_page


class StoreMachine(RuleBasedStateMachine):
    """`applied` is what must be in force, `overlay` what the next transaction must see."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.proposer = FakeProposer(hold=True)
        self.store = self.runner.run(self._start())
        self.follower = Store(FakeProposer())
        self.proposer.attach(self.follower.apply)
        self.watch = self.store.watch().__enter__()
        self.replayed: Model = {"tasks": {}, "services": {}}
        self.applied: Model = {"tasks": {}, "services": {}}
        self.overlay: Model = {"tasks": {}, "services": {}}
        self.after_revision: dict[int, Model] = {}
        self.after_entry: dict[bytes, Model] = {}
        self.line: list[bytes] = []
        self.lost: list[bytes] = []
        self.noted = 0
        self.digest = GENESIS
        self.updates: list[asyncio.Task[None]] = []

    async def _start(self) -> Store:
        store = Store(self.proposer, history_changes=1000, limits=Limits(changes=4, entries_in_flight=3))
        self.proposer.attach(store.apply)
        self.running = asyncio.get_running_loop().create_task(store.run())
        await settle(3)
        return store

    def teardown(self) -> None:
        async def stop() -> None:
            self.running.cancel()
            await asyncio.gather(self.running, *self.updates, return_exceptions=True)

        self.runner.run(stop())
        self.runner.close()

    @rule(transactions=st.lists(st.lists(operation, max_size=4), min_size=1, max_size=4))
    def update(self, transactions: list[list[Any]]) -> None:
        async def start() -> None:
            self.updates += [
                asyncio.get_running_loop().create_task(self._update(operations)) for operations in transactions
            ]
            await settle(5)

        self.runner.run(start())
        self._note_entries()

    @rule(operations=st.lists(operation, max_size=4))
    def dropped_update(self, operations: list[Any]) -> None:
        async def drop() -> None:
            def change(tx: Transaction) -> None:
                self._operate(tx, operations)
                raise DroppedError

            with pytest.raises(DroppedError):
                await self.store.update(change)

        self.runner.run(drop())

    async def _update(self, operations: list[Any]) -> None:
        def change(tx: Transaction) -> None:
            self._operate(tx, operations)
            after = contents(tx)
            if after != self.overlay:
                self.overlay = self.after_revision[tx.revision] = after

        try:
            await self.store.update(change)
        except SwarmError as error:
            assert error.code is Code.UNAVAILABLE, error

    def _operate(self, tx: Transaction, operations: list[Any]) -> None:
        assert contents(tx) == self.overlay
        for operation in operations:
            try:
                if isinstance(operation, tuple):
                    tx.delete(BY_NAME[operation[0]], operation[1])
                else:
                    put(tx, operation)
            except SwarmError as error:
                assert error.code in (Code.NOT_FOUND, Code.ALREADY_EXISTS), error
        check_reads(tx)

    @rule()
    def commit(self) -> None:
        if self.proposer.in_flight:
            self._append(self.proposer.commit)

    @rule()
    def fail(self) -> None:
        if not self.proposer.in_flight:
            return
        entry = self.proposer.fail()
        self.runner.run(settle(5))
        self.lost.append(entry)
        if entry in self.line:
            self._discard()
        self._note_entries()

    @rule(data=st.data())
    def commit_lost(self, data: st.DataObject) -> None:
        if not self.lost:
            return
        entry = self.lost.pop(data.draw(st.integers(0, len(self.lost) - 1)))
        self._append(lambda: self.proposer.append(entry))

    @rule()
    def restore_follower(self) -> None:
        restored = Store(FakeProposer())
        self.runner.run(restored.restore(list(self.follower.snapshot())))
        assert list(restored.snapshot()) == list(self.follower.snapshot())
        check_reads(restored.view())
        self.proposer.replace(self.follower.apply, restored.apply)
        self.follower = restored

    @invariant()
    def updates_end_well(self) -> None:
        for update in [update for update in self.updates if update.done()]:
            self.updates.remove(update)
            update.result()

    @invariant()
    def applied_state_is_the_model(self) -> None:
        assert contents(self.store.view()) == self.applied
        check_reads(self.store.view())

    @invariant()
    def follower_is_the_same(self) -> None:
        assert list(self.follower.snapshot()) == list(self.store.snapshot())

    @invariant()
    def watch_tells_every_change(self) -> None:
        for commit in self.watch.drain():
            for change in commit.changes:
                rows = self.replayed[change.table.name]
                before = _plain(change.before)
                assert rows.get(change.id) == before, "before is what was there"
                if change.after is None:
                    del rows[change.id]
                else:
                    assert change.after.version == commit.revision
                    rows[change.id] = _plain(change.after) or ()
        assert self.replayed == self.applied

    def _append(self, append: Callable[[], None]) -> None:
        append()
        self.runner.run(settle(5))
        entry = self.proposer.log[-1]
        if codec.parent_of(entry) == self.digest:
            self.digest = codec.digest_of(entry)
            self.applied = self.after_entry[entry]
            if self.line and self.line[0] == entry:
                self.line.pop(0)
            else:
                self._discard()
        self._note_entries()

    def _discard(self) -> None:
        self.line.clear()
        self.overlay = self.applied

    def _note_entries(self) -> None:
        """Learn which entries the store has sent since, and what the state is to be after each."""
        for entry in self.proposer.sent[self.noted :]:
            body = codec.decode_body(entry)
            self.after_entry[entry] = self.after_revision[body.revision + len(body.transactions) - 1]
            self.line.append(entry)
        self.noted = len(self.proposer.sent)


def _plain(row: Any) -> tuple[Any, ...] | None:
    if row is None:
        return None
    if isinstance(row, Task):
        return (row.service_id, row.slot, row.node_id, row.state, row.version)
    return (row.name, row.version)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
