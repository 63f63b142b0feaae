"""A real swarmpyd in a temporary directory, with fake worker, data plane and manager, and a clean end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from scripts.cluster.processes import runs
from swarmpy.daemon import proc
from swarmpy.daemon.client import SupervisorClient, socket_path
from swarmpy.errors import SwarmError

MARK = "SWARMPY_TEST_MARK"
DEADLINE_S = 15.0
# Children are given options that sleep would refuse, so a shell takes them.
FAKE = ["/bin/sh", "-c", "exec sleep 1000"]

T = TypeVar("T")


def until(ask: Callable[[], T | None], *, what: str = "") -> T:
    """Return the first true answer; fail after a deadline."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline_s, f"did not come true in {DEADLINE_S:g} s: {what or ask}"
        time.sleep(0.01)


class Lines:
    """A blocking client of the task host, or of anything that speaks JSON lines."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE_S)
        try:
            self.sock.connect(str(path))
        except OSError:
            self.sock.close()
            raise
        self._read = self.sock.makefile("rb")

    def send(self, **request: object) -> None:
        self.sock.sendall(json.dumps(request).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        line = self._read.readline()
        assert line, "the other side has closed the connection"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def call(self, **request: object) -> dict[str, Any]:
        self.send(**request)
        return self.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._read.close()
        self.sock.close()


class NodeProcess:
    """Start it by `start`; leaving the context kills whatever carries its mark and removes its directory."""

    def __init__(self, *options: str, **processes: list[str]) -> None:
        # Not pytest's directory: its path may be too long for a UNIX socket.
        self.directory = Path(tempfile.mkdtemp(prefix="swarmpy-"))
        self.state = self.directory / "state"
        self.mark = uuid.uuid4().hex
        self.options = options
        self.environment = {**os.environ, MARK: self.mark}
        self.daemon: subprocess.Popen[bytes] | None = None
        self._table = self.directory / "processes.json"
        self._table.write_text(json.dumps({"worker": FAKE, "dataplane": FAKE, "manager": FAKE, **processes}))

    def command(self) -> list[str]:
        options = ["--state-dir", str(self.state), "--addr", "127.0.0.1", "--processes", str(self._table)]
        return [sys.executable, "-m", "swarmpy.daemon", *options, *self.options]

    def start(self) -> Self:
        """Start swarmpyd and wait until it and the task host answer."""
        with (self.directory / "log").open("ab") as log:
            self.daemon = subprocess.Popen(self.command(), env=self.environment, stderr=log)
        until(self._answers, what="swarmpyd answers")
        return self

    def _answers(self) -> bool:
        assert self.daemon is not None
        assert self.daemon.poll() is None, (self.directory / "log").read_text()
        try:
            with self.supervisor() as client:
                if client.status()["pid"] != self.daemon.pid:
                    return False
            with self.taskhost() as lines:
                return bool(lines.call(op="list")["ok"])
        except (SwarmError, OSError, AssertionError):
            return False

    def supervisor(self) -> SupervisorClient:
        return SupervisorClient(socket_path(self.state))

    def taskhost(self) -> Lines:
        return Lines(self.state / "run" / "taskhost.sock")

    def process(self, name: str) -> dict[str, Any]:
        with self.supervisor() as client:
            process = client.status()["processes"][name]
            assert isinstance(process, dict)
            return process

    def pid(self, name: str) -> int:
        if name == "supervisor":
            assert self.daemon is not None
            return self.daemon.pid
        # From the record, so that it works without a supervisor too.
        return int(json.loads((self.state / "run" / f"{name}.pid").read_text())["pid"])

    def kill(self, name: str) -> None:
        """Kill one process by SIGKILL and wait for its death."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        if name == "supervisor":
            assert self.daemon is not None
            self.daemon.wait(DEADLINE_S)
        else:
            until(lambda: not runs(pid), what=f"{name} is dead")

    def task(self, task_id: str, script: str, **fields: object) -> dict[str, Any]:
        """Return the `start` request of a shell script that carries the mark."""
        env = {MARK: self.mark, "PATH": os.environ["PATH"]}
        output = {"stdout": "/dev/null", "stderr": "/dev/null"}
        return {"op": "start", "id": task_id, "argv": ["/bin/sh", "-c", script], "env": env, **output, **fields}

    def run_task(self, task_id: str, script: str, **fields: object) -> int:
        """Start a task and return its pid."""
        with self.taskhost() as lines:
            answer = lines.call(**self.task(task_id, script, **fields))
            assert answer["ok"], answer
            return int(answer["pid"])

    def tasks(self) -> dict[str, dict[str, Any]]:
        with self.taskhost() as lines:
            return {row["id"]: row for row in lines.call(op="list")["tasks"]}

    def exit_of(self, task_id: str) -> dict[str, Any]:
        """Return the row of a task that has exited or is about to."""

        def ask() -> dict[str, Any] | None:
            try:
                row = self.tasks()[task_id]
            except (OSError, AssertionError):
                return None
            return row if row["state"] == "exited" else None

        return until(ask, what=f"{task_id} has exited")

    def marked(self) -> list[int]:
        """Return every process that carries the mark."""
        needle = f"{MARK}={self.mark}".encode()
        found = []
        for pid in proc.all_pids():
            try:
                if needle in Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(pid)
            except OSError:
                continue
        return found

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        def none_left() -> bool:
            pids = self.marked()
            for pid in pids:
                proc.kill(pid)
            if self.daemon:
                self.daemon.poll()
            return not pids

        until(none_left, what="everything is killed")
        if self.daemon:
            self.daemon.wait(DEADLINE_S)
        shutil.rmtree(self.directory)
