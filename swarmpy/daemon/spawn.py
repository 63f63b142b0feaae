"""Start a program in two steps: fork and prepare, then `go`.

Between the two the caller writes down whom it has started. The child waits for the word, and ends by itself
if its parent dies first; so nothing ever runs that no record names. What fails on the way, up to exec
itself, comes back over a socket that exec closes.
"""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import socket

from swarmpy.daemon.proc import read_stat

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

NOFILE = "nofile"
_ALL_SIGNALS = frozenset(signal.valid_signals())
_RESETTABLE = sorted(_ALL_SIGNALS - {signal.SIGKILL, signal.SIGSTOP})


class Program:
    """What to run, where, and as whom; standard input is /dev/null, and the environment is `env` alone.

    `stdout` and `stderr`: a path (opened for reading and writing, so that a FIFO never lacks a reader), a
    descriptor, or None for the parent's own. `rlimits`: name as in `ulimit`, such as "nofile", to (soft, hard).
    `cgroup_procs`: files that the child joins before anything else. `netns`: the pin of a network namespace that it is
    in, with `binds` (name to source) in place of the machine's files. None leaves a property as the parent's.
    """

    __slots__ = (
        "argv",
        "binds",
        "cgroup_procs",
        "cwd",
        "env",
        "gid",
        "groups",
        "netns",
        "oom_score_adj",
        "rlimits",
        "stderr",
        "stdout",
        "uid",
        "umask",
    )

    def __init__(
        self,
        argv: list[str],
        env: Mapping[str, str],
        *,
        cwd: str | None = None,
        uid: int | None = None,
        gid: int | None = None,
        groups: Sequence[int] = (),
        stdout: str | int | None = None,
        stderr: str | int | None = None,
        umask: int | None = None,
        rlimits: Mapping[str, tuple[int, int]] | None = None,
        cgroup_procs: Sequence[str] = (),
        oom_score_adj: int | None = None,
        netns: str | None = None,
        binds: Mapping[str, str] | None = None,
    ) -> None:
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.stdout = stdout
        self.stderr = stderr
        self.umask = umask
        self.rlimits = rlimits or {}
        self.cgroup_procs = cgroup_procs
        self.oom_score_adj = oom_score_adj
        self.netns = netns
        self.binds = binds or {}


class Failure:
    """Why a program did not start: `code` is not_found, denied or failed."""

    __slots__ = ("code", "sentence")

    def __init__(self, code: str, sentence: str) -> None:
        self.code = code
        self.sentence = sentence


class Held:
    """A forked child that is waiting for `go`, in its own session; its pid is its process group too."""

    __slots__ = ("_report", "_sock", "pid", "pidfd", "program", "start_time")

    def __init__(self, pid: int, pidfd: int, start_time: int, sock: socket.socket, program: Program) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.start_time = start_time
        self.program = program
        self._sock = sock
        self._report = b""

    def fileno(self) -> int:
        """Return the descriptor to wait on for reading before `outcome` is asked."""
        return self._sock.fileno()

    def go(self) -> None:
        """Let the child run its program."""
        try:
            self._sock.send(b"g", socket.MSG_NOSIGNAL)
        except OSError:
            return  # it has failed already; `outcome` says why

    def outcome(self) -> Failure | bool:
        """Return True once the program runs, why it does not, or False while neither is known."""
        while True:
            try:
                chunk = self._sock.recv(4096)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                break
            self._report += chunk
        return _explain(self._report, self.program) if self._report else True

    def abandon(self) -> None:
        """Make an end of a child that has not run its program, and reap it; at most microseconds."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.close()
        os.close(self.pidfd)

    def close(self) -> None:
        """Give back the socket; the pidfd is the caller's."""
        self._sock.close()


class Spawner:
    """Forks children of a process with one thread.

    It raises the process's own limit of open files, since each child costs one, and gives the children the
    limit that was there before. Create it before anything else opens descriptors: what was inherited is
    marked so that no child inherits it on.
    """

    def __init__(self) -> None:
        self._null = os.open(os.devnull, os.O_RDONLY)
        # A descriptor of ours must never be 0, 1 or 2: the child puts its own in that place.
        while self._null <= 2:
            self._null = os.open(os.devnull, os.O_RDWR)
        self._nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._nofile[1], self._nofile[1]))
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                try:
                    os.set_inheritable(int(name), False)
                except OSError:
                    continue  # the descriptor that the listing itself used

    def close(self) -> None:
        """Give back the spawner's own descriptor and the limit of open files."""
        os.close(self._null)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._nofile)

    def fork(self, program: Program) -> Held:
        """Return a child that has all but exec'ed.

        Raises:
            OSError: there is no process, descriptor or memory to be had.
        """
        ours, theirs = socket.socketpair()
        # A signal between fork and exec must not reach this process's handlers in the child.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                _child(program, theirs, ours, self._null, self._nofile)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
        ours.setblocking(False)
        try:
            stat = read_stat(pid)
            assert stat is not None, "our own child, not yet reaped, is in /proc"
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            ours.close()
            raise
        return Held(pid, pidfd, stat.start_time, ours, program)


