"""A host with two tasks and a machine outside, wired as a node wires them, for tests of the host's table."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from tests.support.netlab import Lab, Space
from worker.network.nft.host import HostTable
from worker.network.nft.layout import Links

KEY = "abcdef012345"
LINKS = Links("spabcdef", IPv4Network("172.18.0.0/20"))
GATEWAY = "172.18.0.1"
TASKS = ("172.18.0.2", "172.18.0.3")
HOST = "10.9.0.1"
OUTSIDE = "10.9.0.2"


class HostLab(Lab):
    """`host` with the table, `tasks` on links of their own, and `outside` on a network with the host."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.host = self.space("host")
        self.outside = self.space("outside")
        self.tasks = tuple(self.space(f"task{number}") for number in (1, 2))
        self.wire(self.host, "eth0", self.outside, "eth0")
        self.host.ip(f"address add {HOST}/24 dev eth0")
        # A machine outside that would find its way to the tasks, if it were let.
        self.outside.ip(f"address add {OUTSIDE}/24 dev eth0", f"route add {LINKS.pool} via {HOST}")
        self.host.sysctl("ipv4/ip_forward", 1)
        for number, (task, address) in enumerate(zip(self.tasks, TASKS, strict=True)):
            self._attach(task, address, f"{LINKS.prefix}{number:07}")
        self.socket = self.closed(self.host.netfilter())
        self.table = HostTable(self.socket, KEY, LINKS)
        self.table.ensure()

    def _attach(self, task: Space, address: str, link: str) -> None:
        self.wire(self.host, link, task, "eth0")
        self.host.ip(f"address add {GATEWAY}/32 dev {link}", f"route add {address}/32 dev {link} src {GATEWAY}")
        self.host.sysctl(f"ipv4/conf/{link}/route_localnet", 1)
        self.host.sysctl(f"ipv4/conf/{link}/rp_filter", 1)
        task.ip(
            f"address add {address}/32 dev eth0",
            f"route add {GATEWAY}/32 dev eth0",
            f"route add default via {GATEWAY} dev eth0",
        )
