"""What a task asks of a node, in the words that nodes use of themselves. Pure."""

from __future__ import annotations

from swarmpy.model.network import HOST, PREDEFINED
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
    if _joins(task):
        needed.append(Capability.NETWORK)
    return tuple(needed)


def _joins(task: TaskSpec) -> bool:
    """Tell whether the node must attach the task to something: a container runtime has the predefined networks."""
    given = (HOST,) if task.runtime is Runtime.PROCESS else PREDEFINED
    return any(joined.target not in given for joined in task.networks)
