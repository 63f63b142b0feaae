"""`swarmpyd`: reads the command line, then becomes the supervisor (`lean.py`) in the same process.

Reading options needs an argument parser, a guess of the state directory needs platformdirs, and becoming a
subreaper needs ctypes. The process that stays for months needs none of them; exec lets go of them all.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from swarmpy import __version__
from swarmpy.daemon import publishing
from swarmpy.daemon.containerd import DRIVERS
from swarmpy.daemon.settings import Settings
from swarmpy.errors import SwarmError
from swarmpy.node_file import NodeFile, read_node_file

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
    """Return the settings of a command line; a wrong one ends the process with status 2 and a sentence.

    What it leaves open is as in `node.toml`.

    Raises:
        SwarmError: `node.toml` cannot be read or makes no sense.
    """
    parser = argparse.ArgumentParser(prog="swarmpyd", description="Run a swarmpy node in the foreground.")
    parser.add_argument("--state-dir", metavar="DIR", help="where the node keeps its state (mode 0700)")
    parser.add_argument("--addr", default="", metavar="IP", help="the address by which other nodes reach this one")
    parser.add_argument(
        "--data-addr", default="", metavar="IP", help="the address of published ports (default: --addr)"
    )
    parser.add_argument("--stop-tasks", action="store_true", help="stop the tasks too when told to stop")
    parser.add_argument(
        "--containerd",
        default=environment.get("SWARMPY_CONTAINERD", ""),
        metavar="SOCKET",
        help='the containerd that runs containers, or "off" (default: one of this node\'s own)',
    )
    parser.add_argument(
        "--storage-driver", default="", choices=DRIVERS, help="how images are kept (default: what the machine can do)"
    )
    parser.add_argument(
        "--publish-driver",
        default="",
        choices=publishing.DRIVERS,
        help="who balances plain TCP ports: the data plane (default), or as root the kernel",
    )
    parser.add_argument("--processes", default="", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"swarmpyd {__version__}")
    given = parser.parse_args(argv)
    state_dir = Path(given.state_dir or default_state_dir(environment, root=root)).absolute()
    file = read_node_file(state_dir)
    return Settings(
        str(state_dir),
        addr=given.addr,
        data_addr=given.data_addr,
        stop_tasks=given.stop_tasks,
        processes=given.processes,
        containerd=given.containerd or file.containerd_socket,
        storage_driver=given.storage_driver or file.storage_driver,
        storage_options=_options(given.storage_driver, file),
        publish_driver=given.publish_driver or file.publish_driver,
    )


def _options(driver: str, file: NodeFile) -> str:
    """Return the options in the file as JSON, unless they are another driver's."""
    is_for_it = not driver or driver == file.storage_driver
    return json.dumps(dict(file.storage_options)) if file.storage_options and is_for_it else ""


def main() -> NoReturn:
    """Read the command line and become the supervisor."""
    try:
        settings = parse(None, os.environ, root=os.geteuid() == 0)
    except SwarmError as error:
        sys.stderr.write(f"swarmpyd: {error}\n")
        sys.exit(1)
    libc = ctypes.CDLL(None, use_errno=True)
    # Survives exec. Tasks whose task host is killed then become children of the supervisor, which learns
    # their exit statuses.
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.stderr.write(f"swarmpyd: cannot become a subreaper: {os.strerror(ctypes.get_errno())}\n")
        sys.exit(1)
    lean = Path(__file__).with_name("lean.py")
    os.execv(sys.executable, [sys.executable, "-P", "-S", str(lean), *settings.to_argv()])
