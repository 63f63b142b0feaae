"""An overlay to another node beside Docker's: requests and new connections a second, by address and by VIP.

Two hosts as namespaces for each, with a client and a server that are tasks on an overlay, one on each host; wrk and
nginx run in the tasks' network namespaces. All ways take turns, several rounds. The last lines are one JSON object a
bench: `overlay_*` by the task's address and `overlay_vip_*` by the service's, the peer being Docker's; `of_direct` is
our VIP's rate divided by that of the address. Run it as root with `python -m scripts.bench.overlay`; needs wrk and
nginx, and dockerd for the peer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from scripts.bench.dockers import SEARCHED, Daemon, Dockers, source, why_not
from scripts.bench.report import median, report, table
from scripts.bench.vip import Loader, Sample, nginx
from scripts.cluster import until
from tests.support.images import busybox_entries, tar_bytes
from tests.support.overlay_swarm import OverlaySwarm, address, service

PACKAGES: Final = {"curl": "curl", "wrk": "wrk", "nginx": "nginx-light", "nsenter": "util-linux"}
LOADS: Final = {"keepalive": (), "new_connections": ("-H", "Connection: close")}
UNITS: Final = {"keepalive": "requests/s", "new_connections": "connections/s"}
IMAGE: Final = "docker.io/library/bench:1"
SLEEP: Final = ("/bin/sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait")
WAIT_S: Final = 60.0


@dataclass(frozen=True)
class Link:
    """A client's and a server's namespace on different hosts, and how the client reaches the server."""

    client: Path
    server: Path
    direct: IPv4Address
    vip: IPv4Address


@contextlib.asynccontextmanager
async def ours() -> AsyncIterator[Link]:
    async with OverlaySwarm(2) as swarm:
        network = await swarm.network_of("front")
        await swarm.create(service("server", network))
        (server,) = await swarm.running("server", 1)
        await swarm.create(service("client", network, replicas=2))
        client = next(task for task in await swarm.running("client", 2) if task.node_id != server.node_id)
        vip = IPv4Address(await swarm.vip("server", network))
        yield Link(swarm.pin(client), swarm.pin(server), IPv4Address(address(server, network)), vip)


@contextlib.asynccontextmanager
async def dockers() -> AsyncIterator[Link]:
    async with Dockers(2, options=("--storage-driver=vfs",)) as swarm:
        leader = await swarm.leader()
        rootfs = tar_bytes(busybox_entries())
        environ = {**os.environ, "PATH": SEARCHED}
        for daemon in swarm.daemons:
            load = ["docker", "-H", f"unix://{daemon.socket}", "import", "-", IMAGE]
            await asyncio.to_thread(subprocess.run, load, input=rootfs, check=True, capture_output=True, env=environ)
        network = await leader.api.call("POST", "/networks/create", {"Name": "front", "Driver": "overlay"})
        for name, replicas in (("server", 1), ("client", 2)):
            await create(leader, name, network["Id"], replicas)
        ((host, server),) = await containers(swarm.daemons, "server", 1)
        client = next(row for at, row in await containers(swarm.daemons, "client", 2) if at is not host)
        endpoint = (await leader.api.call("GET", "/services/server"))["Endpoint"]["VirtualIPs"]
        vip = next(row["Addr"] for row in endpoint if row["NetworkID"] == network["Id"])
        direct = server["NetworkSettings"]["Networks"]["front"]["IPAddress"]
        yield Link(namespace(client), namespace(server), IPv4Address(direct), IPv4Address(vip.partition("/")[0]))


async def create(leader: Daemon, name: str, network: str, replicas: int) -> None:
    """Create a service of Docker's on a network."""
    template = {
        "ContainerSpec": {"Image": IMAGE, "Command": list(SLEEP)},
        "Networks": [{"Target": network}],
        "Placement": {"MaxReplicas": 1},
    }
    body = {"Name": name, "TaskTemplate": template, "Mode": {"Replicated": {"Replicas": replicas}}}
    await leader.api.call("POST", "/services/create", body)


