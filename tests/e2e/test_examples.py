"""The examples do what their first lines say."""

from __future__ import annotations

import http.client
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from swarmpy.stack.convert import convert
from swarmpy.stack.load import load
from swarmpy.stack.plan import in_order

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.e2e


@contextmanager
def whoami() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the server on a free port; give its process and port."""
    environ = {**os.environ, "PORT": "0", "SWARMPY_SERVICE_NAME": "web", "SWARMPY_TASK_SLOT": "2", "VERSION": "7"}
    command = [sys.executable, str(EXAMPLES / "whoami.py")]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline().rpartition(b":")[2])
        finally:
            process.kill()


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, str, str | None]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read().decode(), response.getheader("Connection")


def test_whoami_says_who_answers_on_one_connection() -> None:
    with whoami() as (_, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for _ in range(3):
            assert get(connection, "/") == (200, "service: web\nslot: 2\ntask: \nnode: \nversion: 7\n", None)
        assert get(connection, "/healthz")[:2] == (200, "ok\n")
        assert get(connection, "/nope")[0] == 404
        connection.close()


def test_whoami_finishes_what_it_began_and_does_not_wait_for_idle_clients() -> None:
    with whoami() as (process, port):
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        assert get(idle, "/healthz")[0] == 200
        busy = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        answers: list[tuple[int, str, str | None]] = []
        busy.request("GET", "/slow?ms=400")

        def finish() -> None:
            response = busy.getresponse()
            answers.append((response.status, response.read().decode()[:12], response.getheader("Connection")))

        waiting = threading.Thread(target=finish)
        waiting.start()
        # A request on a third connection, once answered, tells that the first ones have arrived.
        third = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        assert get(third, "/healthz")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        waiting.join()
        assert answers == [(200, "service: web", "close")]
        for connection in (idle, busy, third):
            connection.close()


def test_the_shop_is_a_valid_stack() -> None:
    environ = {"PWD": str(EXAMPLES.parent), "PYTHON": sys.executable}
    loaded = load([str(EXAMPLES / "shop" / "compose.yaml")], environ, stdin=io.StringIO)
    services = convert(loaded.document, "shop", directory=loaded.directory, environ=environ).services
    assert [service.short for service in in_order(services)] == ["stock", "api", "front"]
    assert loaded.missing == ()
    for service in services:
        assert service.spec.task.container.workdir == str(EXAMPLES / "shop")
        assert (*service.spec.task.container.command, *service.spec.task.container.args)[0] == sys.executable
