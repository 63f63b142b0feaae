"""`make demo`: a cluster of three nodes on this machine, driven by the commands that a person would type.

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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from scripts.cluster import ROOT, Cluster, Localhost, Node
from swarmpy.addresses import CONTROL_PORT

NODES = 3
PORT = 8080
HEAL_DEADLINE_S = 10.0
MOST_COMPLAINTS = 5
# A terminal that is closed ends the demo as an interrupt does: the nodes have sessions of their own.
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130
BOLD, DIM, PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class NotAsPromised(Exception):  # noqa: N818  # it reads as what it is
    """A step of the demo did not do what it says."""


class Terminal:
    """Types commands, shows what they print, and keeps it for checking."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def say(self, text: str) -> None:
        print(f"\n{BOLD}# {text}{PLAIN}", flush=True)

    def run(self, command: str, *, shown: str = "") -> str:
        """Type a command; return what it printed.

        Raises:
            NotAsPromised: its exit status is not 0.
        """
        self._echo(shown or command)
        lines = []
        with subprocess.Popen(
            ["bash", "-c", command], env=self.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as done:
            assert done.stdout is not None, "the output is a pipe"
            try:
                for line in done.stdout:
                    print(line, end="", flush=True)
                    lines.append(line)
            except KeyboardInterrupt:
                done.kill()
                raise
        if done.returncode:
            raise NotAsPromised(f"`{shown or command}` ended with status {done.returncode}")
        return "".join(lines)

    def watch(self, command: str) -> None:
        """Type a command that draws progress: it has the terminal to itself. Raises as `run` does."""
        self._echo(command)
        status = subprocess.run(["bash", "-c", command], env=self.environment, cwd=ROOT, check=False).returncode
        if status:
            raise NotAsPromised(f"`{command}` ended with status {status}")

    def start(self, command: str) -> subprocess.Popen[str]:
        """Type a command that runs in the background, its output in a pipe."""
        self._echo(f"{command} &")
        words = ["bash", "-c", f"exec {command}"]
        return subprocess.Popen(words, env=self.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def ask(self, command: str) -> str:
        """Run a command without showing it."""
        done = subprocess.run(
            ["bash", "-c", command], env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout

    def _echo(self, command: str) -> None:
        print(f"{BOLD}$ {command}{PLAIN}", flush=True)


def promise(kept: bool, what: str) -> None:
    """Fail the demo unless `kept`; `what` says what was promised."""
    if not kept:
        raise NotAsPromised(what)
    print(f"{DIM}  ok: {what}{PLAIN}", flush=True)


class Demo:
    """The steps, in the order in which they are shown."""

    def __init__(self, terminal: Terminal, nodes: list[Node], port: int) -> None:
        self.terminal = terminal
        self.nodes = nodes
        self.port = port

    def found(self) -> None:
        """Make a cluster of the three nodes."""
        first, *others = self.nodes
        self.terminal.say("One node becomes a manager; the others join with the token that it prints.")
        self.terminal.run(f"swarmpy swarm init --advertise-addr {first.address}")
        token = self.terminal.run("swarmpy swarm join-token -q worker").strip()
        for node in others:
            join = f"swarmpy --state-dir {node.state_dir} swarm join --token {token} {first.address}:2377"
            self.terminal.run(
                join,
                shown=f"swarmpy --state-dir {node.state_dir} swarm join --token {token[:16]}... {first.address}:2377",
            )
        self.until(
            lambda: self.terminal.ask("swarmpy node ls").count("Ready") == len(self.nodes), "three nodes are Ready"
        )
        self.terminal.run("swarmpy node ls")

    def create(self) -> None:
        """Create a replicated service with a published port."""
        self.terminal.say(f"A service of three replicas, published on port {self.port} of every node.")
        self.terminal.watch(
            f"swarmpy service create --name web --replicas 3 --publish {self.port}:8000,protocol=http "
            '--process --workdir "$PWD" -- .venv/bin/python examples/whoami.py'
        )
        listed = self.terminal.run("swarmpy service ps web")
        promise(listed.count("Running") >= 3, "three tasks run")

    def names(self) -> None:
        """Look the service up."""
        self.terminal.say("Its names: the service's own address, and its tasks'.")
        server = self.dns()
        found = self.terminal.run(f"python examples/lookup.py {server} web.swarm tasks.web.swarm")
        virtual, tasks = (line.split()[1:] for line in found.splitlines())
        promise(len(virtual) == 1 and virtual[0].startswith("127."), "web.swarm is one virtual address")
        promise(set(tasks) <= {n.address for n in self.nodes}, "tasks.web.swarm are the addresses of nodes")

    def balance(self) -> None:
        """Ask each node's published port."""
        self.terminal.say("Any node answers on the published port; the replicas take turns.")
        for node in self.nodes:
            lines = self.terminal.run(f"python examples/ask.py 12 http://{node.address}:{self.port}/").splitlines()
            turns = [len(set(lines[i : i + 3])) == 3 for i in range(0, 12, 3)]
            promise(len(lines) == 12 and all(turns), f"12 answers through {node.name}, each replica in turn")

    def heal(self) -> None:
        """Kill a replica."""
        self.terminal.say("A replica is killed; another takes its place.")
        rows = self.terminal.ask("swarmpy service ps web --no-trunc --format '{{.ID}} {{.PID}} {{.CurrentState}}'")
        victim, pid = next(row.split()[:2] for row in rows.splitlines() if "Running" in row)
        killed_s = time.monotonic()
        self.terminal.run(f"kill -9 {pid}")
        self.until(lambda: self.replicas("web") == "3/3" and victim not in self.running("web"), "it was replaced")
        print(f"{DIM}  seen after {time.monotonic() - killed_s:.2f} s{PLAIN}")
        self.terminal.run("swarmpy service ps web")

    def scale(self) -> None:
        self.terminal.say("Six replicas instead of three.")
        self.terminal.watch("swarmpy service scale web=6")
        promise(self.replicas("web") == "6/6", "six replicas run")

    def update(self) -> None:
        """Roll a change out under load."""
        self.terminal.say("A rolling update, two at a time, under a steady stream of requests.")
        urls = " ".join(f"http://{node.address}:{self.port}/" for node in self.nodes)
        load = self.terminal.start(f"python examples/load.py 40 {urls}")
        try:
            time.sleep(1)
            self.terminal.watch("swarmpy service update --env-add VERSION=2 --update-parallelism 2 web")
        finally:
            load.send_signal(signal.SIGTERM)
            counted = load.communicate(timeout=30)[0]
        print(counted, end="")
        promise(load.returncode == 0 and ", 0 failed" in counted, "no request failed")
        asked = self.terminal.run(f"python examples/ask.py 6 http://{self.nodes[1].address}:{self.port}/")
        promise(asked.count("version 2") == 6, "every replica is of version 2")

    def stack(self) -> None:
        """Deploy a Compose file whose services find each other by name."""
        self.terminal.say("A stack from a Compose file; its services find each other by name.")
        self.terminal.watch("swarmpy stack deploy -c examples/shop/compose.yaml shop")
        self.terminal.run("swarmpy stack services shop")
        server = self.dns()
        self.terminal.run(f"python examples/lookup.py {server} front.shop.swarm api.shop.swarm stock.shop.swarm")
        url = f"http://{self.nodes[2].address}:{shop_port(self.port)}/"
        page = self.terminal.run(f"python examples/fetch.py {url}")
        promise("apple" in page and "120" in page, "front asked api, and api asked stock")

    def finish(self) -> None:
        self.terminal.say("What the replicas printed, and the end.")
        printed = self.terminal.run("swarmpy service logs --tail 1 web")
        promise("listening on" in printed, "the logs of all nodes are here")
        self.terminal.run("swarmpy stack rm shop")
        self.terminal.run("swarmpy service rm web")
        self.until(lambda: not self.terminal.ask("swarmpy service ls -q").strip(), "nothing is left")

    def dns(self) -> str:
        found = re.search(r"^ *DNS: (\S+)$", self.terminal.ask("swarmpy info"), re.MULTILINE)
        promise(found is not None, "the node says where its DNS is")
        assert found is not None, "promised"
        return found[1]

    def replicas(self, service: str) -> str:
        rows = self.terminal.ask("swarmpy service ls --format '{{.Name}} {{.Replicas}}'").splitlines()
        return next((row.split()[1] for row in rows if row.split()[0] == service), "")

    def running(self, service: str) -> str:
        return self.terminal.ask(f"swarmpy service ps {service} --no-trunc -q -f desired-state=running")

    def until(self, true: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + HEAL_DEADLINE_S
        while not true():
            if time.monotonic() > deadline_s:
                raise NotAsPromised(f"within {HEAL_DEADLINE_S:g} s: {what}")
            time.sleep(0.05)
        promise(True, what)


def shop_port(port: int) -> int:
    return port + 10


def look_for_ports(port: int) -> None:
    """Find out before anything is started that a port of the demo is another program's.

    Raises:
        NotAsPromised: one is.
    """
    own = [(Localhost.address(1), CONTROL_PORT), (Localhost.address(1), CONTROL_PORT + 1)]
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


def start_nodes(cluster: Cluster) -> None:
    """Start the nodes, as separate swarmpyd's with their own addresses; return once they answer."""
    for _ in range(NODES):
        node = cluster.new_node()
        node.start()
        print(f"{BOLD}$ swarmpyd --state-dir {node.state_dir} --addr {node.address} &{PLAIN}", flush=True)

    async def ready() -> None:
        for node in cluster.nodes:
            await node.ready()

    asyncio.run(ready())


def environment(manager: Node, port: int) -> dict[str, str]:
    """Return the environment of the commands: this project's programs first, the manager's node by default."""
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ.get('PATH', '')}"
    return {
        **os.environ,
        "PATH": path,
        "SWARMPY_STATE_DIR": str(manager.state_dir),
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
    start_nodes(cluster)
    demo = Demo(Terminal(environment(cluster.nodes[0], port)), cluster.nodes, port)
    steps = [demo.found, demo.create, demo.names, demo.balance, demo.heal, demo.scale, demo.update, demo.stack]
    for step in steps if keep else [*steps, demo.finish]:
        step()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--port", type=int, default=PORT, help="published by the demo, as is the port ten above")
    options = parser.parse_args()
    for number in ENDS:
        signal.signal(number, interrupt)
    cluster = Cluster(root=Path(tempfile.mkdtemp(prefix="swarmpy-demo-")), network=Localhost())
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
