"""The task host's work: requests, starts, exits, and one write to the journal a turn for all of them."""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import os
import signal
import time

from swarmpy.daemon import proc
from swarmpy.daemon.lines import Connection, LineServer, say
from swarmpy.daemon.loop import READ
from swarmpy.daemon.request import Refused, Request
from worker.taskhost.inquiry import Inquiry
from worker.taskhost.probes import Probes
from worker.taskhost.programs import task_program
from worker.taskhost.table import Task, replay

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from swarmpy.daemon.loop import Loop, Timer
    from swarmpy.daemon.spawn import Held, Spawner
    from worker.taskhost.journal import Journal, Record

SOCKET = "taskhost.sock"
SUPERVISOR_SOCKET = "supervisor.sock"
JOURNAL_RETRY_S = 1.0
MOST_GRACE_S = 3600.0


class Starting:
    """A start that is under way: forked, perhaps told to go, its outcome not yet known."""

    __slots__ = ("held", "request", "signals", "task")

    def __init__(self, task: Task, held: Held, request: Request) -> None:
        self.task = task
        self.held = held
        self.request = request
        self.signals: list[int] = []  # asked for before it ran


class TaskHost:
    """Parent of the tasks. `start` it with the journal's records, run the loop, `close` it."""

    def __init__(
        self,
        loop: Loop,
        spawner: Spawner,
        journal: Journal,
        run_dir: str,
        boot_id: str,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._loop = loop
        self._spawner = spawner
        self._journal = journal
        self._boot_id = boot_id
        self._wall = wall
        self._tasks: dict[str, Task] = {}
        self._starting: dict[str, Starting] = {}
        self._forked: list[Starting] = []  # in this turn: to be journalled, then told to go
        self._ended: list[Task] = []  # in this turn: to be journalled, then reaped and told of
        self._answers: list[Callable[[], None]] = []  # that wait for the journal
        self._subscribers: set[Connection] = set()
        self._stopping = False
        self._retry: Timer | None = None
        self._probes = Probes(loop, spawner, journal, boot_id)
        self._inquiry = Inquiry(loop, os.path.join(run_dir, SUPERVISOR_SOCKET), self._found)
        self._socket_path = os.path.join(run_dir, SOCKET)
        self._server: LineServer | None = None

    def start(self, records: Iterable[Record]) -> None:
        """Adopt what runs, find out about what has died, and listen."""
        state = replay(records)
        self._tasks = state.tasks
        groups: set[int] = set()
        for task in self._tasks.values():
            if task.exited:
                continue
            if task.boot != self._boot_id:
                self._end(task, None, self._wall())
                continue
            pidfd = proc.open_same(task.pid, task.start_time)
            if pidfd is None:
                groups.add(task.pid)
                self._inquiry.add(task)
            else:
                self._watch(task, pidfd)
        groups |= self._probes.end_strays(state.probes)
        for pid in proc.remnants(groups) if groups else ():
            proc.kill(pid)
        self._loop.each_turn(self._turn)
        self._turn()
        self._server = LineServer(self._loop, self._socket_path, self._handle, self._closed)

    def close(self) -> None:
        """Let go of everything but the tasks."""
        self._probes.close()
        if self._server:
            self._server.close()
        self._commit([])
        self._journal.close()

    def _handle(self, request: Request, connection: Connection) -> None:
        match request.op:
            case "start" | "start-in":
                self._start(request)
            case "signal":
                self._signal(request)
            case "list":
                request.done(tasks=[task.row() for task in self._tasks.values()])
            case "forget":
                self._forget(request)
            case "subscribe":
                self._subscribe(request, connection)
            case "exec" | "exec-in":
                self._probes.submit(request, connection)
            case "shutdown":
                grace_s = request.number("grace_s", 10.0, least=0.0, most=MOST_GRACE_S)
                request.done()
                self._shut_down(grace_s)
            case _:
                raise Refused("invalid", f"the task host knows no operation {request.op!r}")

    def _closed(self, connection: Connection) -> None:
        self._subscribers.discard(connection)
        self._probes.drop(connection)

    def _start(self, request: Request) -> None:
        task_id = request.text("id", longest=256)
        if self._stopping:
            raise Refused("unavailable", "the task host is stopping; nothing is started any more")
        if task_id in self._starting:
            raise Refused("exists", f"task {task_id} is being started, pid {self._starting[task_id].task.pid}")
        if old := self._tasks.get(task_id):
            state = "has exited and is not yet forgotten" if old.exited else "runs"
            raise Refused("exists", f"task {task_id} {state}, pid {old.pid}")
        program = task_program(request)
        try:
            held = self._spawner.fork(program)
        except OSError as error:
            raise Refused("failed", f"cannot fork for task {task_id}: {str(error.strerror).lower()}") from error
        task = Task(task_id, self._boot_id, held.pid, held.start_time, self._wall())
        starting = Starting(task, held, request)
        self._starting[task_id] = starting
        self._forked.append(starting)

    def _signal(self, request: Request) -> None:
        task_id = request.text("id", longest=256)
        signum = request.whole("signal", least=0, most=signal.SIGRTMAX)
        if starting := self._starting.get(task_id):
            starting.signals.append(signum)
            request.done(delivered=True)
            return
        task = self._tasks.get(task_id)
        if task is None:
            raise Refused("not_found", f"there is no task {task_id} here")
        request.done(delivered=self._deliver(task, signum))

    def _deliver(self, task: Task, signum: int) -> bool:
        # A leader that is in the kernel's table, if only as a zombie, keeps the group's number its own.
        return task.pidfd >= 0 and proc.exists(task.pidfd) and proc.kill_group(task.pid, signum)

    def _forget(self, request: Request) -> None:
        task_id = request.text("id", longest=256)
        task = self._tasks.get(task_id)
        if task_id in self._starting or (task and not task.exited):
            raise Refused("failed", f"task {task_id} runs; only an exited task can be forgotten")
        if task:
            del self._tasks[task_id]
            self._journal.owe({"kind": "forget", "id": task_id})
        self._answers.append(request.done)

    def _subscribe(self, request: Request, connection: Connection) -> None:
        request.done()
        self._subscribers.add(connection)
        for task in self._tasks.values():
            if task.exited and task not in self._ended:
                connection.send(task.push())

    def _shut_down(self, grace_s: float) -> None:
        """End every task by SIGTERM, after `grace_s` by SIGKILL, and then this process."""
        self._stopping = True
        self._probes.close()
        self._signal_all(signal.SIGTERM)
        self._loop.later(grace_s, lambda: self._signal_all(signal.SIGKILL))

    def _signal_all(self, signum: int) -> None:
        for starting in self._starting.values():
            starting.signals.append(signum)
            if signum == signal.SIGKILL:
                proc.kill(starting.task.pid)  # it may hang in what precedes its program
        for task in self._tasks.values():
            self._deliver(task, signum)

    def _turn(self) -> None:
        """Write down what this turn brought, then act on it: the order that no crash can spoil."""
        forked, self._forked = self._forked, []
        ended, self._ended = self._ended, []
        answers, self._answers = self._answers, []
        records = [starting.task.start_record() for starting in forked]
        probes, probe_records = self._probes.forked()
        failure = self._commit([*records, *probe_records])
        for starting in forked:
            self._launch(starting, failure)
        for probe in probes:
            self._probes.launch(probe, recorded=failure is None)
        for task in ended:
            self._finish(task)
        for answer in answers:
            answer()
        if self._journal.mostly_dead(len(self._tasks)):
            self._compact()
        if self._stopping and not self._starting and all(task.exited for task in self._tasks.values()):
            self._loop.stop()

    def _commit(self, records: list[Record]) -> str | None:
        """Write `records` and what is owed; return the reason if that failed."""
        if not records and (self._retry or not self._journal.owes):
            return None
        try:
            self._journal.commit(records)
        except OSError as error:
            if not self._retry:
                say(f"task host: cannot write its journal: {error}")
                self._retry = self._loop.later(JOURNAL_RETRY_S, self._try_again)
            return str(error.strerror).lower()
        return None

    def _try_again(self) -> None:
        self._retry = None  # the end of this turn does it

    def _launch(self, starting: Starting, failure: str | None) -> None:
        if failure is None:
            starting.held.go()
            self._loop.add(starting.held.fileno(), READ, lambda _events: self._outcome(starting))
            return
        del self._starting[starting.task.id]
        starting.held.abandon()
        sentence = f"task {starting.task.id} was not started: its start cannot be written down: {failure}"
        starting.request.refuse("failed", sentence)

    def _outcome(self, starting: Starting) -> None:
        outcome = starting.held.outcome()
        if outcome is False:
            return
        task = starting.task
        del self._starting[task.id]
        self._loop.remove(starting.held.fileno())
        if outcome is True:
            starting.held.close()
            self._tasks[task.id] = task
            task.ours = True
            self._watch(task, starting.held.pidfd)
            starting.request.done(pid=task.pid, start_time=task.start_time)
            for signum in starting.signals:
                self._deliver(task, signum)
        else:
            starting.held.abandon()
            self._journal.owe({"kind": "forget", "id": task.id})
            starting.request.refuse(outcome.code, outcome.sentence)

    def _watch(self, task: Task, pidfd: int) -> None:
        task.pidfd = pidfd
        self._loop.add(pidfd, READ, lambda _events: self._exited(task))

    def _exited(self, task: Task) -> None:
        """The leader has exited. Its status is read but it is not yet reaped: first the journal must have it."""
        if task.ours:
            status = proc.peek_status(task.pid)
            if status is None:
                return
            self._loop.remove(task.pidfd)
            self._end(task, status, self._wall())
        else:
            self._loop.remove(task.pidfd)
            # Its parent may reap it any moment, so its group is ended now.
            proc.kill_group(task.pid, signal.SIGKILL)
            self._inquiry.add(task)

    def _found(self, task: Task, status: int | None, at_s: float | None) -> None:
        self._end(task, status, self._wall() if at_s is None else at_s)

    def _end(self, task: Task, status: int | None, at_s: float) -> None:
        task.end(status, at_s)
        self._journal.owe(task.exit_record())
        self._ended.append(task)

    def _finish(self, task: Task) -> None:
        """End the rest of the group, reap the leader, tell the subscribers."""
        if task.ours:
            proc.kill_group(task.pid, signal.SIGKILL)
            os.waitpid(task.pid, 0)
        if task.pidfd >= 0:
            os.close(task.pidfd)
            task.pidfd = -1
        for subscriber in list(self._subscribers):
            subscriber.send(task.push())

    def _compact(self) -> None:
        records: list[Record] = []
        for task in self._tasks.values():
            records.append(task.start_record())
            if task.exited:
                records.append(task.exit_record())
        records += [starting.task.start_record() for starting in self._starting.values()]
        try:
            self._journal.rewrite(records + self._probes.records())
        except OSError as error:
            say(f"task host: cannot compact its journal: {error}")
