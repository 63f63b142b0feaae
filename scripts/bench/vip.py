"""A VIP in a task's namespace against its backend directly: requests and new connections a second, loaded by wrk.

A client with VIPs and nginx with the addresses of two backends are in namespaces of their own on one bridge, as tasks
on a network are. The client asks the VIP, and a backend directly; another one, whose namespace has no VIPs and so
tracks no connections, asks a backend, too (`bare`). They take turns, several rounds; then changes are timed, in a
namespace with many services. The last lines are one JSON object a bench; where other work shares the machine,
`cpu_ratio` (direct's processor time for each request, divided by the VIP's) says more than the rates. Run it as root
with `python -m scripts.bench.vip`; needs wrk, nginx and iproute2.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final, NamedTuple

from scripts.bench.proxy import processor_s
from scripts.bench.report import median, report, table
from worker.network.link.namespace import open_in, pin, unpin
from worker.network.nft.host import HostTable
from worker.network.nft.layout import Links, Publication
from worker.network.nft.sock import NetfilterSocket
from worker.network.nft.vip import Vip
from worker.network.nft.vips import VipTable

PACKAGES: Final = {"wrk": "wrk", "nginx": "nginx-light", "ip": "iproute2", "nsenter": "util-linux"}
LOADS: Final = {"vip_keepalive": (), "vip_new_connections": ("-H", "Connection: close")}
UNITS: Final = {"vip_keepalive": "requests/s", "vip_new_connections": "connections/s"}
START_S: Final = 10.0
VIP: Final = IPv4Address("10.0.1.2")
CLIENTS: Final = {"bare": "10.0.1.10", "client": "10.0.1.11"}
BACKENDS: Final = (IPv4Address("10.0.1.100"), IPv4Address("10.0.1.101"))
WAYS: Final = {"bare": ("bare", BACKENDS[0]), "direct": ("client", BACKENDS[0]), "vip": ("client", VIP)}
"""Each way's client, and the address that it asks."""

