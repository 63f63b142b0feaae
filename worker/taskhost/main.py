"""The task host as a process: its options, its lock, its loop."""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import fcntl
import gc
import os
import signal

from swarmpy.daemon import proc
from swarmpy.daemon.lines import say
from swarmpy.daemon.loop import Loop
from swarmpy.daemon.spawn import Spawner
from worker.taskhost.host import TaskHost
from worker.taskhost.journal import open_journal

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Sequence

EX_USAGE = 2


def main(argv: Sequence[str]) -> int:
    """Run the task host of `--state-dir DIR` until SIGTERM (tasks go on) or `shutdown`; return its exit status."""
    options = dict(zip(argv[::2], argv[1::2], strict=False))
    # The supervisor gives every child the same options; the addresses mean nothing here.
    if len(argv) % 2 or "--state-dir" not in options or set(options) - {"--state-dir", "--addr", "--data-addr"}:
        say("usage: python -m worker.taskhost --state-dir DIR [--addr IP] [--data-addr IP]")
        return EX_USAGE
    state_dir = os.path.abspath(options["--state-dir"])
    try:
        return _serve(state_dir)
    except OSError as error:
        say(f"task host: cannot work in {state_dir}: {error}")
        return 1


def _serve(state_dir: str) -> int:
    spawner = Spawner()
    own = os.path.join(state_dir, "taskhost")
    os.makedirs(own, mode=0o700, exist_ok=True)
    os.makedirs(os.path.join(state_dir, "run"), mode=0o750, exist_ok=True)
    lock = os.open(os.path.join(own, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"task host: {own} is in use by another task host")
        return 1
    journal, records = open_journal(os.path.join(own, "journal"))
    loop = Loop()
    host = TaskHost(loop, spawner, journal, os.path.join(state_dir, "run"), proc.boot_id())
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.on_signal(signum, loop.stop)
    host.start(records)
    # What is alive now stays so: a forked child need not copy these pages for the collector's sake.
    gc.collect()
    gc.freeze()
    loop.run()
    host.close()
    loop.close()
    return 0
