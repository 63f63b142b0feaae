"""Who we are to a registry."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from swarmpy.errors import invalid


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password, or an identity token that is exchanged for access. Secrets are never printed."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """Return the value of an Authorization header of HTTP's Basic scheme."""
        return "Basic " + encode_auth(self.username, self.password)


class Keychain(Protocol):
    """Where credentials are kept. `registry` is a name's domain, or a mirror's host and port."""

    async def get(self, registry: str) -> Credentials | None:
        """Return the credentials for a registry; None goes without."""


class FixedKeychain:
    """Credentials that were handed over with the work."""

    def __init__(self, known: Mapping[str, Credentials] | None = None) -> None:
        self._known = dict(known or {})

    async def get(self, registry: str) -> Credentials | None:
        return self._known.get(registry)


def encode_auth(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def decode_auth(text: str, where: str) -> Credentials:
    """Return the name and password of `base64(name:password)`.

    Raises:
        SwarmError: INVALID_ARGUMENT; `where` says whose it is.
    """
    try:
        username, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError as error:
        raise invalid(f"{where} is not base64 of NAME:PASSWORD: log in again") from error
    if not colon:
        raise invalid(f"{where} has no colon between name and password: log in again")
    return Credentials(username, password.rstrip("\0"))
