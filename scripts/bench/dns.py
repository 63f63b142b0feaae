"""DNS queries a second: our data plane process against dnsmasq, in the same run, asked by dnsperf.

Both serve the same names from one process on loopback and are asked in turn, several rounds; the last line is one
JSON object with the medians. Run it with `python scripts/bench/dns.py`; needs dnsperf and dnsmasq.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from swarmpy.errors import SwarmError
from swarmpy.model.endpoints import ENCODER, Backend, EndpointsUpdate, HostPort, ServiceEndpoint
from worker.dataplane.client import DataPlaneClient
from worker.dataplane.protocol import Hello

ADDRESS: Final = "127.0.0.1"
START_S: Final = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each server")
    parser.add_argument("--seconds", type=int, default=3, help="length of a round of one server")
    parser.add_argument("--services", type=int, default=500, help="names served and asked for")
    parser.add_argument("--clients", type=int, default=4, help="dnsperf's clients")
    args = parser.parse_args()
    missing = [program for program in ("dnsperf", "dnsmasq") if shutil.which(program) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found: apt-get install dnsperf dnsmasq-base")
    with tempfile.TemporaryDirectory(prefix="dns-bench-") as folder:
        result = compare(Path(folder), args)
    print(json.dumps(result))
    return 0


def compare(folder: Path, args: argparse.Namespace) -> dict[str, object]:
    """Run both servers, ask them in turn, print a table, and return the medians."""
    names = [f"service-{n}.swarm" for n in range(1, args.services + 1)]
    questions = folder / "questions"
    questions.write_text("".join(f"{name} A\n" for name in names))
    with our_server(folder, args.services) as (ours, hello), dnsmasq(names) as (peer, peer_port):
        ask = ["dnsperf", "-d", str(questions), "-l", str(args.seconds), "-c", str(args.clients), "-s", ADDRESS]
        rounds = []
        print(f"{'round':>5} {'ours q/s':>10} {'dnsmasq q/s':>12} {'ratio':>6}")
        for number in range(1, args.rounds + 1):
            # Who is first takes turns, so that a machine that gets busier is not one server's fault.
            ports = (hello.dns_port, peer_port) if number % 2 else (peer_port, hello.dns_port)
            rates = {port: rate([*ask, "-p", str(port)]) for port in ports}
            mine, theirs = rates[hello.dns_port], rates[peer_port]
            rounds.append((mine, theirs))
            print(f"{number:>5} {mine:>10.0f} {theirs:>12.0f} {mine / theirs:>6.2f}")
        memory = {"ours_rss_mb": resident_mb(ours.pid), "peer_rss_mb": resident_mb(peer.pid)}
    print(f"resident memory: ours {memory['ours_rss_mb']} MB, dnsmasq {memory['peer_rss_mb']} MB")
    mine, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {
        "bench": "dns",
        "ours": round(mine),
        "peer": round(theirs),
        "ratio": round(mine / theirs, 3),
        "unit": "queries/s",
        **memory,
    }


@contextlib.contextmanager
def our_server(folder: Path, services: int) -> Iterator[tuple[subprocess.Popen[bytes], Hello]]:
    """Run the data plane with `services` services of two tasks each."""
    state = folder / "state"
    command = [sys.executable, "-m", "worker.dataplane", "--state-dir", str(state), "--addr", ADDRESS]
    process = subprocess.Popen([*command, "--dns-port", "0", "--log-level", "warning"])
    with ended(process):
        yield process, asyncio.run(configure(state / "run" / "dataplane.sock", services))


async def configure(path: Path, services: int) -> Hello:
    """Send the endpoints, and return the Hello that has the DNS port and the VIPs' prefix."""
    update = EndpointsUpdate(
        revision=1,
        complete=True,
        services=tuple(
            # Without a target port nothing listens: this bench is about names.
            ServiceEndpoint(service_id=f"s{n}", name=f"service-{n}", vip_index=n, ports=())
            for n in range(1, services + 1)
        ),
        backends=tuple(
            Backend(
                task_id=f"t{n}-{slot}",
                service_id=f"s{n}",
                slot=slot,
                node_id="node",
                address=ADDRESS,
                ports=(HostPort(target=80, port=20000 + slot),),
            )
            for n in range(1, services + 1)
            for slot in (1, 2)
        ),
    )
    async with asyncio.timeout(START_S):
        client = await connected(path)
        try:
            await client.send_endpoints(ENCODER.encode(update))
            events = client.events()
            applied = False
            while not (applied and client.hello and client.hello.dns_port and client.hello.vip_prefix):
                event = await anext(events)
                applied = applied or getattr(event, "revision", 0) == 1
            await events.aclose()
            return client.hello
        finally:
            await client.close()


async def connected(path: Path) -> DataPlaneClient:
    while True:
        try:
            return await DataPlaneClient.connect(path, node_id="node", cluster_id="bench")
        except SwarmError:
            await asyncio.sleep(0.05)


@contextlib.contextmanager
def dnsmasq(names: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run dnsmasq with one address for each of `names`, and no server to forward to."""
    port = free_port()
    records = [f"--host-record={name},127.64.{n >> 8}.{n & 255}" for n, name in enumerate(names, 1)]
    options = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"]
    where = [f"--listen-address={ADDRESS}", f"--port={port}", "--pid-file=", "--user="]
    process = subprocess.Popen(["dnsmasq", *options, *where, "--local=/swarm/", *records])
    with ended(process):
        deadline_s = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection((ADDRESS, port), timeout=1.0):
                break
            if process.poll() is not None or time.monotonic() > deadline_s:
                sys.exit(f"dnsmasq did not start on {ADDRESS}:{port}; its own message is above")
            time.sleep(0.05)
        yield process, port


def free_port() -> int:
    """Return a port that was free a moment ago over TCP and UDP."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind((ADDRESS, 0))
        udp.bind(tcp.getsockname())
        port: int = tcp.getsockname()[1]
        return port


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stop a process at the end, whatever happens."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def rate(command: list[str]) -> float:
    """Run dnsperf; return its queries per second, after checking that all were answered well."""
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Queries per second:\s+([\d.]+)", output)
    codes = re.search(r"Response codes:\s+(.*)", output)
    lost = re.search(r"Queries lost:\s+(\d+)", output)
    if not (found and codes and lost) or "NOERROR" not in codes[1] or "," in codes[1]:
        sys.exit(f"dnsperf's answers are not all NOERROR:\n{output}")
    if int(lost[1]):
        print(f"note: {lost[1]} queries lost")
    return float(found[1])


def resident_mb(pid: int) -> float:
    """Return a process's resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * 4096 / 1e6, 1)


if __name__ == "__main__":
    sys.exit(main())
