"""The supervisor: the children, the control socket, the reaping of orphans, and the end of the node."""

from __future__ import annotations

import os
import signal
import time

from swarmpy.daemon import containerd, proc, publishing
from swarmpy.daemon.address import check_address, primary_address
from swarmpy.daemon.child import STOPPED, Child
from swarmpy.daemon.containers import ContainerEnd
from swarmpy.daemon.ending import TaskEnd
from swarmpy.daemon.lines import Connection, LineServer, say
from swarmpy.daemon.loop import Loop
from swarmpy.daemon.notify import notify
from swarmpy.daemon.orphans import Orphans
from swarmpy.daemon.request import Refused, Request
from swarmpy.daemon.settings import (
    CONTAINER_END,
    CONTAINERD,
    MANAGER,
    PROCESSES,
    TASKHOST,
    child_environment,
    commands,
)
from swarmpy.daemon.sockets import BoundSockets
from swarmpy.daemon.spawn import Spawner
from swarmpy.daemon.state import VERSION, StateDirectory, open_state

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Callable

    from swarmpy.daemon.settings import Commands, Settings

SOCKET = "supervisor.sock"
STAYING = (TASKHOST, CONTAINERD)  # go on without us, as the tasks do whose keepers they are


def supervise(settings: Settings) -> None:
    """Run the node of `settings.state_dir` until it is told to stop.

    Raises:
        Unusable: it cannot start; the sentence says why.
    """
    table = commands(settings.processes)
    spawner = Spawner()
    state = open_state(settings.state_dir)
    loop = Loop()
    try:
        prepare_node(state, settings)
        runtime = containerd.prepare(settings, state.path, state.run, os.environ)
        publishing.note(settings.publish_driver, state.run(publishing.RECORD))
        if runtime.missing:
            say(f"swarmpyd: no containers: {runtime.missing}")
        supervisor = Supervisor(loop, spawner, state, table, runtime, stop_tasks=settings.stop_tasks)
        supervisor.start()
        notify("READY=1")
        loop.run()
        supervisor.close()
    finally:
        loop.close()
        state.close()
        spawner.close()


def prepare_node(state: StateDirectory, settings: Settings) -> None:
    """Bring `node.json` up to date: the addresses, and the boot of the machine that `run/` belongs to.

    Raises:
        Unusable: an address is none of this machine's.
    """
    old = state.node
    addr = settings.addr or str(old.get("addr", "")) or primary_address()
    data_addr = settings.data_addr or ("" if settings.addr else str(old.get("data_addr", ""))) or addr
    boot = proc.boot_id()
    node = {
        "version": VERSION,
        "addr": check_address("--addr", addr),
        "data_addr": check_address("--data-addr", data_addr),
        "manager": old.get("manager") is True,
        "boot_id": boot,
    }
    if old.get("boot_id") != boot:
        state.forget_run()
    if node != old:
        state.write_node(node)


