"""A small HTTP/1.1 server that says who answers. Standard library only.

    swarmpy service create --process --name web --replicas 3 -p 8080:8000,protocol=http \
        --ready-http /healthz -w "$PWD" python3 examples/whoami.py

GET /            who answers, one `name: value` a line
GET /healthz     "ok"
GET /slow?ms=N   the same as / after N milliseconds (10,000 at most), to watch a drain

On SIGTERM it serves what has reached it, tells its clients to close, and exits with 0.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LONGEST_MS = 10_000


class Server(ThreadingHTTPServer):
    """Knows which connections are idle, so that stopping waits for answers and not for silence."""

    daemon_threads = False
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int]) -> None:
        self.stopping = threading.Event()
        self.idle: set[socket.socket] = set()
        self.lock = threading.Lock()
        super().__init__(address, Handler)

    def stop(self) -> None:
        """Serve the connections that wait to be accepted, wake the idle ones, and let the busy ones finish."""
        self.stopping.set()
        self.shutdown()
        self.socket.setblocking(False)
        while True:
            try:
                connection, client = self.get_request()
            except OSError:
                break
            self.process_request(connection, client)
        with self.lock:
            for waiting in self.idle:
                # What has arrived can still be read; after it comes the end, which ends the handler.
                waiting.shutdown(socket.SHUT_RD)


class Handler(BaseHTTPRequestHandler):
    """Answers requests on one connection, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def handle_one_request(self) -> None:
        with self.server.lock:
            self.server.idle.add(self.connection)
            if self.server.stopping.is_set():
                self.connection.shutdown(socket.SHUT_RD)
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True
        finally:
            with self.server.lock:
                self.server.idle.discard(self.connection)

    def do_GET(self) -> None:  # the base class looks the method up by this name
        with self.server.lock:
            self.server.idle.discard(self.connection)
        url = urlsplit(self.path)
        if url.path == "/healthz":
            self.answer(200, "ok\n")
        elif url.path == "/slow":
            wanted = parse_qs(url.query).get("ms", ["0"])[0]
            time.sleep(min(int(wanted) if wanted.isdigit() else 0, LONGEST_MS) / 1000)
            self.answer(200, who())
        elif url.path == "/":
            self.answer(200, who())
        else:
            self.answer(404, "not found\n")

    def answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self.server.stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Stay silent: one line a request would be most of the work."""


def who() -> str:
    """Return the lines that say who answers."""
    names = {
        "service": "SWARMPY_SERVICE_NAME",
        "slot": "SWARMPY_TASK_SLOT",
        "task": "SWARMPY_TASK_ID",
        "node": "SWARMPY_NODE_ID",
        "version": "VERSION",
    }
    return "".join(f"{name}: {os.environ.get(variable, '')}\n" for name, variable in names.items())


def main() -> None:
    address = os.environ.get("HOST_8000") or os.environ.get("SWARMPY_NODE_ADDR", "127.0.0.1")
    server = Server((address, int(os.environ.get("PORT", "8000"))))
    stopper = threading.Thread(target=server.stop)
    signal.signal(signal.SIGTERM, lambda number, frame: stopper.start())
    print(f"listening on {address}:{server.server_port}", flush=True)
    server.serve_forever(poll_interval=0.05)
    stopper.join()
    server.server_close()  # waits for the connections' threads


if __name__ == "__main__":
    main()
