"""What a supervisor is told at its start, and the command lines of its children."""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import json
import os
import sys

from swarmpy.daemon.state import Unusable

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TASKHOST = "taskhost"
CONTAINERD = "containerd"
DATAPLANE = "dataplane"
WORKER = "worker"
MANAGER = "manager"
PROCESSES = (TASKHOST, CONTAINERD, DATAPLANE, WORKER, MANAGER)  # in the order in which they start
CONTAINER_END = "containerend"  # runs once, when the node ends with its tasks

Commands = dict[str, list[str]]


class Settings:
    """`addr` and `data_addr` may be empty: the node then keeps those it had, or takes the primary address.

    `containerd` is a socket or "off", `storage_driver` a name, and `storage_options` the driver's own as a JSON object;
    empty leaves each to what is found. `publish_driver` is one of `publishing.DRIVERS`, or empty for the first.
    """

    __slots__ = (
        "addr",
        "containerd",
        "data_addr",
        "processes",
        "publish_driver",
        "state_dir",
        "stop_tasks",
        "storage_driver",
        "storage_options",
    )

    def __init__(
        self,
        state_dir: str,
        *,
        addr: str = "",
        data_addr: str = "",
        stop_tasks: bool = False,
        processes: str = "",
        containerd: str = "",
        storage_driver: str = "",
        storage_options: str = "",
        publish_driver: str = "",
    ) -> None:
        self.state_dir = state_dir
        self.addr = addr
        self.data_addr = data_addr
        self.stop_tasks = stop_tasks
        self.processes = processes
        self.containerd = containerd
        self.storage_driver = storage_driver
        self.storage_options = storage_options
        self.publish_driver = publish_driver

    def to_argv(self) -> list[str]:
        """Return the settings as arguments that `from_argv` reads back."""
        return [f"--{name.replace('_', '-')}={getattr(self, name)}" for name in self.__slots__ if getattr(self, name)]


def from_argv(argv: Sequence[str]) -> Settings:
    """Return the settings of arguments that `Settings.to_argv` made."""
    values = dict(argument.removeprefix("--").split("=", 1) for argument in argv)
    return Settings(
        values["state-dir"],
        addr=values.get("addr", ""),
        data_addr=values.get("data-addr", ""),
        stop_tasks="stop-tasks" in values,
        processes=values.get("processes", ""),
        containerd=values.get("containerd", ""),
        storage_driver=values.get("storage-driver", ""),
        storage_options=values.get("storage-options", ""),
        publish_driver=values.get("publish-driver", ""),
    )


def package_root() -> str:
    """Return the directory in which the packages `swarmpy` and `worker` lie."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def commands(processes: str) -> Commands:
    """Return the command line of each child but containerd, without the options that all of them get.

    Args:
        processes: a JSON file of name to command line that replaces some of them, for tests; "" for none.
    Raises:
        Unusable: the file cannot be read, or names no child.
    """
    python = sys.executable
    table = {
        # Without site-packages, which it needs for nothing, the task host is 1.5 MB smaller.
        TASKHOST: [python, "-P", "-S", os.path.join(package_root(), "worker", "taskhost", "__main__.py")],
        DATAPLANE: [python, "-P", "-m", "worker.dataplane"],
        WORKER: [python, "-P", "-m", "worker"],
        MANAGER: [python, "-P", "-m", "manager"],
        CONTAINER_END: [python, "-P", "-m", "worker.containerd.ending"],
    }
    if processes:
        try:
            with open(processes, encoding="utf-8") as file:
                replaced = json.load(file)
        except (OSError, ValueError) as error:
            raise Unusable(f"--processes {processes}: cannot be read: {error}") from error
        if not isinstance(replaced, dict) or not set(replaced) <= set(table):
            raise Unusable(f"--processes {processes}: is not an object of {', '.join(table)}")
        table.update(replaced)
    return table


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the supervisor's environment without what is between systemd and itself."""
    return {name: value for name, value in environment.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_PID")}
