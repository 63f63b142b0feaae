"""What Docker's configuration of this user has for a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from swarmpy.cli.session import Session
from swarmpy.model.service import RegistryAuth

if TYPE_CHECKING:
    from swarmpy.registry.docker_config import DockerConfig


def docker_config(session: Session) -> DockerConfig:
    """Return the user's configuration, `~/.docker/config.json` or that in $DOCKER_CONFIG; it need not be there."""
    from swarmpy.registry.docker_config import DockerConfig, config_path

    return DockerConfig(config_path(session.environ, Path(session.environ.get("HOME", "/"))))


async def auth_for(session: Session, image: str) -> RegistryAuth | None:
    """Return who this user is to an image's registry; None if nothing says it.

    Raises:
        SwarmError: the name of the image, or the configuration, cannot be read.
    """
    from swarmpy.registry.reference import parse_reference

    domain = parse_reference(image).domain
    found = await docker_config(session).get(domain)
    if found is None:
        return None
    return RegistryAuth(domain, found.username, found.password, found.identity_token)
