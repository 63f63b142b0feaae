"""`make demo`: a cluster of five nodes on this machine, driven by the commands that a person would type.

Every step is checked; the first that is not as promised ends the demo with status 1. `--keep` leaves the cluster
running and says how to go on. Whatever ends the demo, no process and no file of it is left.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from scripts.cluster import ROOT, Cluster, Localhost
from scripts.demo.steps import MANAGERS, WORKERS, Demo, shop_port
from scripts.demo.terminal import NotAsPromised, Terminal
from swarmpy.addresses import CONTROL_PORT

NODES: Final = MANAGERS + WORKERS
PORT: Final = 8080
MOST_COMPLAINTS: Final = 5
# A terminal that is closed ends the demo as an interrupt does: the nodes have sessions of their own.
ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED: Final = 130


def look_for_ports(port: int) -> None:
    """Find out before anything is started that a port of the demo is another program's.

    Raises:
        NotAsPromised: one is.
    """
    own = [(Localhost.address(n), p) for n in range(1, MANAGERS + 1) for p in (CONTROL_PORT, CONTROL_PORT + 1)]
    published = [(Localhost.address(n), p) for p in (port, shop_port(port)) for n in range(1, NODES + 1)]
    for address in own + published:
        try:
            socket.create_server(address).close()
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            others = "" if address in own else f", or take other ports with `make demo DEMO_PORT={port + 1}`"
            raise NotAsPromised(
                f"port {address[1]} on {address[0]} cannot be had ({why}): stop what holds it{others}"
            ) from error


def start_nodes(cluster: Cluster, terminal: Terminal) -> None:
    """Start the nodes, as separate swarmpyd's with their own addresses; return once they answer."""
    for _ in range(NODES):
        node = cluster.new_node()
        node.start()
        terminal.type(Demo.daemon(node))

    async def ready() -> None:
        for node in cluster.nodes:
            await node.ready()

    asyncio.run(ready())


def environment(state_dir: Path, port: int) -> dict[str, str]:
    """Return the environment of the commands: this project's programs first, the first node by default."""
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ.get('PATH', '')}"
    return {
        **os.environ,
        "PATH": path,
        "SWARMPY_STATE_DIR": str(state_dir),
        "PYTHON": str(ROOT / ".venv" / "bin" / "python"),
        "SHOP_PORT": str(shop_port(port)),
    }


def how_to_go_on(cluster: Cluster) -> None:
    pids = " ".join(str(node.daemon.pid) for node in reversed(cluster.nodes) if node.daemon is not None)
    print(f"""
The cluster goes on running. To go on:
  export PATH={ROOT / ".venv" / "bin"}:$PATH SWARMPY_STATE_DIR={cluster.nodes[0].state_dir}
  swarmpy node ls
To stop it:
  kill {pids}; while kill -0 {pids} 2>/dev/null; do sleep 0.1; done; rm -r {cluster.root}""")


def what_nodes_said(cluster: Cluster) -> None:
    """Show the last complaints of each node: their logs go with the demo."""
    for node in cluster.nodes:
        complaints = [line for line in node.log().splitlines() if re.search(r"warning|error|Error", line)]
        for line in complaints[-MOST_COMPLAINTS:]:
            print(f"  {node.name}: {line}", file=sys.stderr)


def clean_up(cluster: Cluster) -> bool:
    """Stop everything and remove its files, whoever interrupts; return whether all of it stopped by itself."""
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)
    try:
        cluster.stop()
    except RuntimeError as problem:
        print(f"\n{problem}", file=sys.stderr)
        return False
    finally:
        shutil.rmtree(cluster.root, ignore_errors=True)
    return True


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def show(cluster: Cluster, port: int, *, keep: bool) -> None:
    """Run the whole demo. Raises NotAsPromised, or what Cluster raises, at the first step that fails."""
    look_for_ports(port)
    terminal = Terminal(environment(cluster.root / "node1", port))
    start_nodes(cluster, terminal)
    demo = Demo(terminal, cluster.nodes, port)
    steps = [
        demo.found,
        demo.configure,
        demo.create,
        demo.names,
        demo.balance,
        demo.heal,
        demo.scale,
        demo.lose,
        demo.update,
        demo.stack,
    ]
    for step in steps if keep else [*steps, demo.finish]:
        step()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--port", type=int, default=PORT, help="published by the demo, as is the port ten above")
    options = parser.parse_args()
    for number in ENDS:
        signal.signal(number, interrupt)
    environ = {"SWARMPY_CONTAINERD": "off", **os.environ}  # plain processes are all that it runs
    cluster = Cluster(root=Path(tempfile.mkdtemp(prefix="swarmpy-demo-")), network=Localhost(), environ=environ)
    began_s = time.monotonic()
    status = 1
    try:
        show(cluster, options.port, keep=options.keep)
        status = 0
    except (NotAsPromised, RuntimeError, TimeoutError) as problem:
        print(f"\nthe demo failed: {problem}", file=sys.stderr)
        what_nodes_said(cluster)
    except KeyboardInterrupt:
        status = INTERRUPTED
        print("\ninterrupted: stopping the nodes ...", flush=True)
    finally:
        if status == 0 and options.keep:
            how_to_go_on(cluster)
        elif not clean_up(cluster):
            status = 1
    print(f"\n{'done' if status == 0 else 'stopped'} after {time.monotonic() - began_s:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
