"""The core, by scenarios as text in tests/testdata/raft, and what it refuses."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from manager.raft.core import CoreConfig, RaftCore
from manager.raft.entries import EntryLog
from manager.raft.types import ConfState, Entry, EntryKind, HardState, Ready, SnapshotMark
from swarmpy.errors import Code, SwarmError
from tests.support.scenario import check_scenario

SCENARIOS = sorted((Path(__file__).parents[3] / "testdata" / "raft").glob("*.txt"))
ONLY = ConfState(voters=(7,))


def new_core(
    *,
    entries: int = 0,
    hard: HardState | None = None,
    mark: SnapshotMark | None = None,
    config: CoreConfig | None = None,
) -> RaftCore:
    """Return member 7 with entries 1 to `entries` of term 1 stored."""
    mark = mark or SnapshotMark(conf=ONLY)
    held = [Entry(1, i, EntryKind.NORMAL, b"%d" % i) for i in range(1, entries + 1)]
    log = EntryLog.recovered(mark, held)
    return RaftCore(7, hard or HardState(), mark.conf, log, mark.index, config or CoreConfig(), random.Random(7))


class Session:
    """Carries out a scenario's commands on one core."""

    def __init__(self) -> None:
        self._core = new_core()

    def execute(self, words: list[str]) -> str:
        verb, args = words[0], words[1:]
        try:
            return str(getattr(self, verb)(*args)) or "ok"
        except SwarmError as error:
            return f"{error.code}: {error}"

    def new(self, *args: str) -> str:
        given = dict(arg.split("=") for arg in args)
        term, commit, applied = (int(given.get(name, 0)) for name in ("term", "commit", "applied"))
        mark = SnapshotMark(applied, min(applied, 1), ONLY)
        config = CoreConfig(int(given.get("uncommitted_bytes", 1000)), int(given.get("apply_entries", 100)))
        entries = int(given.get("entries", 0))
        self._core = new_core(entries=entries, hard=HardState(term, 7, commit), mark=mark, config=config)
        return self.state()

    def state(self) -> str:
        core = self._core
        lead = core.leader_id or "nobody"
        return f"{core.role.value} term={core.term} commit={core.commit_index} last={core.log.last_index} leader={lead}"

    def tick(self) -> str:
        self._core.tick()
        return self.state()

    def propose(self, data: str) -> str:
        return f"entry {self._core.propose(data.encode())}"

    def ready(self) -> str:
        """Show what is to be done; it is not done yet."""
        ready = self._core.ready()
        return "nothing" if ready is None else _show(ready)

    def advance(self) -> str:
        self._core.advance()
        return self.state()

    def drain(self) -> str:
        """Do all that is ready."""
        shown = []
        while (ready := self._core.ready()) is not None:
            shown.append(_show(ready))
            self._core.advance()
        return "\nthen\n".join(shown) or "nothing"


def _show(ready: Ready) -> str:
    lines = []
    if ready.hard_state is not None:
        hard = ready.hard_state
        lines.append(f"store term={hard.term} vote={hard.vote} commit={hard.commit}")
    lines += [f"store {_entry(e)}" for e in ready.entries]
    lines += ["sync"] * ready.must_sync
    lines += [f"apply {_entry(e)}" for e in ready.committed]
    if ready.leadership is not None:
        lines.append(f"say leader={ready.leadership.is_leader} term={ready.leadership.term}")
    return "\n".join(lines)


def _entry(entry: Entry) -> str:
    return f"{entry.term}/{entry.index} {entry.kind.name} {entry.data.decode()}".strip()


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    session = Session()
    check_scenario(path, lambda lines: [out for line in lines for out in session.execute(line.split()).splitlines()])


def test_entries_are_cut_by_bytes_but_one_always_comes() -> None:
    log = EntryLog(0, 0, [Entry(1, i, EntryKind.NORMAL, bytes(100)) for i in range(1, 6)])
    assert [e.index for e in log.between(1, 5, max_bytes=250)] == [1, 2]
    assert [e.index for e in log.between(2, 5, max_bytes=10)] == [2]
    assert log.between(3, 2) == ()


def test_compacted_entries_are_gone_but_the_last_one_s_term() -> None:
    log = EntryLog(0, 0, [Entry(i, i, EntryKind.NORMAL, b"") for i in range(1, 6)])
    log.compact(3)
    log.compact(2)
    assert (log.first_index, log.last_index, log.term(3), log.term(5)) == (4, 5, 3, 5)
    with pytest.raises(SwarmError) as caught:
        log.term(2)
    assert caught.value.code is Code.COMPACTED
    with pytest.raises(SwarmError) as caught:
        log.term(6)
    assert caught.value.code is Code.NOT_FOUND
