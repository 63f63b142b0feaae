"""Many clients and backends that misbehave at random: nothing leaks, and what arrives is what was sent."""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path

import pytest

from swarmpy.model.endpoints import AppProtocol
from tests.support.balancer import Handler, Rig, eventually, hang_up, reset, rig
from tests.support.clock import settle
from tests.support.http_peers import answering, ok


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def moody(rng: random.Random) -> Handler:
    """Return a backend that echoes, slowly at times, and now and then resets."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(rng.choice((10, 1 << 10, 1 << 16))):
            if rng.random() < 0.002:
                reset(writer)
                return
            if rng.random() < 0.05:
                await settle(5)
            writer.write(data)
            await writer.drain()

    return handler


async def tcp_client(rig: Rig, rng: random.Random, outcomes: list[str]) -> None:
    """Send a random amount, perhaps reset midway, and note how it went."""
    reader, writer = await rig.open()
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def send() -> None:
        for _ in range(rng.randrange(20)):
            data = rng.randbytes(rng.choice((1, 100, 5_000, 150_000)))
            sent.update(data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def receive() -> None:
        while data := await reader.read(1 << 16):
            received.update(data)

    try:
        if rng.random() < 0.2:
            writer.write(rng.randbytes(rng.randrange(100_000)))
            reset(writer)
            outcomes.append("reset")
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            group.create_task(receive())
        assert sent.digest() == received.digest()
        outcomes.append("whole")
    except* ConnectionError:
        outcomes.append("broken")
    finally:
        await hang_up(writer)


@pytest.mark.parametrize("seed", range(3))
async def test_plain_connections(seed: int) -> None:
    rng = random.Random(seed)
    async with rig() as r:
        backends = [await r.peers.start(f"t{n}", moody(rng)) for n in range(4)]
        r.ready(backends)
        idle = descriptors()
        outcomes: list[str] = []

        async def clients() -> None:
            for _ in range(8):
                await tcp_client(r, rng, outcomes)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            tasks = [group.create_task(clients()) for _ in range(10)]
            while not all(task.done() for task in tasks):
                chosen = rng.sample(backends, rng.randint(0, 4))
                r.ready(chosen, [b.task_id for b in backends if b not in chosen])
                await settle()
                await r.clock.advance(0.01)
                r.ready(backends)
        assert outcomes.count("whole") > 40
        await eventually(lambda: r.row().active == 0 and not r.peers.connections())
        assert r.balancer.busy() == frozenset()
        assert all(row.active == 0 for row in r.balancer.counters())
        await eventually(lambda: descriptors() <= idle)


@pytest.mark.parametrize("seed", range(3))
async def test_http_clients(seed: int) -> None:
    """Requests cut into random pieces; answers of random size; every complete request is answered in order."""
    rng = random.Random(seed)

    async def answer(head: bytes, _body: bytes) -> bytes:
        size = int(head.split()[1][1:])
        return ok(b"x" * size)

    async def client(r: Rig) -> None:
        reader, writer = await r.open()
        sizes = [rng.choice((0, 10, 3_000, 200_000)) for _ in range(rng.randint(1, 12))]
        bodies = [rng.choice((0, 0, 5, 90_000)) for _ in sizes]
        stream = b"".join(
            b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (size, body) + bytes(body)
            for size, body in zip(sizes, bodies, strict=True)
        )

        async def send() -> None:
            start = 0
            while start < len(stream):
                end = start + rng.choice((1, 7, 100, 50_000))
                writer.write(stream[start:end])
                await writer.drain()
                start = end
                if rng.random() < 0.2:
                    await settle(5)

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            for size in sizes:
                expected = ok(b"x" * size)
                assert await reader.readexactly(len(expected)) == expected
        await hang_up(writer)

    async with rig(AppProtocol.HTTP) as r:
        backends = [await r.peers.start(f"t{n}", answering(answer)) for n in range(4)]
        r.ready(backends)
        idle = descriptors()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            tasks = [group.create_task(client(r)) for _ in range(30)]
            while not all(task.done() for task in tasks):
                chosen = rng.sample(backends, 2)
                r.ready(chosen, [b.task_id for b in backends if b not in chosen])
                await settle()
        await eventually(lambda: r.row().active == 0 and not r.peers.connections())
        assert r.balancer.busy() == frozenset()
        assert (r.row().failed, r.row().refused) == (0, 0)
        await eventually(lambda: descriptors() <= idle)
