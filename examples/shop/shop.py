"""A shop of three services in one program: `shop.py front|api|stock`. Standard library only.

The front asks the api for the goods, the api asks the stock for quantities; each finds the other by its name.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import urlopen

TIMEOUT_S = 2.0
TRIES = 3

Answer = Callable[[], Any]

PRICES = {"apple": 0.4, "bread": 3.2, "cheese": 7.9}
QUANTITIES = {"apple": 120, "bread": 14, "cheese": 3}


def peer(short: str) -> str:
    """Return the DNS name of a service of this stack: `api.shop.swarm`."""
    stack = os.environ["SWARMPY_SERVICE_NAME"].rpartition("_")[0]
    return f"{short}.{stack}.swarm"


def resolve(name: str) -> str:
    """Return an IPv4 address of `name`, asked of the node's DNS (`SWARMPY_DNS`, host:port).

    Raises:
        OSError: no answer, or no such name.
    """
    host, _, port = os.environ["SWARMPY_DNS"].rpartition(":")
    number = random.randrange(65536)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dns:
        dns.settimeout(TIMEOUT_S / TRIES)
        for _ in range(TRIES):
            dns.sendto(question, (host, int(port)))
            try:
                answer = dns.recv(4096)
            except TimeoutError:
                continue
            if answer[:2] == question[:2]:
                return _address(answer, len(question), name)
    raise OSError(f"the DNS at {host}:{port} does not answer")


def _address(answer: bytes, offset: int, name: str) -> str:
    """Return the first address of a DNS answer whose records begin at `offset`, behind the question."""
    for _ in range(struct.unpack_from("!H", answer, 6)[0]):
        # A record's name is a pointer of two bytes here: every answer is about the question.
        kind, _, _, length = struct.unpack_from("!2HIH", answer, offset + 2)
        if kind == 1:
            return socket.inet_ntoa(answer[offset + 12 : offset + 16])
        offset += 12 + length
    raise OSError(f"no service is called {name}")


def fetch(short: str, port: int, path: str) -> Any:
    """Return the JSON that a service of this stack answers on its target port."""
    with urlopen(f"http://{resolve(peer(short))}:{port}{path}", timeout=TIMEOUT_S) as response:
        return json.load(response)


def serve(answer: Answer) -> None:
    """Answer every GET with `answer()` as JSON, until SIGTERM. `/healthz` says ok."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5.0

        def do_GET(self) -> None:  # the base class looks the method up by this name
            try:
                status, value = 200, {"ok": True} if self.path == "/healthz" else answer()
            except (OSError, ValueError) as error:
                status, value = 502, {"error": str(error)}
            body = (json.dumps(value, indent=2) + "\n").encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            # One request a connection: stopping never waits for an idle one.
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            """Stay silent."""

    class Server(ThreadingHTTPServer):
        daemon_threads = False
        request_queue_size = 128

    server = Server((os.environ["SWARMPY_NODE_ADDR"], int(os.environ["PORT"])), Handler)
    stopper = threading.Thread(target=server.shutdown)
    signal.signal(signal.SIGTERM, lambda number, frame: stopper.start())
    server.serve_forever(poll_interval=0.05)
    stopper.join()
    server.server_close()


def whoami() -> str:
    """Return this task's name: `shop_api.2`."""
    return f"{os.environ['SWARMPY_SERVICE_NAME']}.{os.environ['SWARMPY_TASK_SLOT']}"


def front() -> Any:
    return {"title": os.environ.get("TITLE", "The shop"), "served_by": whoami(), "goods": fetch("api", 8001, "/")}


def api() -> Any:
    stocked = fetch("stock", 8002, "/")
    currency = os.environ.get("CURRENCY", "EUR")
    return {
        "served_by": whoami(),
        "stock_served_by": stocked["served_by"],
        "items": [
            {"name": name, "price": price, "currency": currency, "in_stock": stocked["quantities"].get(name, 0)}
            for name, price in PRICES.items()
        ],
    }


def stock() -> Any:
    return {"served_by": whoami(), "quantities": QUANTITIES}


if __name__ == "__main__":
    serve({"front": front, "api": api, "stock": stock}[sys.argv[1]])
