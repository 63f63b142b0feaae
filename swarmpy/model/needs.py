"""What a task asks of a node, in the words that nodes use of themselves. Pure."""

from __future__ import annotations

from swarmpy.model.node import Capability
from swarmpy.model.spec import TaskSpec
from swarmpy.model.states import Runtime


def needed_capabilities(task: TaskSpec) -> tuple[Capability, ...]:
    """Return what a node must be able to do to run and limit this task."""
    needed = [Capability.PROCESS if task.runtime is Runtime.PROCESS else Capability.CONTAINER]
    if task.limits.memory_bytes:
        needed.append(Capability.LIMIT_MEMORY)
    if task.limits.nano_cpus:
        needed.append(Capability.LIMIT_CPU)
    if task.limits.pids:
        needed.append(Capability.LIMIT_PIDS)
    if task.container.user:
        needed.append(Capability.SWITCH_USER)
    return tuple(needed)
