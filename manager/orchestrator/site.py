"""What the slots of one service are judged by: its spec, its templates, and the nodes its tasks are on."""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec

from manager.orchestrator.fitness import placement_problem
from swarmpy.model.endpoints import PublishMode
from swarmpy.model.node import Node
from swarmpy.model.service import Service, ServiceVersion
from swarmpy.model.spec import Placement
from swarmpy.model.states import Availability, NodeState, TaskState, UpdateState
from swarmpy.model.task import Task


class Fate(enum.Enum):
    """What a task's node means for the task: LOST is gone with its node, LEAVING must go once replaced."""

    STAYS = 0
    LEAVING = 1
    LOST = 2


class Site:
    """A service and its surroundings at one moment. Asks for nodes and versions only as needed."""

    def __init__(
        self,
        service: Service,
        *,
        node: Callable[[str], Node | None],
        version: Callable[[int], ServiceVersion | None],
        now: float,
    ) -> None:
        """`now` is in wall seconds; `version` gives a template of this service by its number."""
        self.service = service
        self.now = now
        self._node = node
        self._version = version
        self._differs: dict[int, bool] = {}
        self._fits: dict[str, bool] = {}

    @property
    def is_paused(self) -> bool:
        """Whether the update to the present spec is paused."""
        status = self.service.update_status
        return status.state is UpdateState.PAUSED and status.started_at == self.service.updated_at

    def fate(self, task: Task) -> Fate:
        if not task.node_id:
            return Fate.STAYS
        node = self._node(task.node_id)
        if node is None or node.state is NodeState.DOWN:
            return Fate.LOST
        return Fate.LEAVING if node.spec.availability is Availability.DRAIN else Fate.STAYS

    def why(self, task: Task) -> str:
        """Say why a task that is LOST or LEAVING has to go."""
        node = self._node(task.node_id)
        if node is None:
            return f"node {task.node_id} was removed"
        if node.state is NodeState.DOWN:
            return f"node {node.name} is down"
        return f"node {node.name} is drained"

    def is_outdated(self, task: Task) -> bool:
        """Tell whether the task's template differs from the present one so that it must be replaced.

        Where only the placement differs, a task stays while its node fits the present one.
        """
        number = task.spec_version
        if number == self.service.spec_version:
            return False
        differs = self._differs.get(number)
        if differs is None:
            differs = self._differs[number] = _differs(self._version(number), self._version(self.service.spec_version))
        if differs:
            return True
        return not self._fits_placement(task.node_id)

    def _fits_placement(self, node_id: str) -> bool:
        fits = self._fits.get(node_id)
        if fits is None:
            node = self._node(node_id) if node_id else None
            fits = node is not None and placement_problem(self.service.spec.task.placement, node) is None
            self._fits[node_id] = fits
        return fits

    def version_for(self, task: Task) -> int:
        """Return the version that a replacement of `task` gets: while the update is paused, its own."""
        return task.spec_version if self.is_paused else self.service.spec_version

    def blocks(self, task: Task) -> bool:
        """Tell whether a task was asked to stop and may still be running."""
        return task.desired_state > TaskState.RUNNING and task.occupies_node and self.fate(task) is not Fate.LOST


def _differs(old: ServiceVersion | None, new: ServiceVersion | None) -> bool:
    if old is None or new is None:
        return True
    return _compared(old) != _compared(new)


def _compared(version: ServiceVersion) -> object:
    ports = {
        (port.target, port.transport, *((port.published, port.address) if port.mode is PublishMode.HOST else ()))
        for port in version.ports
    }
    return msgspec.structs.replace(version.task, placement=Placement()), ports
