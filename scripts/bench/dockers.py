"""The peer of the benchmarks of consensus: Docker Swarm's managers, each a dockerd in a network namespace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from scripts.bench.report import Value
from scripts.cluster import until
from scripts.cluster.network import Namespaces, can_make_namespaces
from scripts.cluster.node import Place

SEARCHED: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
CALL_S: Final = 30.0
START_S: Final = 60.0
NO_NETWORKS: Final = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs")

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def why_not() -> str | None:
    """Return why Docker's managers cannot be run here; None if they can."""
    for program in ("dockerd", "containerd"):
        if shutil.which(program, path=SEARCHED) is None:
            return f"{program} not found (apt-get install docker.io)"
    return None if can_make_namespaces() else "network namespaces cannot be made: it takes root"


class DockerError(Exception):
    """A call was refused, or not answered."""


class Api:
    """Docker's HTTP API over one kept connection; for one call at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: Connection | None = None

    async def call(self, method: str, path: str, body: object = None, *, timeout_s: float = CALL_S) -> Any:
        """Return what is answered, decoded. DockerError: it is an error, or there is no answer."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
        try:
            async with asyncio.timeout(timeout_s):
                self._connection = self._connection or await asyncio.open_unix_connection(self._path)
                status, answer = await _exchange(self._connection, request)
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            self.close()
            raise DockerError(f"{method} {path}: {type(error).__name__}") from error
        except asyncio.CancelledError:
            self.close()
            raise
        if status >= 400:
            raise DockerError(f"{method} {path}: {status} {answer.decode(errors='replace').strip()}")
        return json.loads(answer) if answer.strip() else None

    async def create_config(self, name: str, data: bytes, *, timeout_s: float = CALL_S) -> None:
        body = {"Name": name, "Data": b64encode(data).decode()}
        await self.call("POST", "/configs/create", body, timeout_s=timeout_s)

    def close(self) -> None:
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None


async def _exchange(connection: Connection, request: bytes) -> tuple[int, bytes]:
    reader, writer = connection
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    if b"transfer-encoding: chunked" in head:
        return status, await _chunked(reader)
    _, found, rest = head.partition(b"content-length: ")
    return status, await reader.readexactly(int(rest.split(b"\r\n", 1)[0])) if found else b""


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(pieces)


class Daemon:
    """One dockerd with its containerd."""

    def __init__(self, directory: Path, place: Place, options: Sequence[str] = NO_NETWORKS) -> None:
        self.place = place
        self._options = tuple(options)
        self.socket = directory / "sock"
        self.api = Api(self.socket)
        self._dir = directory
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir()

    def start(self) -> None:
        program = shutil.which("dockerd", path=SEARCHED)
        assert program is not None, "why_not() was asked"
        here = self._dir
        places = ("--data-root", here / "data", "--exec-root", here / "exec", "--pidfile", here / "pid")
        command = [*self.place.enter, program, *self._options, *map(str, places), "-H", f"unix://{self.socket}"]
        with (here / "log").open("ab") as log:
            environ = {**os.environ, "PATH": SEARCHED}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, start_new_session=True)

    @property
    def pid(self) -> int:
        """The pid of dockerd, which has been started."""
        assert self._process is not None, "it was started"
        return self._process.pid

    async def answers(self) -> bool:
        with contextlib.suppress(DockerError):
            await self.api.call("GET", "/version", timeout_s=2.0)
            return True
        return False

    def kill(self) -> None:
        """Kill dockerd, and the containerd that it started, which would be in the next one's way."""
        self._end(signal.SIGKILL)
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self._dir / "exec/containerd/containerd.pid").read_text()), signal.SIGKILL)
        (self._dir / "pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it as an operator does; what is left then is killed."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(START_S)
                return
        self.kill()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait()


class Dockers:
    """Managers of one swarm; use it by `async with`."""

    def __init__(self, managers: int, options: Sequence[str] = NO_NETWORKS) -> None:
        self.network = Namespaces()
        self._root = Path(tempfile.mkdtemp(prefix="dockers-"))
        places = [self.network.place(n) for n in range(1, managers + 1)]
        self.daemons = [Daemon(self._root / str(n), place, options) for n, place in enumerate(places, 1)]

    async def __aenter__(self) -> Self:
        try:
            for daemon in self.daemons:
                daemon.start()
            for daemon in self.daemons:
                await until(daemon.answers, what="dockerd answers", deadline_s=START_S)
            first, *others = self.daemons
            address = f"{first.place.address}:2377"
            await first.api.call("POST", "/swarm/init", {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": address})
            for daemon in others:
                await self._join(daemon, address)
        except BaseException:
            self._discard()
            raise
        return self

    async def _join(self, daemon: Daemon, address: str) -> None:
        token = (await self.daemons[0].api.call("GET", "/swarm"))["JoinTokens"]["Manager"]
        own = f"{daemon.place.address}:2377"
        words = {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": own, "RemoteAddrs": [address], "JoinToken": token}
        await daemon.api.call("POST", "/swarm/join", words, timeout_s=2 * CALL_S)

    async def leader(self) -> Daemon:
        """Return the daemon that leads, waiting until all managers can be reached."""

        async def ask() -> Daemon | None:
            for daemon in self.daemons:
                with contextlib.suppress(DockerError):
                    rows = [n["ManagerStatus"] for n in await daemon.api.call("GET", "/nodes", timeout_s=5.0)]
                    if len(rows) < len(self.daemons) or any(row["Reachability"] != "reachable" for row in rows):
                        return None
                    addresses = {row["Addr"].partition(":")[0] for row in rows if row.get("Leader")}
                    return next((d for d in self.daemons if d.place.address in addresses), None)
            return None

        return await until(ask, what="a manager of Docker's leads", deadline_s=2 * START_S)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._discard)

    def _discard(self) -> None:
        for daemon in self.daemons:
            daemon.api.close()
            daemon.stop()
        self.network.close()
        shutil.rmtree(self._root, ignore_errors=True)


def source(reason: str | None) -> dict[str, Value]:
    """Return what a result says of where the peer's figure is from."""
    before = f"Docker Swarm 20.10.24, measured before: {reason}"
    return {"peer_is": "measured in this run" if reason is None else before}
