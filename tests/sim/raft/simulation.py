"""One run from its seed to its verdict: chaos, then peace, in which everything must come right."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from manager.raft.types import Role
from tests.sim.raft.clients import Clients
from tests.sim.raft.cluster import Cluster
from tests.sim.raft.faults import Faults
from tests.sim.raft.history import Kind, Operation
from tests.sim.raft.host import Fate
from tests.sim.raft.linearizability import TooHardError, check
from tests.sim.raft.machine import content_of
from tests.sim.raft.members import Operator, majority, members_of
from tests.sim.raft.options import TICK_US, Options, stream
from tests.sim.raft.run import Run
from tests.sim.raft.shadow import ViolationError

HEAL_TICKS: Final = 150
CALM_TICKS: Final = 100


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a run.

    Attributes:
        checker: which law was broken, "" if none; `sentence` says how, `trace` what led to it.
        fingerprint: equal in every run of the same options.
        undecided: the history was too hard to judge.
    """

    options: Options
    checker: str
    sentence: str
    trace: tuple[str, ...]
    fingerprint: str
    events: int
    answered: int
    elections: int
    entries: int
    undecided: bool = False

    @property
    def passed(self) -> bool:
        return not self.checker


class Simulation:
    """One run."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.cluster = Cluster(options)
        self.clients = Clients(self.cluster)
        self.operator = Operator(self.cluster, stream(options.seed, "operator"))
        self.faults = Faults(self.cluster, self.operator)
        self.undecided = False

    def run(self) -> Verdict:
        """Return the verdict; whatever goes wrong is one."""
        checker = sentence = ""
        timeline = self.cluster.timeline
        with quiet():
            try:
                self._live()
            except ViolationError as violation:
                checker, sentence = violation.checker, str(violation)
            except Exception as failure:  # noqa: BLE001 - a verdict, whatever it is
                checker, sentence = _place(failure), "".join(traceback.format_exception(failure))
            self.cluster.close()
        return Verdict(
            self.options,
            checker,
            sentence,
            tuple(timeline.trace()) if checker else (),
            timeline.fingerprint,
            timeline.events,
            self.clients.answered,
            len(self.cluster.checks.leaders),
            self.cluster.checks.last_applied,
            self.undecided,
        )

    def _live(self) -> None:
        cluster, timeline = self.cluster, self.cluster.timeline
        with timeline.loop.current():
            for host in list(cluster.hosts.values()):
                host.start()
            self.clients.start()
            self.faults.start()
        timeline.run(self.options.chaos_ticks * TICK_US)
        with timeline.loop.current():
            timeline.note("heal")
            self.faults.heal()
        if self._hopeful():
            self._until("a leader", HEAL_TICKS, self._settled)
            self.clients.busy = False
            self._until("quiet", CALM_TICKS, self._quiet)
            self._check_alike()
            self._read_everything()
        try:
            failure = check(cluster.history)
        except TooHardError:
            self.undecided = True
        else:
            if failure is not None:
                raise ViolationError("linearizability", str(failure))

    def _until(self, what: str, ticks: int, reached: Callable[[], bool]) -> None:
        """Let time pass until `reached`, tick by tick."""
        for _ in range(ticks):
            self.cluster.timeline.run(self.cluster.timeline.now_us + TICK_US)
            if reached():
                return
        raise ViolationError("liveness", f"no {what} {ticks} ticks after everything was healed: {self._state()}")

    def _state(self) -> str:
        lines = [f"members are {self.cluster.checks.last_conf}"]
        for run in self.cluster.running():
            s = run.node.status()
            lines.append(
                f"m{s.member_id} {s.role.value} term {s.term} leader {s.leader_id} last {s.last_index}"
                f" commit {s.commit_index} applied {run.machine.applied}/{s.applied_index} {s.conf} {s.log_full or ''}"
                f" {[(p.member_id, p.match, p.state.value, p.active) for p in s.peers]}"
            )
        return "\n    ".join(lines)

    # Peace

    def _hopeful(self) -> bool:
        """Return whether the members that can still be there are a majority, whatever they take for the members."""
        lost = self.cluster.lost_ids
        confs = [self.cluster.checks.last_conf, *(run.node._core.conf for run in self.cluster.running())]
        return all(majority(conf.voters, lost) and majority(conf.voters_outgoing, lost) for conf in confs)

    def _members(self) -> list[Run]:
        known = members_of(self.cluster.checks.last_conf)
        return [run for run in self.cluster.running() if run.member_id in known]

    def _leader(self) -> Run | None:
        """Return who leads in the newest term."""
        leaders = [run for run in self._members() if run.node._core.role is Role.LEADER]
        return max(leaders, key=lambda run: run.node.term, default=None)

    def _settled(self) -> bool:
        """One leads, its term's entry is committed, no joint stage is left, and a client was answered."""
        leader = self._leader()
        if leader is None:
            return False
        self._end_joint(leader)
        status = leader.node.status()
        return not status.conf.voters_outgoing and status.commit_index == status.last_index

    def _end_joint(self, leader: Run) -> None:
        """A joint stage that was begun to be ended by hand is ended by hand."""
        if leader.node._core.conf.voters_outgoing and not self.operator.busy:
            self.cluster.spawn(self.operator.leave_joint())

    def _quiet(self) -> bool:
        """All members have applied all there is."""
        runs = self._members()
        serving = [h for h in self.cluster.serving() if h.member_id in members_of(self.cluster.checks.last_conf)]
        last = {run.node.status().last_index for run in runs}
        applied = {run.machine.applied for run in runs}
        leads = [run for run in runs if run.node._core.role is Role.LEADER]
        for run in leads:
            self._end_joint(run)
        joint = any(run.node._core.conf.voters_outgoing for run in runs)
        calm = not self.operator.busy and not joint
        return calm and len(runs) == len(serving) and len(last) == 1 and last == applied and len(leads) >= 1

    def _check_alike(self) -> None:
        contents = {run.member_id: content_of(run.machine.store) for run in self._members()}
        if len(set(contents.values())) > 1:
            raise ViolationError("same state", f"the members' states differ: {contents}")
        terms: dict[int, set[int]] = {}
        for run in self._members():
            log = run.node._core.log
            for entry in log.between(log.first_index, log.last_index):
                terms.setdefault(entry.index, set()).add(entry.term)
        differing = [index for index, found in terms.items() if len(found) > 1]
        if differing:
            raise ViolationError("log matching", f"the members' logs differ at {differing[:5]}")

    def _read_everything(self) -> None:
        """Every member answers for every key, and a write goes through."""
        cluster = self.cluster
        keys = sorted(cluster.history.by_key())
        rng = stream(self.options.seed, "last")
        runs = self._members()
        done = [0]

        async def ask(run: Run, operation: Operation, request_id: str) -> None:
            while (answer := await self.clients.ask(run.host, operation, request_id, rng)) is None:
                await cluster.timeline.sleep(100_000)
                if operation.kind is not Kind.READ:
                    run = self._leader() or run
            self.clients.told(operation, answer)
            done[0] += 1

        with cluster.timeline.loop.current():
            for number, (run, key) in enumerate(itertools.product(runs, keys)):
                cluster.spawn(ask(run, cluster.history.invoke(100 + number, Kind.READ, key), ""))
            cluster.spawn(ask(runs[0], cluster.history.invoke(99, Kind.WRITE, "last", "written"), "last"))
        expected = len(runs) * len(keys) + 1
        self._until("answer to a read or write", CALM_TICKS, lambda: done[0] == expected)
        assert all(host.fate is not Fate.SERVES or host.run is not None for host in cluster.hosts.values())


def _place(failure: BaseException) -> str:
    """Name a failure that no checker found by the part of the product that noticed it."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    if isinstance(failure, ViolationError):
        return failure.checker
    frames = [frame.filename for frame in traceback.extract_tb(failure.__traceback__)]
    places = [Path(name).stem for name in frames if "manager" in Path(name).parts]
    return f"{type(failure).__name__} in {places[-1] if places else Path(frames[-1]).stem}"


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what the members log: it is meant for a person who runs one of them."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        yield
    finally:
        structlog.configure(**before)
