"""What runs in a container, by Docker's rules of command, arguments, entrypoint and environment. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from swarmpy.errors import invalid
from swarmpy.model.spec import ContainerSpec
from worker.oci.image import ImageDefaults

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT_TARGET: Final = "/sbin/docker-init"


def argv(container: ContainerSpec, image: ImageDefaults) -> tuple[str, ...]:
    """Return the program and its arguments.

    `command` replaces the image's entrypoint, and then the image's own arguments (Cmd) go with it; `args` replaces
    those arguments. With `init` a minimal init process runs it all.

    Raises:
        SwarmError: INVALID_ARGUMENT, neither the service nor the image says what to run.
    """
    entrypoint = container.command or image.entrypoint or ()
    arguments = container.args or (() if container.command else image.cmd or ())
    words = (*entrypoint, *arguments)
    if not words or not words[0]:
        raise invalid("neither the image nor the service says what to run: give a command")
    return (INIT_TARGET, "--", *words) if container.init else words


def environment(image: ImageDefaults, ours: Mapping[str, str], wanted: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the whole environment: the image's, then ours, then the service's; the last one wins.

    Args:
        ours: what swarmpy tells a task of itself.
        wanted: the service's variables, with their placeholders filled in.
    """
    env = {"PATH": DEFAULT_PATH}
    for pair in image.env:
        name, equals, value = pair.partition("=")
        if equals and name:
            env[name] = value
    env.update(ours)
    env.update(wanted)
    return env


def workdir(container: ContainerSpec, image: ImageDefaults) -> str:
    """Return the absolute directory to run in; the runtime makes it if it is missing."""
    chosen = container.workdir or image.working_dir or "/"
    return chosen if chosen.startswith("/") else f"/{chosen}"