class Supervisor:
    """Everything that `swarmpyd` does once its directory is open. `start` it, run the loop, `close` it."""

    def __init__(
        self,
        loop: Loop,
        spawner: Spawner,
        state: StateDirectory,
        table: Commands,
        runtime: containerd.Runtime,
        *,
        stop_tasks: bool,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._loop = loop
        self._state = state
        self._wall = wall
        self._stop_tasks = stop_tasks
        self._stopping = False
        self._task_end: TaskEnd | None = None
        self._sockets = BoundSockets()
        self._orphans = Orphans(state.run("exits"))
        self._server = LineServer(loop, state.run(SOCKET), self._handle)
        node = state.node
        options = ["--state-dir", state.path, "--addr", str(node["addr"]), "--data-addr", str(node["data_addr"])]
        environment = child_environment(os.environ)
        self._runtime = runtime
        arguments = {name: [*argv, *options] for name, argv in table.items()}
        environments = dict.fromkeys(table, environment)
        arguments[CONTAINERD] = runtime.argv
        environments[CONTAINERD] = {**environment, "PATH": runtime.path}
        every = {
            name: Child(
                name,
                arguments[name],
                environments[name],
                loop=loop,
                spawner=spawner,
                run_path=state.run,
                wall=wall,
                on_gone=self._child_gone,
            )
            for name in (*PROCESSES, CONTAINER_END)
        }
        self._container_end = every.pop(CONTAINER_END)
        self._children = every
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.on_signal(signum, lambda: self._stop(tasks=self._stop_tasks))
        loop.on_signal(signal.SIGCHLD, self._reap)

    def start(self) -> None:
        """Adopt what an earlier supervisor left running, and start the rest."""
        for name, child in self._children.items():
            wanted = self._is_wanted(name)
            adopted = child.adopt(any_command=name == TASKHOST)
            if not wanted:
                child.unwant()
            elif not adopted:
                child.want()

    def _is_wanted(self, name: str) -> bool:
        if name == CONTAINERD:
            return bool(self._runtime.argv)
        return name != MANAGER or self._state.node["manager"] is True

    def close(self) -> None:
        """Give back the sockets."""
        self._server.close()
        self._sockets.close()

    def _handle(self, request: Request, _connection: Connection) -> None:
        match request.op:
            case "status":
                request.done(**self._status())
            case "bind":
                self._sockets.bind(request)
            case "unbind":
                self._sockets.unbind(request)
            case "give":
                self._sockets.give(request)
            case "exits":
                pids = set(request.wholes("pids", least=1, most=1 << 30)) if request.has("pids") else None
                # Something may have ended in this very turn, before its SIGCHLD was seen.
                self._reap()
                request.done(exits=self._orphans.known(pids))
            case "set_role":
                self._refuse_when_stopping()
                self._set_role(manager=request.flag("manager"))
                request.done()
            case "restart":
                self._refuse_when_stopping()
                self._restart(request.text("process"))
                request.done()
            case "shutdown":
                tasks = request.flag("tasks", default=False)
                request.done()
                self._stop(tasks=tasks)
            case _:
                raise Refused("invalid", f"the supervisor knows no operation {request.op!r}")

    def _status(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "boot_id": self._state.node["boot_id"],
            "stopping": self._stopping,
            "sockets": len(self._sockets),
            "processes": {name: child.report() for name, child in self._children.items()},
            "node": self._state.node,
        }

    def _set_role(self, *, manager: bool) -> None:
        if manager != self._state.node["manager"]:
            try:
                self._state.write_node({**self._state.node, "manager": manager})
            except OSError as error:
                raise Refused("failed", f"cannot write node.json: {str(error.strerror).lower()}") from error
        if manager:
            self._children[MANAGER].want()
        else:
            self._children[MANAGER].unwant()

    def _restart(self, name: str) -> None:
        child = self._children.get(name)
        if child is None:
            raise Refused("not_found", f"there is no process {name!r}; there are {', '.join(self._children)}")
        if not self._is_wanted(name):
            why = "is not a manager" if name == MANAGER else "has no containerd of its own"
            raise Refused("failed", f"this node {why}, so its {name} process cannot be restarted")
        child.restart()

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise Refused("unavailable", "the node is stopping")

    def _reap(self) -> None:
        """Reap every child that has exited: ours, and orphans whose exits a task host may ask for."""
        children = (*self._children.values(), self._container_end)
        ours = {child.pid: child for child in children if child.alive}
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if info is None:
                return
            if child := ours.pop(info.si_pid, None):
                child.check()
                continue
            stat = proc.read_stat(info.si_pid)
            os.waitpid(info.si_pid, 0)
            # A task leads its session. Other orphans, which tasks left behind, are nobody's to ask for.
            if stat and stat.session == info.si_pid:
                self._orphans.add(info.si_pid, stat.start_time, proc.wait_status(info), self._wall())

    def _stop(self, *, tasks: bool) -> None:
        """Stop all but the keepers of tasks, then the tasks with those if they are to stop, then this process."""
        if self._stopping:
            return
        self._stopping = True
        self._stop_tasks = tasks
        notify("STOPPING=1")
        say("swarmpyd: stopping" + (" with all tasks" if tasks else "; the tasks go on"))
        for name, child in self._children.items():
            if name not in STAYING:
                child.unwant()
        self._child_gone()

    def _child_gone(self) -> None:
        if not self._stopping or self._task_end:
            return
        if any(child.state != STOPPED for name, child in self._children.items() if name not in STAYING):
            return
        if self._stop_tasks:
            containers = ContainerEnd(
                self._loop, self._children[CONTAINERD], self._container_end, self._state.run, self._runtime
            )
            self._task_end = TaskEnd(self._loop, self._children[TASKHOST], containers, self._state.run, self._loop.stop)
            self._task_end.begin()
        else:
            # Back-off must not start another one while this process ends.
            for name in STAYING:
                self._children[name].let_end()
            self._loop.stop()
