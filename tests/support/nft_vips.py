"""Tasks on one network, wired as a node wires them, for tests of the VIPs in a task's namespace."""

from __future__ import annotations

import random
from ipaddress import IPv4Address
from pathlib import Path

from tests.support.netlab import Lab, Space
from worker.network.nft.vip import Vip
from worker.network.nft.vips import VipTable

VIP = "10.0.1.2"
CLIENT = "10.0.1.10"


def backend(number: int) -> str:
    return f"10.0.1.{100 + number}"


def vip(*numbers: int, address: str = VIP) -> Vip:
    return Vip(IPv4Address(address), tuple(IPv4Address(backend(number)) for number in numbers))


class VipLab(Lab):
    """`client` with the table, and `backends` on the same network."""

    def __init__(self, folder: Path, *, backends: int) -> None:
        super().__init__(folder)
        self.fabric = self.space("fabric")
        self.fabric.ip("link add net type bridge", "link set net up")
        self.client = self._task("client", CLIENT)
        self.backends = [self._task(f"backend{number}", backend(number)) for number in range(backends)]
        self.socket = self.closed(self.client.netfilter())
        self.table = VipTable(self.socket, rng=random.Random(0))
        self.table.ensure()

    def _task(self, name: str, address: str) -> Space:
        task = self.space(name)
        self.wire(self.fabric, name, task, "eth0")
        self.fabric.ip(f"link set {name} master net")
        task.ip(f"address add {address}/24 dev eth0")
        return task
