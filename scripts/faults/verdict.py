"""Judges a round: what the clients were told, and what the managers hold when all is over."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from manager.store.snapshot import SnapshotReader
from manager.store.state import State
from manager.store.tables import CONFIGS, TABLES
from scripts.cluster import Node, until
from scripts.faults.workload import Append
from swarmpy.client import Client
from swarmpy.errors import SwarmError
from swarmpy.snapshot.reader import SnapshotFile
from tests.sim.raft.history import History
from tests.sim.raft.linearizability import TooHardError, check

REST_S: Final = 60.0


@dataclass(frozen=True)
class Held:
    """What one manager holds: `digest` is of every row and request id, `chain` of all that ever came into force."""

    revision: int
    chain: str
    digest: str
    configs: Mapping[str, str]

    def __str__(self) -> str:
        return f"revision {self.revision}, chain {self.chain[:12]}, rows {self.digest[:12]}"


@dataclass(frozen=True)
class Verdict:
    """What is wrong, in sentences. `undecided`: the history had too much at once for it to be judged."""

    wrong: list[str]
    undecided: bool = False


async def at_rest(nodes: Sequence[Node]) -> list[Held]:
    """Return what each manager holds, once all are at one revision and stay there.

    Raises:
        TimeoutError: they do not come to rest.
    """

    async def ask() -> list[Held] | None:
        try:
            held = [await _held(node) for node in nodes]
            again = [await _held(node) for node in nodes]
        except SwarmError:
            return None
        return held if len({one.revision for one in (*held, *again)}) == 1 else None

    return await until(ask, what="all managers are at one revision", deadline_s=REST_S)


async def _held(node: Node) -> Held:
    with tempfile.NamedTemporaryFile(prefix="swarmpy-faults-") as file:
        async with Client.connect(state_dir=node.state_dir, stale=True) as client:
            async for piece in client.cluster.save_snapshot():
                file.write(piece)
        file.flush()
        return held_in(_state(Path(file.name)))


def _state(path: Path) -> State:
    reader = SnapshotReader()
    with SnapshotFile(path) as file:
        for chunk in file.chunks():
            for _ in reader.feed(chunk):
                pass
    return reader.finish()


def held_in(state: State) -> Held:
    """Return what a store's state comes to, whatever the order in which its rows are kept."""
    digest = hashlib.blake2b(digest_size=16)
    for table in TABLES:
        for row in sorted(msgspec.msgpack.encode(row) for row in state.rows(table).all()):
            digest.update(row)
    digest.update(msgspec.msgpack.encode(sorted(state.requests.dump())))
    configs = {config.name: config.id for config in state.rows(CONFIGS).all()}
    return Held(state.revision, state.digest.hex(), digest.hexdigest(), configs)


def judge(history: History, appends: Iterable[Append], held: Mapping[str, Held]) -> Verdict:
    """Judge what the clients were told, and what the managers hold by the name of their nodes."""
    wrong = _not_one_state(held)
    known = next(iter(held.values())).configs
    for append in appends:
        wrong += _of_append(append, known)
    try:
        failure = check(history)
    except TooHardError:
        return Verdict(wrong, undecided=True)
    return Verdict(wrong if failure is None else [*wrong, str(failure)])


def _not_one_state(held: Mapping[str, Held]) -> list[str]:
    if len({(one.revision, one.chain, one.digest) for one in held.values()}) == 1:
        return []
    return ["the managers hold different states: " + "; ".join(f"{name}: {one}" for name, one in held.items())]


def _of_append(append: Append, known: Mapping[str, str]) -> list[str]:
    answers = set(append.config_ids)
    if len(answers) > 1:
        return [f"one request to make {append.name} was answered with several configs: {sorted(answers)}"]
    found = known.get(append.name)
    if answers and found is None:
        return [f"{append.name} was acknowledged (config {append.config_ids[0]}), and is not there"]
    if answers and found not in answers:
        return [f"{append.name} was acknowledged as config {append.config_ids[0]}, and config {found} is there"]
    return []
