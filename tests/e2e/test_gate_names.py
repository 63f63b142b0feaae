"""Every node answers for every service: by name, by VIP and on its published port; and forgets it when it goes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import dnslib
import pytest
import pytest_asyncio

from scripts.cluster import Node, until
from tests.support.swarm import TARGET, Swarm, accepts, who_answers, whoami

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("gate_names"),
]

PORT = 8080


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def swarm() -> AsyncIterator[Swarm]:
    async with Swarm(3) as swarm:
        yield swarm


@pytest_asyncio.fixture(loop_scope="module")
async def web(swarm: Swarm) -> AsyncIterator[str]:
    """A published service that every node knows."""
    await swarm.create(whoami("web", PORT, replicas=3))
    await swarm.running("web", 3)
    for node in swarm.nodes:
        await known(node, "tasks.web.swarm", 3)
    yield "web"
    if await swarm.client.services.list():
        await swarm.remove("web")


async def ask(node: Node, name: str, kind: str = "A") -> dnslib.DNSRecord:
    """Ask a node's own DNS server."""
    host, _, port = (await node.client.node.info()).dns_addr.rpartition(":")
    question = dnslib.DNSRecord.question(name, kind)
    answer = dnslib.DNSRecord.parse(await asyncio.to_thread(question.send, host, int(port), timeout=5))
    assert answer.header.id == question.header.id
    return answer


async def addresses(node: Node, name: str) -> list[str]:
    return [str(record.rdata) for record in (await ask(node, name)).rr]


async def known(node: Node, name: str, count: int) -> None:
    async def settled() -> bool:
        return len(await addresses(node, name)) == count

    await until(settled, what=f"{node.name} knows {count} of {name}")


async def test_a_service_name_is_its_vip(swarm: Swarm, web: str) -> None:
    for node in swarm.nodes:
        answer = await ask(node, "web.swarm")
        assert answer.header.rcode == dnslib.RCODE.NOERROR
        assert [record.rtype for record in answer.rr] == [dnslib.QTYPE.A]
        assert 0 < answer.rr[0].ttl <= 5
        vip = str(answer.rr[0].rdata)
        assert vip.startswith("127.")
        assert vip not in {n.address for n in swarm.nodes}
        assert (await who_answers(vip, TARGET))["service"] == web


async def test_task_names_are_their_nodes(swarm: Swarm, web: str) -> None:
    live = {task.slot: task for task in await swarm.live(web)}
    rows = {row.id: row for row in await swarm.client.nodes.list()}
    for node in swarm.nodes:
        assert sorted(await addresses(node, "tasks.web.swarm")) == sorted(n.address for n in swarm.nodes)
        for slot, task in live.items():
            where = [rows[task.node_id].data_addr]
            assert await addresses(node, f"{slot}.web.swarm") == where
            assert await addresses(node, f"{task.id}.web.swarm") == where


async def test_service_records_lead_to_the_tasks_ports(swarm: Swarm, web: str) -> None:
    rows = {row.id: row for row in await swarm.client.nodes.list()}
    live = await swarm.live(web)
    expected = {(f"{t.slot}.web.swarm.", rows[t.node_id].data_addr, t.host_ports[0].port) for t in live}
    for node in swarm.nodes:
        answer = await ask(node, f"_{TARGET}._tcp.web.swarm", "SRV")
        at = {str(record.rname): str(record.rdata) for record in answer.ar if record.rtype == dnslib.QTYPE.A}
        found = {(str(r.rdata.target), at[str(r.rdata.target)], r.rdata.port) for r in answer.rr}
        assert found == expected
    for _, address, port in expected:
        assert (await who_answers(address, port))["service"] == web


async def test_connections_go_round_whichever_way_they_come(swarm: Swarm, web: str) -> None:
    for node in swarm.nodes:
        vip = (await addresses(node, "web.swarm"))[0]
        for host, port in ((node.address, PORT), (vip, TARGET)):
            counts = Counter([(await who_answers(host, port))["slot"] for _ in range(9)])
            assert counts == {"1": 3, "2": 3, "3": 3}, f"{host}:{port}"


async def test_names_follow_the_number_of_tasks(swarm: Swarm, web: str) -> None:
    await swarm.client.services.scale(web, 1)
    await swarm.running(web, 1)
    for node in swarm.nodes:
        await known(node, "tasks.web.swarm", 1)
        assert (await ask(node, "3.web.swarm")).header.rcode == dnslib.RCODE.NXDOMAIN
    await swarm.client.services.scale(web, 0)
    await swarm.running(web, 0)
    for node in swarm.nodes:
        await known(node, "tasks.web.swarm", 0)
        assert (await ask(node, "web.swarm")).header.rcode == dnslib.RCODE.NOERROR


async def test_a_removed_service_is_forgotten(swarm: Swarm, web: str) -> None:
    vips = [(await addresses(node, "web.swarm"))[0] for node in swarm.nodes]
    assert all(accepts(node.address, PORT) for node in swarm.nodes)
    await swarm.remove(web)
    for node, vip in zip(swarm.nodes, vips, strict=True):

        async def forgotten(node: Node = node, vip: str = vip) -> bool:
            codes = {(await ask(node, name)).header.rcode for name in ("web.swarm", "tasks.web.swarm", "1.web.swarm")}
            listening = accepts(node.address, PORT) or accepts(vip, TARGET)
            return codes == {dnslib.RCODE.NXDOMAIN} and not listening

        await until(forgotten, what=f"{node.name} has forgotten web")


async def test_what_is_not_of_the_swarm_does_not_exist_there(swarm: Swarm) -> None:
    for node in swarm.nodes:
        for name in ("nobody.swarm", "tasks.nobody.swarm", "1.nobody.swarm", "_80._tcp.nobody.swarm"):
            assert (await ask(node, name)).header.rcode == dnslib.RCODE.NXDOMAIN, name
