"""The worker process: arguments, lock, and then the worker."""

from __future__ import annotations

from swarmpy import log as logging
from swarmpy.clock import SystemClock
from swarmpy.process import locked, parser, run


def main() -> int:
    """Run a worker; return its exit status."""
    arguments = parser("worker").parse_args()

    async def serve() -> None:
        # Loaded here so that a failure of an import is reported as one of this process.
        from worker.host import find_place
        from worker.worker import Worker

        place = find_place(arguments.state_dir, arguments.addr, arguments.data_addr)
        with locked(place.state_dir / "worker"):
            await Worker(place, SystemClock()).run()

    logging.configure("worker")
    return run("worker", arguments.state_dir, serve)
