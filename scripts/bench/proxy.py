"""Requests and new connections a second: our data plane process against HAProxy, in the same run, loaded by wrk.

Both balance two nginx listeners on loopback and are loaded in turn, several rounds; HAProxy runs one thread in mode
tcp. With two or more processors each proxy has one to itself and the load the others. The last lines are one JSON
object a bench, with the medians; where other work shares the machine, `cpu_ratio` (HAProxy's processor time for each
request, divided by ours) says more than the rates. Run it with `python scripts/bench/proxy.py`; needs wrk, nginx and
haproxy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmpy.errors import SwarmError
from swarmpy.model.endpoints import (
    ENCODER,
    AppProtocol,
    Backend,
    EndpointsUpdate,
    HostPort,
    ServiceEndpoint,
    ServicePort,
)
from worker.dataplane.client import DataPlaneClient
from worker.dataplane.protocol import Applied

ADDRESS: Final = "127.0.0.1"
START_S: Final = 10.0
PACKAGES: Final = {"wrk": "wrk", "nginx": "nginx-light", "haproxy": "haproxy", "taskset": "util-linux"}
LOADS: Final = {"proxy_keepalive": (), "proxy_new_connections": ("-H", "Connection: close")}
UNITS: Final = {"proxy_keepalive": "requests/s", "proxy_new_connections": "connections/s"}
US_OF: Final = {"us": 1.0, "ms": 1e3, "s": 1e6}

NGINX: Final = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ {listens} location / {{ return 200 "hello\\n"; }} }}
}}
"""
HAPROXY: Final = """
global
  nbthread 1
  maxconn 8192
defaults
  mode tcp
  timeout connect 3s
  timeout client 600s
  timeout server 600s
frontend clients
  bind {address}:{port} backlog 4096
  default_backend tasks
backend tasks
  balance roundrobin
{servers}
"""


@dataclass(frozen=True)
class Target:
    """What is loaded: a port, and the process whose processor time is counted."""

    name: str
    port: int
    pid: int


@dataclass(frozen=True)
class Sample:
    """One run of wrk: rate per second, 99th percentile of latency, processor time of the target per request."""

    rate: float
    p99_us: float
    cpu_us: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each target")
    parser.add_argument("--seconds", type=int, default=3, help="length of a run")
    parser.add_argument("--connections", type=int, default=64, help="wrk's connections")
    parser.add_argument("--http", action="store_true", help="also load a port with app_protocol=http")
    args = parser.parse_args()
    missing = [program for program in PACKAGES if shutil.which(program) is None]
    if missing:
        names = " ".join(PACKAGES[program] for program in missing)
        sys.exit(f"{' and '.join(missing)} not found: apt-get install {names}")
    with tempfile.TemporaryDirectory(prefix="proxy-bench-") as folder, contextlib.ExitStack() as stack:
        targets = start(Path(folder), stack, with_http=args.http)
        results = measure(targets, args)
    for bench, samples in results.items():
        print(json.dumps(summary(bench, samples)))
    return 0


def start(folder: Path, stack: contextlib.ExitStack, *, with_http: bool) -> list[Target]:
    """Start backends and proxies; all are stopped with `stack`."""
    folder.chmod(0o755)  # nginx drops to another user where this is root
    backends = [free_port(), free_port()]
    listens = " ".join(f"listen {ADDRESS}:{port} backlog=4096;" for port in backends)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, listens=listens))
    nginx = stack.enter_context(running(["nginx", "-c", str(folder / "nginx.conf")], load_cpus(), backends))
    peer_port = free_port()
    servers = "\n".join(f"  server s{number} {ADDRESS}:{port}" for number, port in enumerate(backends))
    (folder / "haproxy.cfg").write_text(HAPROXY.format(address=ADDRESS, port=peer_port, servers=servers))
    haproxy = ["haproxy", "-db", "-q", "-f", str(folder / "haproxy.cfg")]
    peer = stack.enter_context(running(haproxy, "0", [peer_port]))
    tcp_port, http_port = free_port(), free_port()
    plane = ["-m", "worker.dataplane", "--state-dir", str(folder / "state"), "--addr", ADDRESS, "--dns-port", "0"]
    ours = stack.enter_context(running([sys.executable, *plane, "--log-level", "warning"], "0", []))
    asyncio.run(configure(folder / "state" / "run" / "dataplane.sock", backends, tcp_port, http_port))
    targets = [Target("direct", backends[0], nginx.pid), Target("haproxy", peer_port, peer.pid)]
    targets.append(Target("ours", tcp_port, ours.pid))
    return [*targets, Target("ours http", http_port, ours.pid)] if with_http else targets


