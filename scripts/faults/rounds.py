"""One round, from a cluster that is made for it to the verdict."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.cluster import Cluster, until
from scripts.faults.nemesis import Nemesis
from scripts.faults.places import Places
from scripts.faults.plan import Plan
from scripts.faults.verdict import at_rest, judge
from scripts.faults.workload import LABEL, Client, Doors
from swarmpy.model.spec import ContainerSpec, ServiceMode, ServiceSpec, TaskSpec
from swarmpy.model.states import Runtime
from tests.sim.raft.history import History

CLIENTS: Final = 6
REGISTERS: Final = ("r0", "r1", "r2")
WARM_UP_S: Final = 0.5
HEAL_S: Final = 60.0


@dataclass
class Outcome:
    """What came of a round. `wrong` says what is wrong; then the logs are in `kept`. `undecided`: see `Verdict`."""

    plan: Plan
    wrong: list[str] = field(default_factory=list)
    operations: int = 0
    unanswered: int = 0
    undecided: bool = False
    appends: int = 0
    duration_s: float = 0.0
    events: list[str] = field(default_factory=list)
    kept: Path | None = None

    def __str__(self) -> str:
        return (
            f"{self.plan.managers} managers, {self.operations} operations ({self.unanswered} without an answer), "
            f"{self.appends} appends, {self.duration_s:.0f} s{', too hard to judge' * self.undecided}: "
            + ", ".join(" while ".join(one.fault.value for one in episodes) for episodes in self.plan.episodes)
        )


async def run_round(plan: Plan) -> Outcome:
    """Carry a plan out. What went wrong is in the outcome, and so is what the harness left behind.

    Cancelling it ends the round at once, and leaves nothing of it.
    """
    began_s = time.monotonic()
    outcome = Outcome(plan)
    root = Path(tempfile.mkdtemp(prefix="swarmpy-faults-"))
    try:
        with Places(root, plan) as places:
            await _in_places(places, outcome)
    except Exception as error:  # noqa: BLE001 - the boundary of a round: whatever happens is its verdict
        outcome.wrong += _sentences(error)
    except BaseException:
        shutil.rmtree(root)
        raise
    outcome.duration_s = time.monotonic() - began_s
    if outcome.wrong:
        outcome.kept = root
        (root / "events.txt").write_text("\n".join([*outcome.events, "", *outcome.wrong]) + "\n")
    else:
        shutil.rmtree(root)
    return outcome


def _sentences(error: BaseException) -> list[str]:
    """Return what failed, task by task."""
    if isinstance(error, BaseExceptionGroup):
        return [sentence for one in error.exceptions for sentence in _sentences(one)]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return [f"{type(error).__name__}: {error} (line {frame.lineno} of {frame.filename})"]


async def _in_places(places: Places, outcome: Outcome) -> None:
    cluster = places.cluster
    try:
        await places.start()
        await _among(places, outcome)
    except BaseException:
        places.heal()  # a node that stands still does not stop
        raise
    finally:
        try:
            await cluster.close()
            await asyncio.to_thread(cluster.stop)
        finally:
            await asyncio.to_thread(cluster.discard)


async def _among(places: Places, outcome: Outcome) -> None:
    """Let clients and the nemesis loose on a cluster that runs, and judge what came of it."""
    cluster, plan, history = places.cluster, outcome.plan, History()
    services = {key: await _register(cluster, key) for key in REGISTERS}
    doors = Doors(cluster.managers)
    clients = [
        Client(number, doors, services, history, random.Random(f"{plan.seed} client {number}"))
        for number in range(CLIENTS)
    ]
    nemesis = Nemesis(places)
    is_over = asyncio.Event()
    try:
        try:
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(client.run(lambda: not is_over.is_set()))
                await asyncio.sleep(WARM_UP_S)
                for episodes in plan.episodes:
                    await nemesis.carry_out(episodes)
                places.heal()
                nemesis.note("everything is healed")
                await until(places.is_whole, what="all managers are well again", deadline_s=HEAL_S)
                nemesis.note("all managers are well again")
                is_over.set()
        finally:
            outcome.events += nemesis.log
        for key in REGISTERS:
            for door in range(len(cluster.managers)):
                await clients[0].read(key, door)
        held = await at_rest(cluster.managers)
    finally:
        await doors.close()
    appends = [append for client in clients for append in client.appends]
    outcome.operations, outcome.appends = len(history.operations), len(appends)
    outcome.unanswered = sum(operation.returned is None for operation in history.operations)
    names = (node.name for node in cluster.managers)
    verdict = await asyncio.to_thread(judge, history, appends, dict(zip(names, held, strict=True)))
    outcome.wrong, outcome.undecided = [*outcome.wrong, *verdict.wrong], verdict.undecided
    outcome.events += [str(operation) for operation in history.operations] if outcome.wrong else []


async def _register(cluster: Cluster, key: str) -> str:
    """Make the service that a register is; return its id."""
    task = TaskSpec(runtime=Runtime.PROCESS, container=ContainerSpec(command=("true",)))
    spec = ServiceSpec(name=key, task=task, mode=ServiceMode(replicas=0), labels={LABEL: ""})
    return (await cluster.client.services.create(spec)).service.id
