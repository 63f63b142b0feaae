"""A client of a cluster of straw."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from swarmpy.client import Client
from tests.support.control import FakeCluster
from tests.support.control_server import FakeServer


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    """A cluster that serves below `tmp_path`."""
    fake = FakeCluster()
    with FakeServer(fake, tmp_path):
        yield fake


@pytest.fixture
async def client(cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Client]:
    async with Client.connect(state_dir=tmp_path, timeout_s=5.0) as connected:
        yield connected
