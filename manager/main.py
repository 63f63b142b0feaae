"""The manager process: arguments, identity, lock, and then the manager."""

from __future__ import annotations

import os

from swarmpy import log as logging
from swarmpy.clock import SystemClock
from swarmpy.errors import Code, SwarmError
from swarmpy.model import features
from swarmpy.process import locked, parser, raise_open_files_limit, run
from swarmpy.security import identity as identities


def main() -> int:
    """Run a manager; return its exit status."""
    arguments = parser("manager").parse_args()
    state_dir = arguments.state_dir

    async def serve() -> None:
        # Loaded here so that a failure of an import is reported as one of this process.
        from manager.manager import Settings
        from manager.manager import serve as serve_manager
        from swarmpy.addresses import METRICS_PORT_MANAGER, Address, metrics_host, parse_address

        identity = identities.load(state_dir)
        if identity is None:
            raise SwarmError(Code.FAILED_PRECONDITION, "this node is in no cluster, so it cannot be a manager")
        # The worker finds out the same and stores it, sooner or later than this.
        identity = identities.at_address(identity, arguments.addr)
        settings = Settings(
            state_dir=state_dir,
            identity=identity,
            listen=parse_address(identity.listen_addr, "the listen address"),
            advertise=parse_address(identity.advertise_addr, "the advertised address"),
            metrics=Address(metrics_host(arguments.addr), METRICS_PORT_MANAGER),
            open_files=raise_open_files_limit(),
            feature_level=features.level_of(os.environ),
        )
        with locked(settings.directory):
            await serve_manager(settings, SystemClock())

    logging.configure("manager")
    return run("manager", state_dir, serve)