NGINX: Final = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 80 backlog=4096; location / {{ return 200 "hello\\n"; }} }}
}}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each way")
    parser.add_argument("--seconds", type=int, default=1, help="length of a run")
    parser.add_argument("--connections", type=int, default=64, help="wrk's connections")
    parser.add_argument("--services", type=int, default=100, help="services of 10 tasks in the table that is changed")
    args = parser.parse_args()
    missing = [program for program in PACKAGES if shutil.which(program) is None]
    if missing:
        names = " ".join(PACKAGES[program] for program in missing)
        sys.exit(f"{' and '.join(missing)} not found: apt-get install {names}")
    if os.geteuid() != 0:
        sys.exit("only root can make network namespaces; run this as root")
    with tempfile.TemporaryDirectory(prefix="vip-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        spaces = {space: made(folder / space, stack) for space in ("fabric", "server", *CLIENTS)}
        wire(spaces)
        server = stack.enter_context(nginx(folder, spaces["server"]))
        loader = Loader(spaces, server.pid, args.seconds, args.connections)
        sock = stack.enter_context(open_in(spaces["client"], NetfilterSocket.open))
        vips = VipTable(sock, rng=random.Random(0))
        vips.ensure()
        vips.sync([Vip(VIP, BACKENDS)])
        for bench, headers in LOADS.items():
            compare(bench, headers, loader, args.rounds)
        measure_changes(vips, sock, args.services)
    return 0


def compare(bench: str, headers: Sequence[str], loader: Loader, rounds: int) -> None:
    """Load each way in turn, and print a round's row, then the medians."""
    found: dict[str, list[Sample]] = {way: [] for way in WAYS}
    for number in range(rounds):
        # Who is first takes turns, so that a machine that gets busier is not one way's fault.
        for way in sorted(WAYS, reverse=bool(number % 2)):
            found[way].append(loader.load(*WAYS[way], headers))
    print(f"{bench} ({UNITS[bench]}; processor us a request)")
    heads = [f"{way} {what}" for way in WAYS for what in ("rate", "us")]
    columns = [[value for way in WAYS for value in found[way][number]] for number in range(rounds)]
    table(("round", *heads), [(number, *row) for number, row in enumerate(columns, 1)])
    rate = {way: median([sample.rate for sample in found[way]]) for way in WAYS}
    cpu_us = {way: median([sample.cpu_us for sample in found[way]]) for way in WAYS}
    report(
        bench,
        rate["vip"],
        round(rate["direct"]),
        UNITS[bench],
        cpu_ratio=round(cpu_us["direct"] / cpu_us["vip"], 3),
        bare=round(rate["bare"]),
        bare_ratio=round(rate["vip"] / rate["bare"], 3),
        bare_cpu_ratio=round(cpu_us["bare"] / cpu_us["vip"], 3),
    )


class Sample(NamedTuple):
    """One run of wrk: rate per second, and processor time of wrk and nginx for each request."""

    rate: float
    cpu_us: float


class Loader:
    """Runs wrk in a client's namespace."""

    def __init__(self, spaces: Mapping[str, Path], server_pid: int, seconds: int, connections: int) -> None:
        self._spaces = spaces
        self._server_pid = server_pid
        self._options = ("-t1", f"-c{connections}", f"-d{seconds}s")

    def load(self, client: str, address: IPv4Address, headers: Sequence[str]) -> Sample:
        before_s = self._processor_s()
        wrk = ["wrk", *self._options, *headers, f"http://{address}/"]
        done = subprocess.run(inside(self._spaces[client], wrk), capture_output=True, text=True, check=True)
        used_s = self._processor_s() - before_s
        rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        count = re.search(r"(\d+) requests in", done.stdout)
        if rate is None or count is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
            sys.exit(f"wrk against {address} did not go well; it said:\n{done.stdout}{done.stderr}")
        return Sample(float(rate[1]), used_s * 1e6 / max(1, int(count[1])))

    def _processor_s(self) -> float:
        """Return what all runs of wrk so far and the server have used."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime + processor_s(self._server_pid)


def measure_changes(vips: VipTable, sock: NetfilterSocket, services: int) -> None:
    """Time what a worker does: building a namespace's table, changing one service, publishing one port."""
    wanted = [service(number) for number in range(services)]
    vips.remove()
    began_s = time.perf_counter()
    vips.ensure()
    vips.sync(wanted)
    build_s = time.perf_counter() - began_s
    first = wanted[0]
    fewer = Vip(first.address, first.backends[:-1])
    other = Vip(first.address, (*first.backends[:-1], IPv4Address("10.99.0.1")))
    port = Publication("tcp", IPv4Address("127.0.0.2"), 30000, IPv4Address("172.18.0.2"), 80)
    with contextlib.closing(sock):
        host = HostTable(sock, "0" * 12, Links("sp000000", IPv4Network("172.18.0.0/20")))
        host.ensure()
        figures = {
            "scaled_us": each_us(lambda: vips.change([fewer]), lambda: vips.change([first])),
            "replaced_us": each_us(lambda: vips.change([other]), lambda: vips.change([first])),
            "unchanged_us": each_us(lambda: vips.sync(wanted), lambda: None) * 2,
            "published_us": each_us(lambda: host.change(add=[port]), lambda: host.change(remove=[port])),
        }
    print(f"changes, in a table of {services} services of {len(first.backends)} tasks")
    table(("what", "us"), [("all built", build_s * 1e6), *((name, value) for name, value in figures.items())])
    rounded = {name: round(value, 1) for name, value in figures.items()}
    report("vip_build", build_s * 1000, None, "ms", services=services, **rounded)


def each_us(do: Callable[[], object], undo: Callable[[], object], times: int = 200) -> float:
    """Return the mean time of one of two calls that are made in turn, microseconds."""
    began_s = time.perf_counter()
    for _ in range(times):
        do()
        undo()
    return (time.perf_counter() - began_s) / times / 2 * 1e6


def service(number: int) -> Vip:
    """Return a service of ten tasks."""
    first = int(IPv4Address("10.1.0.0")) + number * 16
    return Vip(IPv4Address(first), tuple(IPv4Address(first + place) for place in range(1, 11)))


# -- namespaces


def made(path: Path, stack: contextlib.ExitStack) -> Path:
    """Make a namespace that is gone with `stack`."""
    pin(path)
    stack.callback(unpin, path)
    ip(path, "link set lo up")
    return path


def wire(spaces: dict[str, Path]) -> None:
    """Put the server and the clients on one bridge."""
    fabric = spaces["fabric"]
    open_in(fabric, keep_filters_off_bridges)
    ip(fabric, "link add net type bridge", "link set net up")
    places = {"server": [str(address) for address in BACKENDS], **{name: [at] for name, at in CLIENTS.items()}}
    for name, addresses in places.items():
        ip(
            fabric,
            f"link add {name} type veth peer name eth0 netns {spaces[name]}",
            f"link set {name} master net",
            f"link set {name} up",
        )
        ip(spaces[name], *(f"address add {address}/24 dev eth0" for address in addresses), "link set eth0 up")


def keep_filters_off_bridges() -> None:
    """Let bridged frames pass without the hooks of IP, as on the networks of tasks."""
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if switch.exists():
        switch.write_text("0")


def ip(space: Path, *lines: str) -> None:
    subprocess.run(inside(space, ["ip", "-batch", "-"]), input="\n".join(lines), text=True, check=True)


def inside(space: Path, command: Sequence[str]) -> list[str]:
    return ["nsenter", f"--net={space}", *command]


@contextlib.contextmanager
def nginx(folder: Path, space: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run nginx in a namespace, from when it listens."""
    folder.chmod(0o755)  # nginx drops to another user where this is root
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    process = subprocess.Popen(inside(space, ["nginx", "-c", str(folder / "nginx.conf")]))
    try:
        deadline_s = time.monotonic() + START_S
        while not (folder / "nginx.pid").exists():  # written when it listens
            if process.poll() is not None or time.monotonic() > deadline_s:
                sys.exit("nginx did not start; its own message is above")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