def _child(
    program: Program, sock: socket.socket, parents: socket.socket, null: int, nofile: tuple[int, int]
) -> NoReturn:
    """Turn the forked process into `program`; never return, whatever happens."""
    step = ["prepare", ""]
    try:
        gc.disable()
        parents.close()
        _become(program, step, null, nofile)
        step[:] = "wait", ""
        if sock.recv(1) == b"g":
            step[:] = "run", program.argv[0]
            _exec(program)
    except OSError as error:
        sock.send(f"{step[0]}\0{error.errno or 0}\0{step[1]}".encode("utf-8", "backslashreplace"))
    except BaseException as error:  # noqa: BLE001 - the boundary of a forked child: it must not go on as its parent
        sock.send(f"{step[0]}\0{0}\0{error!r}".encode("utf-8", "backslashreplace"))
    finally:
        os._exit(127)


def _become(program: Program, step: list[str], null: int, nofile: tuple[int, int]) -> None:
    """Take on everything that `program` asks for; `step` says what is being done, for the report."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for signum in _RESETTABLE:
        if signal.getsignal(signum) is not signal.SIG_DFL:
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for path in program.cgroup_procs:
        step[:] = "cgroup", path
        _write(path, b"0")
    if program.oom_score_adj is not None:
        step[:] = "oom", str(program.oom_score_adj)
        _write("/proc/self/oom_score_adj", b"%d" % program.oom_score_adj)
    step[:] = "rlimit", NOFILE
    resource.setrlimit(resource.RLIMIT_NOFILE, nofile)
    for name, limits in program.rlimits.items():
        step[:] = "rlimit", name
        try:
            resource.setrlimit(rlimit_number(name), limits)
        except ValueError as error:
            raise OSError(errno.EPERM, str(error)) from error
    os.dup2(null, 0)
    for fd, target in ((1, program.stdout), (2, program.stderr)):
        if isinstance(target, str):
            step[:] = "output", target
            target = os.open(target, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if target is not None:
            os.dup2(target, fd)
    if program.umask is not None:
        os.umask(program.umask)
    if program.netns is not None:
        step[:] = "network", program.netns
        from swarmpy.daemon.enter import enter_network  # not at the top: only this child is to pay for it

        enter_network(program.netns, program.binds)
    if program.cwd is not None:
        # Before the user changes: the directory is the program's, those above it need not let it pass.
        step[:] = "cwd", program.cwd
        os.chdir(program.cwd)
    step[:] = "user", f"{program.uid}:{program.gid}"
    _change_user(program)


def _change_user(program: Program) -> None:
    if program.uid is None and program.gid is None and not program.groups:
        return
    if os.geteuid() == 0 or program.groups:
        os.setgroups(list(program.groups))
    if program.gid is not None:
        os.setgid(program.gid)
    if program.uid is not None:
        os.setuid(program.uid)


def _write(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, content)
    os.close(fd)


def _exec(program: Program) -> NoReturn:
    """Run the program, looked up in the PATH of its own environment; return by an OSError only."""
    name = program.argv[0]
    if "/" in name:
        os.execve(name, program.argv, program.env)
    worst = errno.ENOENT
    for directory in program.env.get("PATH", os.defpath).split(":"):
        try:
            os.execve(f"{directory or '.'}/{name}", program.argv, program.env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            worst = errno.EACCES
    raise OSError(worst, os.strerror(worst))


def rlimit_number(name: str) -> int:
    """Return the number of the limit `name`, such as "nofile".

    Raises:
        KeyError: there is no such limit.
    """
    number: int = vars(resource)[f"RLIMIT_{name.upper()}"]
    return number


def _explain(report: bytes, program: Program) -> Failure:
    """Return what a child reported, as a sentence."""
    parts = report.decode("utf-8", "replace").split("\0", 2)
    step, number, detail = parts[0], int(parts[1]), parts[2]
    why = os.strerror(number).lower() if number else detail
    what = {
        "cgroup": f"cannot join the control group by {detail!r}",
        "oom": f"cannot set oom_score_adj to {detail}",
        "rlimit": f"cannot set the limit {detail!r}",
        "network": f"cannot enter the network namespace {detail!r}",
        "output": f"cannot open {detail!r} for output",
        "user": f"cannot become user {program.uid} and group {program.gid}",
        "cwd": f"cannot enter the working directory {detail!r}",
        "run": f"cannot run {program.argv[0]!r}",
    }.get(step, f"cannot start {program.argv[0]!r} ({step})")
    if step in ("user", "rlimit", "network") and number == errno.EPERM:
        why += "; this node does not run as root"
    return Failure(_code(step, number), f"{what}: {why}")


def _code(step: str, number: int) -> str:
    if step in ("run", "cwd") and number in (errno.ENOENT, errno.ENOTDIR):
        return "not_found"
    return "denied" if number in (errno.EACCES, errno.EPERM) else "failed"
