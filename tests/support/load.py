"""Bounded HTTP load from a process of its own, counted to the last request.

`python -m tests.support.load MODE PATH HOST:PORT...` asks until its standard input closes, then prints one JSON
object: see `Outcome`. MODE `new` opens a connection for each request, `keep` keeps it for as long as the server
does. `Load` is the test's side.
"""

from __future__ import annotations

import asyncio
import collections
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Final, Self

from tests.support.http_peers import content_length, read_head

CLIENTS: Final = 4
PAUSE_S: Final = 0.004
REQUEST_DEADLINE_S: Final = 20.0
KEPT_FAILURES: Final = 20
SLOW_EVERY: Final = 8
"""Every so many requests one takes 60 ms, so that some are always in flight when a task is told to stop."""


@dataclass
class Outcome:
    """What became of the requests. `answers` counts by `slot/version`; `slowest_s` is the slowest one that was good."""

    requests: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    slowest_s: float = 0.0

    @property
    def versions(self) -> set[str]:
        return {who.split("/")[1] for who in self.answers}


class Load:
    """Load on the `/` and `/slow` of whoami servers for the length of a `with` block; then see `outcome`."""

    def __init__(self, mode: str, targets: list[str], *, enter: Sequence[str] = ()) -> None:
        """
        Args:
            enter: what starts a program where the load is to come from.
        """
        self.outcome = Outcome()
        command = [*enter, sys.executable, "-m", "tests.support.load", mode, *targets]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"asking\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        out, _ = self._process.communicate(timeout=3 * REQUEST_DEADLINE_S)
        self.outcome = Outcome(**json.loads(out))


class Client:
    """One client after another's targets in turn, with at most one connection to each."""

    def __init__(self, targets: list[tuple[str, int]], *, keep: bool, outcome: Outcome) -> None:
        self._targets = targets
        self._keep = keep
        self._outcome = outcome
        self._open: dict[tuple[str, int], tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def run(self, stop: asyncio.Event, first: int) -> None:
        number = first
        while not stop.is_set():
            number += 1
            target = self._targets[number % len(self._targets)]
            path = "/slow?ms=60" if number % SLOW_EVERY == 0 else "/"
            await self._request(target, path)
            await asyncio.sleep(PAUSE_S)
        for target in list(self._open):
            self._hang_up(target)

    async def _request(self, target: tuple[str, int], path: str) -> None:
        began_s = time.monotonic()
        outcome = self._outcome
        outcome.requests += 1
        try:
            async with asyncio.timeout(REQUEST_DEADLINE_S):
                who = await self._ask(target, path)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self._hang_up(target)
            outcome.failed += 1
            if len(outcome.failures) < KEPT_FAILURES:
                where = f"{target[0]}:{target[1]}{path} at {time.time():.3f} after {time.monotonic() - began_s:.3f} s"
                outcome.failures.append(f"{where}: {type(error).__name__} {error}")
        else:
            outcome.answers[who] = outcome.answers.get(who, 0) + 1
            outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - began_s)

    async def _ask(self, target: tuple[str, int], path: str) -> str:
        """Return who answered.

        Raises:
            OSError, EOFError: the connection broke; ValueError: it was not a good answer.
        """
        if target not in self._open:
            self._open[target] = await asyncio.open_connection(*target)
        reader, writer = self._open[target]
        connection = b"keep-alive" if self._keep else b"close"
        writer.write(b"GET %s HTTP/1.1\r\nHost: load\r\nConnection: %s\r\n\r\n" % (path.encode(), connection))
        head = await read_head(reader)
        if not head:
            raise EOFError("the connection was closed before an answer")
        body = await reader.readexactly(content_length(head))
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ValueError(f"{head.splitlines()[0]!r} {body[:200]!r}")
        if not self._keep or b"connection: close" in head.lower():
            self._hang_up(target)
        fields = dict(line.split(": ", 1) for line in body.decode().splitlines())
        return f"{fields['slot']}/{fields['version']}"

    def _hang_up(self, target: tuple[str, int]) -> None:
        opened = self._open.pop(target, None)
        if opened is not None:
            opened[1].close()


async def ask_until_told(mode: str, targets: list[str]) -> Outcome:
    """Ask until standard input closes."""
    outcome = Outcome()
    places = [(host, int(port)) for host, _, port in (target.rpartition(":") for target in targets)]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
    print("asking", flush=True)
    async with asyncio.TaskGroup() as group:
        for first in range(CLIENTS):
            client = Client(places, keep=mode == "keep", outcome=outcome)
            group.create_task(client.run(stop, first * 3))
    outcome.answers = dict(collections.Counter(outcome.answers).most_common())
    return outcome


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(ask_until_told(sys.argv[1], sys.argv[2:])))))
