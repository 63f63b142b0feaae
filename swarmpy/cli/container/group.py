"""The noun `container`."""

from __future__ import annotations

from typing import Final

import click

from swarmpy.cli.lazy import Entry, LazyGroup

_HERE: Final = "swarmpy.cli.container"
COMMANDS: Final = {
    "attach": Entry(f"{_HERE}.talk:attach", "Attach to a container that runs"),
    "cp": Entry(f"{_HERE}.copy:cp", "Copy files between a container and this machine"),
    "create": Entry(f"{_HERE}.run:create", "Make a container without starting it"),
    "diff": Entry(f"{_HERE}.look:diff", "Show what a container has changed in its image's files"),
    "exec": Entry(f"{_HERE}.talk:exec_", "Run a command in a container"),
    "inspect": Entry(f"{_HERE}.inspect:inspect", "Show containers in detail"),
    "kill": Entry(f"{_HERE}.change:kill", "Send containers a signal"),
    "logs": Entry(f"{_HERE}.logs:logs", "Show the output of a container"),
    "ls": Entry(f"{_HERE}.ls:ls", "List containers"),
    "pause": Entry(f"{_HERE}.change:pause", "Freeze all processes of containers"),
    "port": Entry(f"{_HERE}.look:port", "Show which ports of this machine lead to a container"),
    "prune": Entry(f"{_HERE}.change:prune", "Remove all containers that have ended"),
    "rename": Entry(f"{_HERE}.change:rename", "Give a container another name"),
    "restart": Entry(f"{_HERE}.change:restart", "Stop containers and start them again"),
    "rm": Entry(f"{_HERE}.change:rm", "Remove containers"),
    "run": Entry(f"{_HERE}.run:run", "Run a command in a new container"),
    "start": Entry(f"{_HERE}.change:start", "Start containers"),
    "stats": Entry(f"{_HERE}.stats:stats", "Show what containers use"),
    "stop": Entry(f"{_HERE}.change:stop", "Stop containers"),
    "top": Entry(f"{_HERE}.look:top", "Show the processes of a container"),
    "unpause": Entry(f"{_HERE}.change:unpause", "Let frozen containers go on"),
    "update": Entry(f"{_HERE}.change:update", "Give containers another restart rule"),
    "wait": Entry(f"{_HERE}.change:wait", "Wait until containers have ended, and show their exit codes"),
}


@click.group(cls=LazyGroup, entries=COMMANDS)
def container() -> None:
    """Manage the containers of this node."""
