"""The steps of the demo: what is typed, and what is promised of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Final

from scripts.cluster import Node
from scripts.demo.terminal import NotAsPromised, Terminal, promise

MANAGERS: Final = 3
WORKERS: Final = 2
DEADLINE_S: Final = 20.0
LOAD_FIRST_S: Final = 0.5
LOOK_S: Final = 0.05
SHOP_OFFSET: Final = 10


def shop_port(port: int) -> int:
    """Return the port of the shop, beside that of the demo's first service."""
    return port + SHOP_OFFSET


class Demo:
    """The steps, in the order in which they are shown."""

    def __init__(self, terminal: Terminal, nodes: list[Node], port: int) -> None:
        self.terminal = terminal
        self.nodes = nodes
        self.port = port

    def found(self) -> None:
        """Make a cluster of all nodes."""
        first = self.nodes[0]
        self.terminal.say("One node becomes a manager; others join with the tokens that it prints: a manager's ...")
        self.terminal.run(f"swarmpy swarm init --advertise-addr {first.address} --dispatcher-heartbeat 1s")
        self._join("manager", self.nodes[1:MANAGERS])
        self.until(lambda: self.managers() == ["Leader", "Reachable", "Reachable"], "one manager leads, two follow")
        self.terminal.say("... or a worker's.")
        self._join("worker", self.nodes[MANAGERS:])
        self.until(
            lambda: self.terminal.ask("swarmpy node ls").count("Ready") == len(self.nodes),
            f"{len(self.nodes)} nodes are Ready",
        )
        self.terminal.run("swarmpy node ls")
        told = self.terminal.run("swarmpy swarm status")
        promise(told.count("voter") == MANAGERS - 1, "each manager has a vote, and follows the leader's log")

    def _join(self, role: str, nodes: list[Node]) -> None:
        token = self.terminal.run(f"swarmpy swarm join-token -q {role}").strip()
        for node in nodes:
            join = f"swarmpy --state-dir {node.state_dir} swarm join --token {{}} {self.nodes[0].address}:2377"
            self.terminal.run(join.format(token), shown=join.format(f"{token[:16]}..."))

    def configure(self) -> None:
        """Store a config at one manager, and list it at another."""
        self.terminal.say("Any manager answers any command: a config is created at one, and listed at another.")
        made = self.terminal.run("echo 'greeting = hello' | swarmpy config create -l of=demo greeting -").strip()
        listed = self.terminal.run(f"swarmpy --state-dir {self.nodes[1].state_dir} config ls")
        promise(made in listed, "the other manager has it")

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
        for node in (self.nodes[0], self.nodes[1], self.nodes[-1]):
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
        self.terminal.note(f"seen after {time.monotonic() - killed_s:.2f} s")
        self.terminal.run("swarmpy service ps web")

    def scale(self) -> None:
        self.terminal.say("Six replicas instead of three.")
        self.terminal.run("swarmpy service scale --detach web=6")
        self.until(lambda: self.replicas("web") == "6/6", "six replicas run")

    def lose(self) -> None:
        """Kill the leader's whole node; bring it back."""
        lost, others = self.nodes[0], (self.nodes[1], self.nodes[-1])
        asked = f"swarmpy --state-dir {others[0].state_dir}"
        self.terminal.say(f"The power of the leader's node fails: {lost.name} dies with all that runs on it.")
        promise(self.leader(asked) == f"{lost.address}:2377", f"{lost.name} leads")
        load = self.terminal.start(f"python examples/load.py 40 {self.urls(others)}")
        try:
            time.sleep(LOAD_FIRST_S)
            self.terminal.type(f"kill -9 {' '.join(map(str, sorted(lost.processes())))}")
            killed_s = time.monotonic()
            lost.vanish()
            self.until(lambda: self.leader(asked) not in ("", f"{lost.address}:2377"), "another manager leads")
            self.terminal.note(f"seen after {time.monotonic() - killed_s:.2f} s")
            self.until(lambda: self.state(asked, lost) == "Down Unreachable", "the node is known to be down")
            self.until(lambda: self.replicas("web", asked) == "6/6", "its replicas run elsewhere")
            self.terminal.run(f"{asked} node ls")
        finally:
            counted = self.terminal.finish(load)
        failed = re.search(r"(\d+) failed", counted)
        streams = 2 * len(others)
        promise(
            failed is not None and int(failed[1]) <= streams,
            f"no more failed than the {streams} requests that could be at a replica that died",
        )
        self.terminal.say("It comes back, and follows.")
        lost.start()
        self.terminal.type(self.daemon(lost))
        self.until(lambda: self.state(asked, lost) == "Ready Reachable", f"{lost.name} is a manager again")
        self.terminal.run("swarmpy node ls")

    def update(self) -> None:
        """Roll a change out under load."""
        self.terminal.say("A rolling update, two at a time, under a steady stream of requests.")
        load = self.terminal.start(f"python examples/load.py 40 {self.urls(self.nodes)}")
        try:
            time.sleep(LOAD_FIRST_S)
            self.terminal.watch("swarmpy service update --env-add VERSION=2 --update-parallelism 2 web")
        finally:
            counted = self.terminal.finish(load)
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
        self.terminal.run("swarmpy config rm greeting")
        self.until(lambda: not self.terminal.ask("swarmpy service ls -q").strip(), "nothing is left")

    def dns(self) -> str:
        found = re.search(r"^ *DNS: (\S+)$", self.terminal.ask("swarmpy info"), re.MULTILINE)
        promise(found is not None, "the node says where its DNS is")
        assert found is not None, "promised"
        return found[1]

    def replicas(self, service: str, asked: str = "swarmpy") -> str:
        rows = self.terminal.ask(f"{asked} service ls --format '{{{{.Name}}}} {{{{.Replicas}}}}'").splitlines()
        return next((row.split()[1] for row in rows if row.split()[0] == service), "")

    def managers(self) -> list[str]:
        return sorted(self.terminal.ask("swarmpy node ls --format '{{.ManagerStatus}}'").split())

    def state(self, asked: str, node: Node) -> str:
        return self.terminal.ask(
            f"{asked} node ls -f name={node.name} --format '{{{{.Status}}}} {{{{.ManagerStatus}}}}'"
        ).strip()

    def leader(self, asked: str) -> str:
        return self.terminal.ask(f"{asked} swarm status --format '{{{{.LeaderAddr}}}}'").strip()

    def urls(self, nodes: Iterable[Node]) -> str:
        return " ".join(f"http://{node.address}:{self.port}/" for node in nodes)

    @staticmethod
    def daemon(node: Node) -> str:
        return f"swarmpyd --state-dir {node.state_dir} --addr {node.address} &"

    def running(self, service: str) -> str:
        return self.terminal.ask(f"swarmpy service ps {service} --no-trunc -q -f desired-state=running")

    def until(self, true: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not true():
            if time.monotonic() > deadline_s:
                raise NotAsPromised(f"within {DEADLINE_S:g} s: {what}")
            time.sleep(LOOK_S)
        promise(True, what)
