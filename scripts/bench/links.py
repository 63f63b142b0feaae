"""Time links: a task's namespace with its way out and a network, one after another; and what a network is told.

Run by hand as root: python -m scripts.bench.links [COUNT]. Works in a network namespace of its own, and leaves nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from worker.network.link.fabric import Segment
from worker.network.link.forwarding import Neighbour
from worker.network.link.links import Links
from worker.network.link.namespace import open_in
from worker.network.link.place import Place

NETWORK = Segment("network", 70001, IPv4Network("10.0.0.0/16"))
NEIGHBOURS = 2000


@contextmanager
def host() -> Iterator[Path]:
    """Make a namespace that stands for a machine."""
    name = f"swarmpy-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield Path("/run/netns", name)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@contextmanager
def timed(what: str, count: int) -> Iterator[None]:
    """Print how long something takes, each and all."""
    cpu_s, began_s = time.process_time(), time.perf_counter()
    yield
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    print(f"{what:<42} {took_s / count * 1000:8.2f} ms each {took_s * 1000:9.1f} ms all {cpu_s * 1000:9.1f} ms cpu")


def measure_and_clear(directory: Path, count: int) -> None:
    place = Place(directory, uuid.uuid4().hex[:12], IPv4Address("127.0.0.2"))
    try:
        measure(place, count)
    finally:
        with Links(place, clock=time.monotonic) as links:
            links.clear()


def measure(place: Place, count: int) -> None:
    tasks = [f"task{number}" for number in range(count)]
    with Links(place, clock=time.monotonic) as links:
        with timed("gateway, network", 1):
            links.gateway()
            links.ensure_network(NETWORK)
        with timed("namespace", count):
            for task in tasks:
                links.make_namespace(task)
        with timed("way out", count):
            for task in tasks:
                links.join_gateway(task, "eth1")
        with timed("network", count):
            for number, task in enumerate(tasks):
                address = IPv4Interface((NETWORK.subnet.network_address + 2 + number, 16))
                links.join_network(task, "network", address, "eth0")
        with timed("all of it again (a restarted worker)", count):
            for number, task in enumerate(tasks):
                address = IPv4Interface((NETWORK.subnet.network_address + 2 + number, 16))
                links.make_namespace(task)
                links.join_gateway(task, "eth1")
                links.join_network(task, "network", address, "eth0")
        far = NETWORK.subnet.network_address + 20000
        rows = [Neighbour(far + number, IPv4Address("127.0.0.3")) for number in range(NEIGHBOURS)]
        with timed(f"{NEIGHBOURS} neighbours", NEIGHBOURS):
            links.set_neighbours("network", rows)
        with timed("the same again", NEIGHBOURS):
            links.set_neighbours("network", rows)
        with timed("one of them less", 1):
            links.set_neighbours("network", rows[1:])
        with timed("sweep that finds nothing", 1):
            links.sweep(tasks, ["network"])
    with Links(place, clock=time.monotonic) as links:
        with timed("neighbours read back after a restart", NEIGHBOURS):
            links.ensure_network(NETWORK)
            links.set_neighbours("network", rows[1:])
        with timed("remove", count):
            for task in tasks:
                links.remove_namespace(task)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory(prefix="bench") as directory, host() as namespace:
        open_in(namespace, lambda: measure_and_clear(Path(directory), count))


if __name__ == "__main__":
    main()
