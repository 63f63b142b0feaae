"""Send a steady stream of requests and count what fails: `load.py SECONDS URL...`. Standard library only.

Each URL gets two streams: one opens a new connection for every request, one keeps its connection. Ends with a line
`N requests, N failed`, and exits with 1 if any failed. SIGTERM or an interrupt ends it early.
"""

from __future__ import annotations

import http.client
import signal
import sys
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

PAUSE_S = 0.01
TIMEOUT_S = 10.0


class Load:
    """Counts requests and failures of all streams."""

    def __init__(self, seconds: float) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self._stop = threading.Event()
        self._until_s = time.monotonic() + seconds
        self._lock = threading.Lock()

    def stop(self) -> None:
        self._stop.set()

    def run(self, url: str, *, keep: bool) -> None:
        """Send requests to `url`, one after the other, until the time is over."""
        host = urlsplit(url).netloc
        connection: http.client.HTTPConnection | None = None
        while time.monotonic() < self._until_s and not self._stop.is_set():
            try:
                connection = connection or http.client.HTTPConnection(host, timeout=TIMEOUT_S)
                problem = ask(connection, urlsplit(url).path or "/", keep=keep)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
            with self._lock:
                self.counts["failed" if problem else "answered"] += 1
                if problem:
                    self.problems[problem] += 1
            if connection is not None and (problem or not keep):
                connection.close()
                connection = None
            self._stop.wait(PAUSE_S)
        if connection is not None:
            connection.close()


def ask(connection: http.client.HTTPConnection, path: str, *, keep: bool) -> str:
    """Send one request; return what was wrong with the answer, or nothing."""
    connection.request("GET", path, headers={} if keep else {"Connection": "close"})
    answer = connection.getresponse()
    answer.read()
    return "" if answer.status == 200 else f"status {answer.status}"


def main() -> int:
    if len(sys.argv) < 3:
        print("usage: load.py SECONDS URL...", file=sys.stderr)
        return 2
    load = Load(float(sys.argv[1]))
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda number, frame: load.stop())
    streams = [
        threading.Thread(target=load.run, args=(url,), kwargs={"keep": keep})
        for url in sys.argv[2:]
        for keep in (False, True)
    ]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join()
    for problem, count in load.problems.most_common(5):
        print(f"{count} x {problem}")
    print(f"{sum(load.counts.values())} requests, {load.counts['failed']} failed")
    return 1 if load.counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
