"""What the kernel knows of a process: identity, exit status, relations.

A process is named by (boot id, pid, start time): pids come round again, that triple does not.
"""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct

BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"
_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, struct pidfd_info of 64 bytes), Linux 6.13
_PIDFD_INFO_EXIT = 1 << 3  # Linux 6.15
_EXIT_CODE_OFFSET = 60


class Stat:
    """The fields of `/proc/<pid>/stat` that matter here; `exit_status` is a wait status, of zombies only."""

    __slots__ = ("exit_status", "group", "parent", "session", "start_time", "zombie")

    def __init__(self, text: str) -> None:
        # The command's name is in parentheses and may itself hold any character, parentheses included.
        fields = text[text.rindex(")") + 2 :].split()
        self.zombie = fields[0] in ("Z", "X")
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.start_time = int(fields[19])
        self.exit_status = int(fields[49])


def read_stat(pid: int) -> Stat | None:
    """Return what `/proc/<pid>/stat` says, or None when there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        return Stat(os.read(fd, 4096).decode("utf-8", "replace"))
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)


def open_same(pid: int, start_time: int) -> int | None:
    """Return a pidfd of the process with this pid and start time (clock ticks), zombie or not; else None."""
    try:
        pidfd = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return None
    # Asked after the pidfd is held: had the pid come round before, the start time tells.
    stat = read_stat(pid)
    if stat is None or stat.start_time != start_time:
        os.close(pidfd)
        return None
    return pidfd


def peek_status(pid: int) -> int | None:
    """Return the wait status of our own child without reaping it, or None while it runs.

    Raises:
        ChildProcessError: `pid` is not a child of ours.
    """
    info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if info is None else wait_status(info)


def wait_status(info: os.waitid_result) -> int:
    """Return `info` of waitid(2) in the form of waitpid(2)."""
    if info.si_code == os.CLD_EXITED:
        return info.si_status << 8
    return info.si_status | (0x80 if info.si_code == os.CLD_DUMPED else 0)


def strangers_status(pidfd: int, pid: int, start_time: int) -> int | None:
    """Return the wait status of an exited process that is not our child; None if the kernel does not say.

    A zombie shows it in `/proc/<pid>/stat`; of a reaped one, a pidfd held since before tells (Linux 6.15).
    """
    stat = read_stat(pid)
    if stat is not None and stat.start_time == start_time and stat.zombie:
        return stat.exit_status if _may_inspect(pid) else None
    answer = bytearray(64)
    struct.pack_into("Q", answer, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, answer)
    except OSError:
        return None
    mask: int = struct.unpack_from("Q", answer, 0)[0]
    status: int = struct.unpack_from("i", answer, _EXIT_CODE_OFFSET)[0]
    return status if mask & _PIDFD_INFO_EXIT else None


def _may_inspect(pid: int) -> bool:
    """Return whether the kernel shows us the process's exit status; to others it shows 0, which would be a lie."""
    user = os.geteuid()
    try:
        return user == 0 or os.stat(f"/proc/{pid}").st_uid == user
    except (FileNotFoundError, ProcessLookupError):
        return False


def exists(pidfd: int) -> bool:
    """Return whether the process is still in the kernel's table, be it as a zombie."""
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def kill_group(leader: int, signum: int) -> bool:
    """Signal a process group; return whether anything was there to take it.

    The caller makes sure that the number still is the group it means: the leader is not yet reaped.
    """
    try:
        os.killpg(leader, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill(pid: int) -> None:
    """Kill one process, if it is still there and ours to kill."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def all_pids() -> list[int]:
    """Return the pids of every process that is visible here."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def remnants(groups: set[int]) -> list[int]:
    """Return the processes whose session and group are one of `groups`, whose leader is gone."""
    found = []
    for pid in all_pids():
        stat = read_stat(pid)
        if stat and stat.group in groups and stat.session == stat.group and pid != stat.group and not stat.zombie:
            found.append(pid)
    return found


def children_of(parent: int) -> list[int]:
    """Return the pids of the living children of `parent`."""
    stats = ((pid, read_stat(pid)) for pid in all_pids())
    return [pid for pid, stat in stats if stat and stat.parent == parent and not stat.zombie]


def boot_id() -> str:
    """Return the id of this boot of the machine; `SWARMPY_BOOT_ID_FILE` names another file to read it from."""
    with open(os.environ.get("SWARMPY_BOOT_ID_FILE", BOOT_ID_PATH), encoding="ascii") as file:
        return file.read().strip()


def say_status(status: int | None) -> str:
    """Return a wait status in words."""
    if status is None:
        return "exited, status unknown"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = str(number)
        with contextlib.suppress(ValueError):
            name = signal.Signals(number).name
        return f"killed by {name}"
    return f"exited with status {os.WEXITSTATUS(status)}"
