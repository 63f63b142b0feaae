"""`swarmpyd`: reads the command line, then becomes the supervisor (`lean.py`) in the same process.

Reading options needs an argument parser, a guess of the state directory needs platformdirs, and becoming a
subreaper needs ctypes. The process that stays for months needs none of them; exec lets go of them all.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from swarmpy import __version__
from swarmpy.daemon.settings import Settings

_PR_SET_CHILD_SUBREAPER = 36


def default_state_dir(environment: Mapping[str, str], *, root: bool) -> str:
    """Return `SWARMPY_STATE_DIR`, /var/lib/swarmpy for root, or a directory in the user's data home."""
    if named := environment.get("SWARMPY_STATE_DIR"):
        return named
    if root:
        return "/var/lib/swarmpy"
    import platformdirs  # only now: most starts do not need it

    return platformdirs.user_data_dir("swarmpy", appauthor=False)


def parse(argv: Sequence[str] | None, environment: Mapping[str, str], *, root: bool) -> Settings:
    """Return the settings of a command line; a wrong one ends the process with status 2 and a sentence."""
    parser = argparse.ArgumentParser(prog="swarmpyd", description="Run a swarmpy node in the foreground.")
    parser.add_argument("--state-dir", metavar="DIR", help="where the node keeps its state (mode 0700)")
    parser.add_argument("--addr", default="", metavar="IP", help="the address by which other nodes reach this one")
    parser.add_argument(
        "--data-addr", default="", metavar="IP", help="the address of published ports (default: --addr)"
    )
    parser.add_argument("--stop-tasks", action="store_true", help="stop the tasks too when told to stop")
    parser.add_argument("--processes", default="", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"swarmpyd {__version__}")
    given = parser.parse_args(argv)
    return Settings(
        str(Path(given.state_dir or default_state_dir(environment, root=root)).absolute()),
        addr=given.addr,
        data_addr=given.data_addr,
        stop_tasks=given.stop_tasks,
        processes=given.processes,
    )


def main() -> NoReturn:
    """Read the command line and become the supervisor."""
    settings = parse(None, os.environ, root=os.geteuid() == 0)
    libc = ctypes.CDLL(None, use_errno=True)
    # Survives exec. Tasks whose task host is killed then become children of the supervisor, which learns
    # their exit statuses.
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.stderr.write(f"swarmpyd: cannot become a subreaper: {os.strerror(ctypes.get_errno())}\n")
        sys.exit(1)
    lean = Path(__file__).with_name("lean.py")
    os.execv(sys.executable, [sys.executable, "-P", "-S", str(lean), *settings.to_argv()])
