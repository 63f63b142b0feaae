"""Published ports: what the kernel leads (`--publish-driver nftables`), and UDP through the data plane, beside direct.

A table of its own leads one port to two listeners of nginx; wrk asks it, and nginx directly, in turns. Needs root. By
UDP an echo server is asked by clients that each wait for their answer, directly and through a data plane. All run on
the processors that there are; every figure is a share of direct, measured in the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from scripts.bench.proxy import ADDRESS, NGINX, await_ports, connected, free_port, running
from swarmpy.model.endpoints import ENCODER, Backend, EndpointsUpdate, HostPort, ServiceEndpoint, ServicePort, Transport
from worker.dataplane.protocol import Applied
from worker.network.link.ability import why_unsupported

LOADS: Final = {
    "ingress_kernel_keepalive": (),
    "ingress_kernel_new": ("-H", "Connection: close"),
}
CLIENTS: Final = 64
START_S: Final = 20.0
DATAGRAM: Final = bytes(64)
ECHO: Final = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], int(sys.argv[2])))
while True:
    data, client = sock.recvfrom(65536)
    sock.sendto(data, client)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each path")
    parser.add_argument("--seconds", type=int, default=2, help="length of a run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingress-bench-") as folder, contextlib.ExitStack() as stack:
        if why := why_unsupported():
            print(f"without the kernel's part: {why}")
        else:
            direct, led = led_port(Path(folder), stack)
            for bench, headers in LOADS.items():
                compare(
                    bench, "requests/s", args.rounds, *(partial(wrk, port, args, headers) for port in (led, direct))
                )
        direct, relayed = relayed_port(Path(folder), stack)
        compare(
            "ingress_udp", "answers/s", args.rounds, *(partial(ask, port, args.seconds) for port in (relayed, direct))
        )
    return 0


def compare(bench: str, unit: str, rounds: int, ours: Callable[[], float], direct: Callable[[], float]) -> None:
    """Measure in turns; print each round, and the medians as the result."""
    pairs = []
    for number in range(1, rounds + 1):
        pairs.append((ours(), direct()))
        print(f"{bench} {number}: {pairs[-1][0]:.0f} {unit}, direct {pairs[-1][1]:.0f}", flush=True)
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        json.dumps({"bench": bench, "ours": round(mine), "peer": round(other), "ratio": round(ratio, 3), "unit": unit})
    )


def led_port(folder: Path, stack: contextlib.ExitStack) -> tuple[int, int]:
    """Return a port of nginx, and one that the kernel leads to two of them until the end of the stack."""
    from worker.network.nft.ingress import Entry, IngressTable, Target
    from worker.network.nft.sock import NetfilterSocket

    folder.chmod(0o755)  # nginx drops to another user
    backends = [free_port(), free_port()]
    listens = " ".join(f"listen {ADDRESS}:{port} backlog=4096;" for port in backends)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, listens=listens))
    stack.enter_context(running(["nginx", "-c", str(folder / "nginx.conf")], processors(), backends))
    port = free_port()
    table = IngressTable(stack.enter_context(NetfilterSocket.open()), f"bench{os.getpid()}")
    stack.callback(table.remove)
    here = IPv4Address(ADDRESS)
    table.sync({Entry(here, port): tuple(Target(here, backend) for backend in backends)})
    await_ports([port])
    return backends[0], port


def relayed_port(folder: Path, stack: contextlib.ExitStack) -> tuple[int, int]:
    """Return the UDP port of an echo server, and one of a data plane that leads to it."""
    direct, port = free_port(), free_port()
    stack.enter_context(running([sys.executable, "-c", ECHO, ADDRESS, str(direct)], processors(), []))
    plane = ["-m", "worker.dataplane", "--state-dir", str(folder / "state"), "--addr", ADDRESS, "--dns-port", "0"]
    stack.enter_context(running([sys.executable, *plane, "--log-level", "warning"], processors(), []))
    asyncio.run(configure(folder / "state" / "run" / "dataplane.sock", direct, port))
    return direct, port


async def configure(path: Path, backend: int, port: int) -> None:
    """Tell the data plane its service, and wait until that is in force."""
    update = EndpointsUpdate(
        revision=1,
        complete=True,
        services=(ServiceEndpoint("echo", "echo", ports=(ServicePort(53, published=port, transport=Transport.UDP),)),),
        backends=(Backend("e.1", "echo", 1, "node", ADDRESS, (HostPort(53, backend, Transport.UDP),)),),
    )
    async with asyncio.timeout(START_S):
        client = await connected(path)
        await client.send_endpoints(ENCODER.encode(update))
        events = client.events()
        async for event in events:
            if isinstance(event, Applied) and event.revision == 1:
                break
        await events.aclose()
        await client.close()


def wrk(port: int, args: argparse.Namespace, headers: Sequence[str]) -> float:
    """Return the requests per second that wrk gets answered at a port."""
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{args.seconds}s", *headers, f"http://{ADDRESS}:{port}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if rate is None or "Non-2xx" in done.stdout:
        sys.exit(f"wrk did not go well; it said:\n{done.stdout}{done.stderr}")
    return float(rate[1])


def ask(port: int, seconds: float) -> float:
    """Return the answers per second that clients get that each wait for the one before."""
    with sockets() as clients:
        for client in clients:
            client.sendto(DATAGRAM, (ADDRESS, port))
        began_s = time.monotonic()
        answers = 0
        while time.monotonic() - began_s < seconds:
            for client in clients:
                client.recv(2048)
                client.sendto(DATAGRAM, (ADDRESS, port))
            answers += len(clients)
        return answers / (time.monotonic() - began_s)


@contextlib.contextmanager
def sockets() -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(CLIENTS)]
        for sock in made:
            sock.settimeout(5.0)
        yield made


def processors() -> str:
    return f"0-{(os.cpu_count() or 1) - 1}"


if __name__ == "__main__":
    sys.exit(main())
