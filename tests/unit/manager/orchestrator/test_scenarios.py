"""Scenarios of the orchestrator as text: tests/testdata/orchestrator/*.txt.

node NAME [down|drain|pause]          add or change a node; `remove-node NAME`
service key=value ...                 create web, or update it: replicas image constraint label, order parallelism
                                      delay monitor ratio action, condition restart-delay attempts window
look                                  what the orchestrator would do now, not done
plan                                  do it
step [N]                              plan, and everyone else's work, N times; prints what was done
settle                                until nothing happens any more
does SLOT.VERSION WHAT                script: serve fail complete reject never-ready hang-on-stop (`*` is any); or @NODE
end SLOT STATE                        the running task of a slot ends by itself
wait SECONDS                          time passes
lead                                  another leader takes over
tasks                                 what there is
status                                the update's status
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from manager.orchestrator.actions import Action, ReleaseTask, StartTask, StopTask
from manager.orchestrator.slot import is_free
from manager.store.tables import NODES, TASKS
from swarmpy.model.spec import Placement, RestartPolicy, ServiceSpec
from swarmpy.model.states import (
    Availability,
    FailureAction,
    NodeState,
    RestartCondition,
    TaskState,
    UpdateOrder,
    word,
)
from swarmpy.model.task import Task
from tests.support.cluster import Does, node, service_spec
from tests.support.planning import Planning
from tests.support.scenario import check_scenario

TESTDATA = Path(__file__).parents[3] / "testdata" / "orchestrator"


class Story:
    """Runs the commands of one file."""

    def __init__(self) -> None:
        self.does: dict[tuple[str, str], Does] = {}
        self.planning = Planning(script=self.script)
        self.spec: ServiceSpec = service_spec()
        self.created = False
        self.numbers: dict[str, int] = {}

    def script(self, task: Task) -> Does:
        for key in (
            ("@", task.node_id),
            (str(task.slot), str(task.spec_version)),
            ("*", str(task.spec_version)),
            (str(task.slot), "*"),
        ):
            if key in self.does:
                return self.does[key]
        return Does.SERVE

    def run(self, commands: list[str]) -> list[str]:
        lines: list[str] = []
        for command in commands:
            verb, *words = command.split()
            lines += getattr(self, f"do_{verb.replace('-', '_')}")(*words) or []
        return lines or ["ok"]

    def do_node(self, name: str, what: str = "", *labels: str) -> None:
        row = self.planning.tables.get(NODES, name) or node(name)
        state = NodeState.DOWN if what == "down" else NodeState.READY
        availability = {"drain": Availability.DRAIN, "pause": Availability.PAUSE}.get(what, Availability.ACTIVE)
        spec = msgspec.structs.replace(row.spec, availability=availability)
        if labels:
            spec = msgspec.structs.replace(spec, labels=dict(label.split("=") for label in labels))
        self.planning.tables.put(NODES, msgspec.structs.replace(row, state=state, spec=spec))

    def do_remove_node(self, name: str) -> None:
        self.planning.tables.delete(NODES, name)

    def do_service(self, *settings: str) -> None:
        for setting in settings:
            key, value = setting.split("=", 1)
            self.spec = changed(self.spec, key, value)
        if self.created:
            self.planning.update(self.spec)
        else:
            self.planning.create(self.spec)
        self.created = True

    def do_look(self) -> list[str]:
        decision, wake_at = self.planning.decide()
        lines = [self.told(action) for group in decision.groups for action in group.actions]
        if decision.status is not None:
            lines.append(f"status {word(decision.status.state)}: {decision.status.message}")
        if wake_at is not None:
            lines.append(f"look again in {wake_at - self.planning.now:g} s")
        return lines or ["nothing to do"]

    def do_plan(self) -> list[str]:
        before = self.planning.service().update_status
        lines = [self.told(action) for action in self.planning.plan()]
        after = self.planning.service().update_status
        if after != before:
            lines.append(f"status {word(after.state)}: {self.readable(after.message)}")
        return lines or ["nothing to do"]

    def do_step(self, count: str = "1") -> list[str]:
        lines = []
        for _ in range(int(count)):
            lines += [line for line in self.do_plan() if line != "nothing to do"]
            self.planning.step()
        return lines

    def do_settle(self) -> list[str]:
        self.planning.settle()
        return self.do_tasks()

    def do_does(self, which: str, what: str) -> None:
        slot, _, version = which.partition(".")
        key = ("@", which[1:]) if which.startswith("@") else (slot, version)
        self.does[key] = Does(what.replace("-", " "))

    def do_end(self, slot: str, state: str) -> None:
        task = [t for t in self.planning.slots()[int(slot)] if t.state is TaskState.RUNNING and t.is_wanted][-1]
        self.planning.tables.update(TASKS, self.planning.workers.ended(task, TaskState[state.upper()]))

    def do_wait(self, seconds: str) -> None:
        self.planning.now += float(seconds)

    def do_lead(self) -> None:
        self.planning = self.planning.fork()

    def do_tasks(self) -> list[str]:
        lines = []
        for tasks in self.planning.slots().values():
            shown = [task for task in tasks if not task.state.is_stopped]
            if not shown and not is_free(tasks):
                shown = tasks[-1:]
            lines += [self.described(task) for task in shown]
            if shown and len(tasks) > len(shown):
                lines[-1] += f" (after {len(tasks) - len(shown)} others)"
        return lines or ["no tasks"]

    def described(self, task: Task) -> str:
        line = f"{self.named(task)} {word(task.state)} {task.node_id or '-'}{' ready' if task.ready else ''}"
        if task.desired_state is not TaskState.RUNNING:
            line += f", desired {word(task.desired_state)}"
        if task.desired_reason:
            line += f": {self.readable(task.desired_reason)}"
        if task.hold_until > self.planning.now:
            line += f", in {task.hold_until - self.planning.now:.1f} s"
        return line

    def do_status(self) -> list[str]:
        status = self.planning.service().update_status
        return [f"{word(status.state)}: {self.readable(status.message)}"]

    def told(self, action: Action) -> str:
        match action:
            case StartTask():
                line = f"start web.{action.slot} v{action.spec_version}"
                line += " and hold it" if action.desired is TaskState.READY else ""
                return line + (f" for {action.hold_until - self.planning.now:.1f} s" if action.hold_until else "")
            case StopTask():
                reason = f": {self.readable(action.reason)}" if action.reason else " (it ended by itself)"
                return f"{word(action.desired)} {self.readable(action.task_id)}{reason}"
            case ReleaseTask():
                return f"release {self.readable(action.task_id)}"

    def readable(self, text: str) -> str:
        for task in self.planning.tables.all(TASKS):
            if task.id in text:
                text = text.replace(task.id, self.named(task))
        return text

    def named(self, task: Task) -> str:
        number = self.numbers.setdefault(task.id, len(self.numbers) + 1)
        return f"web.{task.slot}#{number} v{task.spec_version}"


def changed(spec: ServiceSpec, key: str, value: str) -> ServiceSpec:
    replace = msgspec.structs.replace
    update, task = spec.update, spec.task
    updates: dict[str, Callable[[], object]] = {
        "order": lambda: UpdateOrder[value.upper().replace("-", "_")],
        "parallelism": lambda: int(value),
        "delay_s": lambda: float(value),
        "monitor_s": lambda: float(value),
        "max_failure_ratio": lambda: float(value),
        "failure_action": lambda: FailureAction[value.upper()],
    }
    restarts: dict[str, Callable[[], object]] = {
        "condition": lambda: RestartCondition[value.upper().replace("-", "_")],
        "delay_s": lambda: float(value),
        "max_attempts": lambda: int(value),
        "window_s": lambda: float(value),
    }
    names = {"delay": "delay_s", "monitor": "monitor_s", "ratio": "max_failure_ratio", "action": "failure_action"}
    restart_names = {"restart-delay": "delay_s", "attempts": "max_attempts", "window": "window_s"}
    if key == "replicas":
        return replace(spec, mode=replace(spec.mode, replicas=int(value)))
    if key == "image":
        return replace(spec, task=replace(task, container=replace(task.container, image=value)))
    if key == "constraint":
        return replace(spec, task=replace(task, placement=Placement(constraints=(value,))))
    if names.get(key, key) in updates:
        name = names.get(key, key)
        return replace(spec, update=replace(update, **{name: updates[name]()}))
    name = restart_names.get(key, key)
    policy: RestartPolicy = replace(task.restart, **{name: restarts[name]()})
    return replace(spec, task=replace(task, restart=policy))


@pytest.mark.parametrize("path", sorted(TESTDATA.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    check_scenario(path, Story().run)