async def containers(daemons: list[Daemon], name: str, count: int) -> list[tuple[Daemon, dict[str, Any]]]:
    """Return a service's containers once all run, each with its daemon."""
    filters = f'{{"label":["com.docker.swarm.service.name={name}"]}}'

    async def ask() -> list[tuple[Daemon, dict[str, Any]]] | None:
        rows = [
            (one, row) for one in daemons for row in await one.api.call("GET", f"/containers/json?filters={filters}")
        ]
        found = [(one, await one.api.call("GET", f"/containers/{row['Id']}/json")) for one, row in rows]
        return found if len(found) == count and all(row["State"]["Running"] for _, row in found) else None

    return await until(ask, what=f"Docker runs {name}", deadline_s=WAIT_S)


def namespace(container: dict[str, Any]) -> Path:
    return Path(f"/proc/{container['State']['Pid']}/ns/net")


async def measure(rounds: int, seconds: int, connections: int) -> None:
    reason = why_not()
    async with contextlib.AsyncExitStack() as stack:
        links = {"ours": await stack.enter_async_context(ours())}
        if reason is None:
            links["docker"] = await stack.enter_async_context(dockers())
        ways: dict[str, tuple[Loader, IPv4Address]] = {}
        for name, link in links.items():
            server = stack.enter_context(nginx(stack.enter_context(folder()), link.server))
            loader = Loader({"client": link.client}, server.pid, seconds, connections)
            ways[name] = loader, link.direct
            if await asyncio.to_thread(answers, link.client, link.vip):
                ways[f"{name} vip"] = loader, link.vip
            else:
                print(f"{name}: the VIP does not answer on this machine, and is left out (Docker's needs ip_vs)")
        for bench, headers in LOADS.items():
            found: dict[str, list[Sample]] = {way: [] for way in ways}
            for number in range(rounds):
                for way in sorted(ways, reverse=bool(number % 2)):
                    loader, to = ways[way]
                    found[way].append(await asyncio.to_thread(loader.load, "client", to, headers))
            tell(bench, found, reason)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Yield a directory that nginx's workers, who are somebody else, can read."""
    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def answers(client: Path, to: IPv4Address) -> bool:
    """Whether a server answers a client within a while."""
    command = ["nsenter", f"--net={client}", "curl", "--silent", "--max-time", "5", f"http://{to}/"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def tell(bench: str, found: dict[str, list[Sample]], reason: str | None) -> None:
    """Print the rounds, and the medians as results."""
    rates = {way: [sample.rate for sample in samples] for way, samples in found.items()}
    print(f"{bench} to another node ({UNITS[bench]})")
    table(("round", *rates), [(number, *row) for number, row in enumerate(zip(*rates.values(), strict=True), 1)])
    mid = {way: median(values) for way, values in rates.items()}
    report(f"overlay_{bench}", mid["ours"], mid.get("docker"), UNITS[bench], **source(reason))
    of_direct = round(mid["ours vip"] / mid["ours"], 3)
    more = {"of_direct": of_direct, **(source(reason) if "docker vip" in mid else {})}
    report(f"overlay_vip_{bench}", mid["ours vip"], mid.get("docker vip"), UNITS[bench], **more)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each way")
    parser.add_argument("--seconds", type=int, default=1, help="length of a run")
    parser.add_argument("--connections", type=int, default=64, help="wrk's connections")
    args = parser.parse_args()
    missing = [program for program in PACKAGES if shutil.which(program) is None]
    if missing:
        names = " ".join(PACKAGES[program] for program in missing)
        sys.exit(f"{' and '.join(missing)} not found: apt-get install {names}")
    if os.geteuid() != 0:
        print("networks take root: nothing was measured")
        return 0
    asyncio.run(measure(args.rounds, args.seconds, args.connections))
    return 0


if __name__ == "__main__":
    sys.exit(main())
