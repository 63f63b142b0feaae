"""The parts that look after the containers of a node's users, put together."""

from __future__ import annotations

import random
from pathlib import Path

from swarmpy.clock import Clock
from worker.alarms import Alarms
from worker.containers.desk import Desk
from worker.containers.keeper import Keeper
from worker.containers.life_span import is_new_life
from worker.containers.record import Records
from worker.executor.container.assembly import Containers
from worker.logs.store import LogStore
from worker.task.runner import TaskRunner


def make_desk(
    containers: Containers,
    *,
    state_dir: Path,
    boot_id: str,
    runner: TaskRunner,
    alarms: Alarms,
    logs: LogStore,
    clock: Clock,
    rng: random.Random,
) -> Desk:
    """Return the desk; its keeper must be run."""
    keeper = Keeper(
        records=Records(state_dir / "worker" / "containers"),
        runner=runner,
        alarms=alarms,
        clock=clock,
        rng=rng,
        delete=containers.executor.remove,
        is_new_life=is_new_life(state_dir / "worker" / "life", boot_id),
    )
    return Desk(keeper, containers, runner, logs, clock)
