"""Pulling an image from a registry on this machine: ours against containerd's own client, `ctr image pull`.

Both pull the same image of layers that do not compress, from Debian's docker-registry on loopback, into fresh
containerds of their own, unpacked, in turn. Run it as root with `python -m scripts.bench.pull [--size-mb 2000]
[--layers 20]`. The ratio is of speeds: 1 is as fast.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import time
from typing import Final

from scripts.bench.report import median, report, table
from swarmpy.clock import SystemClock
from swarmpy.registry.settings import RegistrySettings
from tests.support import containerd_process, docker_registry
from tests.support.containerd_process import NAMESPACE, ContainerdProcess
from tests.support.docker_registry import DockerRegistry
from tests.support.images import Entry, ImageBuilder, push, tar_bytes
from worker.image.images import Images

DRIVER: Final = "overlayfs"
NAME: Final = "bench/big"
MB: Final = 1_000_000
FILES: Final = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=2000, help="of all layers")
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="pulls of each client")
    parser.add_argument("--layers-at-once", type=int, default=3, help="of ours; ctr's default is 3 as well")
    args = parser.parse_args()
    if missing := docker_registry.lacking() or containerd_process.lacking():
        print(f"skipped: {missing}")
        return 0
    with DockerRegistry() as registry:
        publish(registry, args.size_mb, args.layers)
        rows = []
        for number in range(args.rounds):
            # Who is first takes turns, so that a machine that gets busier is not one client's fault.
            order = (ours, peer) if number % 2 == 0 else (peer, ours)
            taken = {client: timed(client, registry, args.layers_at_once) for client in order}
            rows.append((number + 1, taken[ours], taken[peer], taken[peer] / taken[ours]))
    table(("round", "ours s", "ctr s", "ratio of speeds"), rows)
    mine, theirs = (median([row[column] for row in rows]) for column in (1, 2))
    speeds = (args.size_mb / mine, args.size_mb / theirs)
    report("pull", speeds[0], round(speeds[1], 4), "MB/s", size_mb=args.size_mb, layers=args.layers, rounds=args.rounds)
    return 0


def publish(registry: DockerRegistry, size_mb: int, layers: int) -> None:
    """Push an image of so many layers of random files, one layer in memory at a time."""
    each = size_mb * MB // layers // FILES
    builder = ImageBuilder()
    for layer in range(layers):
        rng = random.Random(layer)
        files = [Entry(f"files/{layer}/{number}", rng.randbytes(each)) for number in range(FILES)]
        builder.raw_layer(tar_bytes(files))
    push(registry.url, NAME, "1", builder.build())


def timed(client: object, registry: DockerRegistry, at_once: int) -> float:
    """Return the seconds that a client takes to pull the image into a fresh containerd."""
    assert callable(client)
    with ContainerdProcess() as containerd:
        asyncio.run(_wait(containerd))
        os.sync()
        taken_s: float = client(containerd, registry, at_once)
        return taken_s


def ours(containerd: ContainerdProcess, registry: DockerRegistry, at_once: int) -> float:
    async def pull() -> float:
        client = await containerd.client()
        settings = RegistrySettings(layers_at_once=at_once)
        images = Images(client, DRIVER, settings, clock=SystemClock(), rng=random.Random())
        try:
            began_s = time.perf_counter()
            await images.ensure(f"{registry.host}/{NAME}:1")
            return time.perf_counter() - began_s
        finally:
            await client.close()

    return asyncio.run(pull())


def peer(containerd: ContainerdProcess, registry: DockerRegistry, at_once: int) -> float:
    address = ["ctr", "--address", str(containerd.socket), "--namespace", NAMESPACE]
    pull = ["image", "pull", "--plain-http", "--max-concurrent-downloads", str(at_once)]
    began_s = time.perf_counter()
    subprocess.run([*address, *pull, f"{registry.host}/{NAME}:1"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s


async def _wait(containerd: ContainerdProcess) -> None:
    await (await containerd.client()).close()


if __name__ == "__main__":
    sys.exit(main())
