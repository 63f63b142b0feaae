"""The services' addresses in the namespaces of this node's tasks, for the one thread of the machine's tables."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import structlog

from swarmpy.errors import SwarmError
from worker.dataplane.protocol import TASK_NAME_SERVER
from worker.network.link.namespace import open_in
from worker.network.nft.conntrack import Conntrack
from worker.network.nft.enclosure import enclose
from worker.network.nft.own_names import lead_names
from worker.network.nft.sock import NetfilterSocket
from worker.network.nft.vip import Withdrawn
from worker.network.nft.vips import VipTable
from worker.network.reach import Balance
from worker.network.wiring import DNS_PORT, Wiring

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Task:
    sock: NetfilterSocket
    table: VipTable
    conntrack: Conntrack


class TaskTables:
    """One table a task, with a socket that keeps the task's namespace: `close_task` comes before its removal."""

    def __init__(self, namespace: Callable[[str], Path], rng: random.Random) -> None:
        """
        Args:
            namespace: returns where a task's is pinned.
        """
        self._namespace = namespace
        self._rng = rng
        self._tasks: dict[str, _Task] = {}
        self._withdrawn: dict[str, Withdrawn] = {}

    def close(self) -> None:
        """Close the sockets; the tables stay."""
        for task_id in list(self._tasks):
            self.close_task(task_id)

    def open_task(self, wiring: Wiring) -> None:
        """Make a task's table, or take over the one that is there with what is in it.

        Without networks of the cluster it has none: its namespace tracks no connections unless it has to.

        Raises:
            SwarmError: NOT_FOUND, the task has no namespace; or the kernel refuses.
        """
        if wiring.task_id in self._tasks:
            return
        own_names = wiring.name_port not in (0, DNS_PORT)
        if not wiring.links and not own_names:
            return
        sock = open_in(self._namespace(wiring.task_id), NetfilterSocket.open)
        try:
            if own_names:
                lead_names(sock, IPv4Address(TASK_NAME_SERVER), wiring.name_port)
            if wiring.enclosed:
                enclose(sock, wiring.way_out)
            table = VipTable(sock, rng=self._rng)
            if wiring.links:
                table.ensure()
        except BaseException:
            sock.close()
            raise
        if wiring.links:
            self._tasks[wiring.task_id] = _Task(sock, table, Conntrack(sock))
        else:
            sock.close()

    def close_task(self, task_id: str) -> None:
        self._withdrawn.pop(task_id, None)
        task = self._tasks.pop(task_id, None)
        if task is not None:
            task.sock.close()

    def keep(self, task_ids: Collection[str]) -> None:
        """Let go of the tables of all other tasks."""
        for task_id in [t for t in self._tasks if t not in task_ids]:
            self.close_task(task_id)

    def change(self, balances: Iterable[Balance]) -> frozenset[str]:
        """Change tasks' tables; return the tasks whose table could not be changed. A task without one has left."""
        failed = set()
        for balance in balances:
            task = self._tasks.get(balance.task_id)
            if task is None:
                continue
            try:
                withdrawn = _change(task, balance)
            except SwarmError as error:
                _log.warning("VIPs of a task not changed", task=balance.task_id, error=error.message)
                failed.add(balance.task_id)
            else:
                if withdrawn:
                    self._withdrawn[balance.task_id] = self._withdrawn.get(balance.task_id, frozenset()) | withdrawn
        return frozenset(failed)

    def tidy(self) -> bool:
        """Have one task's flows of datagrams go to another backend than a withdrawn one; return whether there are more.

        Whoever sends datagrams without a pause would go on to send them to a task that is gone. It takes the kernel
        some milliseconds a task, so it is apart from `change`.
        """
        for task_id in list(self._withdrawn)[:1]:
            task, withdrawn = self._tasks[task_id], self._withdrawn.pop(task_id)
            back = {(vip, backend) for vip, backend in withdrawn if backend in task.table.vips.get(vip, ())}
            try:
                task.conntrack.forget_backends(withdrawn - back)
            except SwarmError as error:
                _log.warning("flows to withdrawn tasks not forgotten", task=task_id, error=error.message)
        return bool(self._withdrawn)


def _change(task: _Task, balance: Balance) -> Withdrawn:
    if balance.whole:
        return task.table.sync(balance.vips)
    remove = [address for address in balance.remove if address in task.table.vips]
    return task.table.change(balance.vips, remove=remove)
