"""Clusters of cores, by scenarios as text in tests/testdata/raft/core; tests.support.raft_script says how to read them.

| command | what it does |
|---|---|
| cluster 1,2,3 learners=4 pre_vote=false | begins a cluster anew; other numbers of CoreConfig likewise |
| leader 1 | lets 1 stand and brings all messages, without a word |
| join 4 | begins a member that knows nobody |
| written 2 1,1,4 term=5 commit=1 | a start of 2 with entries of these terms |
| campaign 1 | 1 stands for leader |
| tick 1,2 10 | lets ten ticks pass for 1 and 2, a tick at a time for each; no messages are brought |
| time 10 | lets ten ticks pass for all that run, all messages being brought after each; says what changed roles |
| propose 1 x y | |
| deliver | brings all messages, until nothing moves |
| deliver 1->2 (or ->3, APPEND, 1->2 APPEND, 1->2 first) | brings those that are on their way now |
| drop 1->2 (and as above) | loses messages on their way |
| twice 1->2 | doubles messages on their way |
| run | `deliver`, saying only how the members stand then |
| partition 1,2 3 / heal | cuts the net between groups; `cut 1->2` cuts one direction |
| stop 3 / restart 3 (or restart 3 term=9) | a crash; and a start with what was stored (but for the term) |
| compact 1 5 keep=2 | a snapshot of 1 at entry 5, the log forgotten but for two entries before it |
| snapshot-sent 1 2 ok (or failed), unreachable 1 2, leader-lost 2 | what a driver reports |
| conf-change 1 v4 r2 implicit | see raft_text; `leave-joint` leaves |
| transfer 1 2, resign 1, read 2 r1 | |
| say 9->1 VOTE term=5 index=7 entries=5/8,5/9 snapshot=5/9:1,2,3 | a message that nobody sent; see Message |
| ignored 1 | how many messages were not taken, and why |
| log 1, status, peers 1, sent | the entries held and the state applied; how all stand; what is on its way |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from manager.raft import confchange
from manager.raft.config import CoreConfig
from manager.raft.types import ConfChange, ConfState, Entry, EntryKind, HardState, Message, Transition
from swarmpy.errors import SwarmError
from tests.support.raft_script import ScriptedCluster, ScriptedMember, refusal
from tests.support.raft_text import TRANSITIONS, changes_of, entry_text, message_of, message_text
from tests.support.scenario import check_scenario

SCENARIOS = sorted((Path(__file__).parents[3] / "testdata" / "raft" / "core").glob("*.txt"))
PAIR = re.compile(r"(\d*)->(\d*)")


def ids(listed: str) -> tuple[int, ...]:
    return tuple(int(word) for word in listed.split(",") if word)


class Session:
    """Carries out a scenario's commands."""

    def __init__(self) -> None:
        self._net = ScriptedCluster(ConfState(), CoreConfig())

    def execute(self, lines: list[str]) -> list[str]:
        trace = []
        for line in lines:
            verb, *args = line.split()
            command: Callable[..., list[str]] = getattr(self, f"do_{verb.replace('-', '_')}")
            try:
                trace += command(*args)
            except SwarmError as error:
                trace.append(refusal(error))
        return trace or ["ok"]

    def do_cluster(self, voters: str, *options: str) -> list[str]:
        given = dict(option.split("=") for option in options)
        conf = ConfState(ids(voters), ids(given.pop("learners", "")))
        assert given.keys() <= {field.name for field in fields(CoreConfig)}, f"no such settings: {options}"
        config = msgspec.convert(given, CoreConfig, strict=False)
        self._net = ScriptedCluster(conf, config)
        return []

    def do_leader(self, member: str) -> list[str]:
        self.do_campaign(member)
        self._net.deliver_all()
        return self.do_status()

    def do_join(self, member: str) -> list[str]:
        self._net.join(int(member), ConfState())
        return []

    def do_written(self, member: str, terms: str, *options: str) -> list[str]:
        given = {name: int(value) for name, value in (option.split("=") for option in options)}
        entries = [Entry(term, place, EntryKind.NORMAL, b"x") for place, term in enumerate(ids(terms), 1)]
        self._member(member).stored = entries
        self._member(member).hard = HardState(given.get("term", entries[-1].term), 0, given.get("commit", 0))
        return self.do_restart(member)

    def do_campaign(self, member: str) -> list[str]:
        self._member(member).core.campaign()
        return self._settle(member)

    def do_tick(self, members: str, count: str = "1") -> list[str]:
        chosen = [self._net[i] for i in ids(members)]
        return [line for _ in range(int(count)) for member in chosen for line in self._net.tick(member)]

    def do_time(self, count: str) -> list[str]:
        trace = []
        for number in range(1, int(count) + 1):
            ticked = [line for member in self._net.running() for line in self._net.tick(member)]
            ticked += self._net.deliver_all()
            trace += [f"tick {number}: {line}" for line in ticked if re.match(r"\d+ \S", line)]
        return trace

    def do_propose(self, member: str, *data: str) -> list[str]:
        for word in data:
            self._member(member).core.propose(word.encode())
        return self._settle(member)

    def do_deliver(self, *which: str) -> list[str]:
        return self._net.deliver(self._chosen(which)) if which else self._net.deliver_all()

    def do_drop(self, *which: str) -> list[str]:
        chosen = self._chosen(which)
        for message in chosen:
            self._net.on_the_way.remove(message)
        return [f"{message_text(message)} lost" for message in chosen]

    def do_twice(self, *which: str) -> list[str]:
        self._net.on_the_way += self._chosen(which)
        return self.do_sent()

    def do_sent(self) -> list[str]:
        return [message_text(message) for message in self._net.on_the_way] or ["nothing"]

    def do_run(self) -> list[str]:
        self._net.deliver_all()
        return self.do_status()

    def do_partition(self, *groups: str) -> list[str]:
        sides = [ids(group) for group in groups]
        self._net.cut |= {(a, b) for one in sides for other in sides if one is not other for a in one for b in other}
        return []

    def do_cut(self, pair: str) -> list[str]:
        sender, to = pair.split("->")
        self._net.cut.add((int(sender), int(to)))
        return []

    def do_heal(self) -> list[str]:
        self._net.cut.clear()
        return []

    def do_stop(self, member: str) -> list[str]:
        self._net.stopped.add(int(member))
        return []

    def do_restart(self, member: str, term: str = "") -> list[str]:
        self._net.stopped.discard(int(member))
        if term:
            self._member(member).hard = HardState(int(term.removeprefix("term=")), 0, self._member(member).hard.commit)
        self._member(member).restart()
        return [self._member(member).status(), *self._settle(member)]

    def do_compact(self, member: str, index: str, keep: str = "keep=0") -> list[str]:
        self._member(member).snapshot(int(index), int(keep.removeprefix("keep=")))
        return self.do_log(member)

    def do_conf_change(self, member: str, *words: str) -> list[str]:
        named = [TRANSITIONS[word] for word in words if word in TRANSITIONS]
        changes = changes_of([word for word in words if word not in TRANSITIONS and word != "leave-joint"])
        transition = named[0] if named else Transition.AUTO
        self._member(member).core.propose_conf_change(ConfChange(changes, transition))
        return self._settle(member)

    def do_transfer(self, member: str, to: str) -> list[str]:
        self._member(member).core.transfer(int(to))
        return self._settle(member)

    def do_resign(self, member: str) -> list[str]:
        self._member(member).core.resign()
        return self._settle(member)

    def do_read(self, member: str, context: str) -> list[str]:
        self._member(member).core.read_index(context.encode())
        return self._settle(member)

    def do_leader_lost(self, member: str) -> list[str]:
        self._member(member).core.leader_lost()
        return self._settle(member)

    def do_unreachable(self, member: str, other: str) -> list[str]:
        self._member(member).core.report_unreachable(int(other))
        return self._settle(member)

    def do_snapshot_sent(self, member: str, other: str, outcome: str) -> list[str]:
        self._member(member).core.report_snapshot(int(other), outcome == "ok")
        return self._settle(member)

    def do_say(self, pair: str, kind: str, *words: str) -> list[str]:
        message = message_of(pair, kind, words)
        receiver = self._net[int(pair.split("->")[1])]
        receiver.core.step(message)
        return self._net.settle([receiver])

    def do_log(self, member: str) -> list[str]:
        held = self._member(member).core.log
        entries = held.between(held.first_index, held.last_index)
        applied = ", ".join(self._member(member).applied) or "nothing"
        return [f"holds {', '.join(entry_text(e) for e in entries) or 'nothing'}", f"applied {applied}"]

    def do_status(self) -> list[str]:
        return [member.status() for member in self._net.running()]

    def do_peers(self, member: str) -> list[str]:
        peers = {peer.member_id: peer for peer in self._member(member).core.peers()}
        return confchange.describe(peers).splitlines()

    def do_ignored(self, member: str) -> list[str]:
        return [f"{count} {why}" for why, count in sorted(self._member(member).core.ignored.items())]

    def _member(self, member: str) -> ScriptedMember:
        return self._net[int(member)]

    def _settle(self, member: str) -> list[str]:
        return self._net.settle([self._member(member)])

    def _chosen(self, which: tuple[str, ...]) -> list[Message]:
        """Return the messages on their way that fit every word: `1->2`, `1->`, `->2`, a kind, or `first`."""
        chosen = self._net.on_the_way
        for word in which:
            pair = PAIR.fullmatch(word)
            if word == "first":
                chosen = chosen[:1]
            elif pair is None:
                chosen = [m for m in chosen if m.kind.name == word]
            else:
                sender, to = pair.groups()
                chosen = [m for m in chosen if sender in ("", str(m.sender)) and to in ("", str(m.to))]
        return list(chosen)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    check_scenario(path, Session().execute)
