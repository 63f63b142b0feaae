"""A swarmpyd of straw: answers on the supervisor's socket, and has one process, the manager."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarmpy.daemon.client import socket_path


@dataclass
class FakeSupervisor:
    """Notes what it is asked. A manager that is to stop needs `slow` questions for its status to be gone.

    `refusal` is answered to everything; `on_start` is what the manager does when it is started.
    """

    calls: list[str] = field(default_factory=list)
    runs: bool = False
    slow: int = 0
    refusal: str = ""
    on_start: Callable[[], None] = lambda: None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one request."""
        op = request["op"]
        if self.refusal:
            return {"ok": False, "code": "failed", "error": self.refusal}
        match op:
            case "set_role":
                self.calls.append("run" if request["manager"] else "stop")
                if request["manager"] and not self.runs:
                    self.on_start()
                self.runs = request["manager"]
            case "restart":
                self.calls.append(f"restart {request['process']}")
            case "status":
                is_there = self.runs or self.slow > 0
                self.slow -= 0 if self.runs else 1
                return {"ok": True, "processes": {"manager": {"pid": 7 if is_there else None}}}
        return {"ok": True}


@asynccontextmanager
async def supervising(state_dir: Path) -> AsyncIterator[FakeSupervisor]:
    """Serve at the place where the node with this state directory looks for its supervisor."""
    supervisor = FakeSupervisor()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(json.dumps(supervisor.answer(json.loads(line))).encode() + b"\n")
        writer.close()

    path = socket_path(state_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    server = await asyncio.start_unix_server(serve, path)
    try:
        yield supervisor
    finally:
        server.close()
        await server.wait_closed()
