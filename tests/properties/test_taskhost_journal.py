"""Laws of the task host's journal."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from worker.taskhost.journal import Record, open_journal
from worker.taskhost.table import replay

ids = st.sampled_from(["a", "b", "c", "\N{SNOWMAN}\n"])
whole = st.integers(0, 2**31)
records = st.one_of(
    st.builds(
        lambda i, pid, at: {"kind": "start", "id": i, "pid": pid, "start_time": pid, "at": at, "boot": "b"},
        ids,
        whole,
        st.floats(0, 1e10),
    ),
    st.builds(
        lambda i, status: {"kind": "exit", "id": i, "status": status, "lost": status is None, "at": 1.0},
        ids,
        st.none() | whole,
    ),
    st.builds(lambda i: {"kind": "forget", "id": i}, ids),
    st.builds(lambda pid: {"kind": "probe", "pid": pid, "start_time": 1, "boot": "b"}, whole),
    st.builds(lambda pid: {"kind": "probed", "pid": pid}, whole),
)


def rows(history: list[Record]) -> list[dict[str, object]]:
    return [task.row() for task in replay(history).tasks.values()]


@given(st.lists(records, max_size=12), st.data())
def test_cut_anywhere_a_journal_is_a_prefix_of_itself(history: list[Record], data: st.DataObject) -> None:
    content = b"".join(json.dumps(record).encode() + b"\n" for record in history)
    cut = data.draw(st.integers(0, len(content)))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal"
        path.write_bytes(content[:cut])
        journal, found = open_journal(str(path))
        journal.commit([{"kind": "forget", "id": "later"}])
        journal.close()
        assert found == history[: len(found)]
        assert len(found) == content[:cut].count(b"\n")
        again, more = open_journal(str(path))
        again.close()
        assert more == [*found, {"kind": "forget", "id": "later"}]


@given(st.lists(records, max_size=30))
def test_what_a_compaction_writes_leads_to_the_same_state(history: list[Record]) -> None:
    short: list[Record] = []
    for task in replay(history).tasks.values():
        short.append(task.start_record())
        if task.exited:
            short.append(task.exit_record())
    assert rows(short) == rows(history)


@given(st.lists(st.recursive(st.none() | st.text() | whole, lambda x: st.lists(x) | st.dictionaries(st.text(), x))))
def test_no_record_whatever_breaks_a_replay(history: list[object]) -> None:
    replay([record for record in history if isinstance(record, dict)])
    replay([{"kind": kind, "id": record, "pid": record} for record in history for kind in ("start", "exit", "probe")])