def measure(targets: Sequence[Target], args: argparse.Namespace) -> dict[str, dict[str, list[Sample]]]:
    """Load each target in turn, `rounds` times, printing each round; return samples by bench and target."""
    results: dict[str, dict[str, list[Sample]]] = {}
    for bench, headers in LOADS.items():
        samples: dict[str, list[Sample]] = {target.name: [] for target in targets}
        print(f"{bench} ({UNITS[bench]}; p99 us; processor us a request)")
        for number in range(1, args.rounds + 1):
            for target in targets:
                samples[target.name].append(load(target, args.seconds, args.connections, headers))
            cells = (
                f"{name} {found[-1].rate:>7.0f} {found[-1].p99_us:>6.0f} {found[-1].cpu_us:>5.1f}"
                for name, found in samples.items()
            )
            print(f"{number:>3}  {'   '.join(cells)}", flush=True)
        results[bench] = samples
    return results


def load(target: Target, seconds: int, connections: int, headers: Sequence[str]) -> Sample:
    """Run wrk once against `target`."""
    url = f"http://{ADDRESS}:{target.port}/"
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *headers, url]
    before_s = processor_s(target.pid)
    done = subprocess.run(pinned(wrk, load_cpus()), capture_output=True, text=True, check=True)
    used_s = processor_s(target.pid) - before_s
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    count = re.search(r"(\d+) requests in", done.stdout)
    if rate is None or p99 is None or count is None or "Non-2xx" in done.stdout:
        sys.exit(f"wrk against {target.name} did not go well; it said:\n{done.stdout}{done.stderr}")
    return Sample(float(rate[1]), float(p99[1]) * US_OF[p99[2]], used_s * 1e6 / max(1, int(count[1])))


def summary(bench: str, samples: dict[str, list[Sample]]) -> dict[str, object]:
    """Return the medians of one bench."""
    ours, peer, direct = (samples[name] for name in ("ours", "haproxy", "direct"))
    mine, theirs = (statistics.median(sample.rate for sample in found) for found in (ours, peer))
    result: dict[str, object] = {
        "bench": bench,
        "ours": round(mine),
        "peer": round(theirs),
        "ratio": round(mine / theirs, 3),
        "unit": UNITS[bench],
        "direct": round(statistics.median(sample.rate for sample in direct)),
    }
    for name, found in (("ours", ours), ("peer", peer)):
        result[f"{name}_p99_us"] = round(statistics.median(sample.p99_us for sample in found))
        result[f"{name}_cpu_us"] = round(statistics.median(sample.cpu_us for sample in found), 1)
    result["cpu_ratio"] = round(
        statistics.median(sample.cpu_us for sample in peer) / statistics.median(sample.cpu_us for sample in ours), 3
    )
    if "ours http" in samples:
        result["ours_http"] = round(statistics.median(sample.rate for sample in samples["ours http"]))
    return result


async def configure(path: Path, backends: Sequence[int], tcp_port: int, http_port: int) -> None:
    """Tell our data plane its services, and wait until they are in force."""
    ports = {"tcp": (tcp_port, AppProtocol.TCP), "http": (http_port, AppProtocol.HTTP)}
    update = EndpointsUpdate(
        revision=1,
        complete=True,
        services=tuple(
            ServiceEndpoint(name, name, ports=(ServicePort(80, published=port, app_protocol=protocol),))
            for name, (port, protocol) in ports.items()
        ),
        backends=tuple(
            Backend(f"{name}.{slot}", name, slot, "node", ADDRESS, (HostPort(80, port),))
            for name in ports
            for slot, port in enumerate(backends, 1)
        ),
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
    await asyncio.to_thread(await_ports, (tcp_port, http_port))


async def connected(path: Path) -> DataPlaneClient:
    while True:
        try:
            return await DataPlaneClient.connect(path, node_id="node", cluster_id="bench")
        except SwarmError:
            await asyncio.sleep(0.05)


# -- processes


@contextlib.contextmanager
def running(command: Sequence[str], cpus: str, ports: Sequence[int]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process on some processors, from when it listens at `ports` until the end of the context."""
    process = subprocess.Popen(pinned(command, cpus))
    try:
        await_ports(ports)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_ports(ports: Sequence[int]) -> None:
    deadline_s = time.monotonic() + START_S
    for port in ports:
        while True:
            with contextlib.suppress(OSError), socket.create_connection((ADDRESS, port), timeout=1.0):
                break
            if time.monotonic() > deadline_s:
                sys.exit(f"nothing listens on {ADDRESS}:{port}; the process's own message is above")
            time.sleep(0.05)


def pinned(command: Sequence[str], cpus: str) -> list[str]:
    """Return `command` bound to processors; as it is where there is but one."""
    return ["taskset", "-c", cpus, *command] if len(os.sched_getaffinity(0)) > 1 else list(command)


def load_cpus() -> str:
    return f"1-{max(1, (os.cpu_count() or 1) - 1)}"


def processor_s(pid: int) -> float:
    """Return the processor time that a process and its children's threads have used, seconds."""
    total_s = 0.0
    for stat in (Path(f"/proc/{pid}/stat"), *children(pid)):
        fields = stat.read_text().rpartition(")")[2].split()
        total_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total_s


def children(pid: int) -> list[Path]:
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/stat") for child in pids]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((ADDRESS, 0))
        port: int = sock.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
