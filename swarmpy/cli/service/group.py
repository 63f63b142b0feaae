"""The noun `service`."""

from __future__ import annotations

from typing import Final

import click

from swarmpy.cli.lazy import Entry, LazyGroup

COMMANDS: Final = {
    "create": Entry("swarmpy.cli.service.create:create", "Create a service"),
    "inspect": Entry("swarmpy.cli.service.inspect:inspect", "Show services in detail"),
    "logs": Entry("swarmpy.cli.service.logs:logs", "Show the output of a service or a task"),
    "ls": Entry("swarmpy.cli.service.ls:ls", "List services"),
    "ps": Entry("swarmpy.cli.service.ps:ps", "List the tasks of services"),
    "rm": Entry("swarmpy.cli.service.change:rm", "Remove services"),
    "rollback": Entry("swarmpy.cli.service.change:rollback", "Put a service's previous spec back"),
    "scale": Entry("swarmpy.cli.service.change:scale", "Set the number of replicas of services"),
    "update": Entry("swarmpy.cli.service.update:update", "Change a service"),
}


@click.group(cls=LazyGroup, entries=COMMANDS)
def service() -> None:
    """Manage services."""
