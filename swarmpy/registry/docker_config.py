"""Docker's config.json: credentials for registries, in the file itself or in helpers it names."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarmpy.errors import invalid, precondition
from swarmpy.files import write_atomic
from swarmpy.registry.credentials import Credentials, decode_auth, encode_auth
from swarmpy.registry.helpers import Helper
from swarmpy.registry.reference import DEFAULT_DOMAIN, DEFAULT_ENDPOINT, LEGACY_DOMAIN

DEFAULT_KEY: Final = f"https://{LEGACY_DOMAIN}/v1/"
"""Under this key Docker keeps the credentials of the registry of short names."""


def config_path(environment: Mapping[str, str], home: Path) -> Path:
    """Return where Docker's configuration is: in `DOCKER_CONFIG`, else in `~/.docker`."""
    return Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"


def server_key(registry: str) -> str:
    """Return the key of a registry in the file."""
    return DEFAULT_KEY if registry in (DEFAULT_DOMAIN, LEGACY_DOMAIN, DEFAULT_ENDPOINT) else registry


def same_server(key: str, registry: str) -> bool:
    """Return whether a key, in any form that clients have written, is that of `registry`."""
    if key == server_key(registry):
        return True
    host = key.split("://", 1)[-1].split("/", 1)[0]
    return server_key(host) == server_key(registry)


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """The file at `path`, read anew at each call; it need not exist. A Keychain."""

    path: Path
    helper_deadline_s: float = 30.0

    async def get(self, registry: str) -> Credentials | None:
        """Return the credentials for a registry, None if there are none.

        Raises:
            SwarmError: the file or the helper it names cannot be read.
        """
        document = await asyncio.to_thread(self._read)
        helper = self._helper(document, registry)
        if helper is not None:
            return await helper.get(server_key(registry))
        auths = _table(document, "auths", self.path)
        found = auths.get(server_key(registry)) or next(
            (value for key, value in sorted(auths.items()) if same_server(key, registry)), None
        )
        return _entry(found, f"the entry of {registry} in {self.path}") if found else None

    async def store(self, registry: str, credentials: Credentials) -> str:
        """Keep credentials; return where: the helper's program, or the file."""
        document = await asyncio.to_thread(self._read)
        helper = self._helper(document, registry)
        key = server_key(registry)
        if helper is not None:
            await helper.store(key, credentials)
            # Docker leaves an empty entry, by which `logout` and other clients see that there is a login.
            await asyncio.to_thread(self._put, key, {})
            return helper.program
        token = credentials.identity_token
        secret = {"auth": encode_auth(credentials.username, credentials.password)}
        await asyncio.to_thread(self._put, key, {"identitytoken": token, **secret} if token else secret)
        return str(self.path)

    async def erase(self, registry: str) -> bool:
        """Forget a registry; return whether it was known."""
        document = await asyncio.to_thread(self._read)
        helper = self._helper(document, registry)
        known = any(same_server(key, registry) for key in _table(document, "auths", self.path))
        if helper is not None:
            known = known or await helper.get(server_key(registry)) is not None
            await helper.erase(server_key(registry))
        await asyncio.to_thread(self._drop, registry)
        return known

    def _helper(self, document: Mapping[str, Any], registry: str) -> Helper | None:
        helpers = _table(document, "credHelpers", self.path)
        key = server_key(registry)
        name = helpers.get(registry) or helpers.get(key) or document.get("credsStore")
        return Helper(str(name), self.helper_deadline_s) if name else None

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self.path.read_bytes() or b"{}")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise precondition(f"cannot read {self.path}: {error.strerror}") from error
        except ValueError as error:
            raise invalid(f"{self.path} is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise invalid(f"{self.path} does not hold a JSON object")
        return document

    def _put(self, key: str, entry: Mapping[str, str]) -> None:
        document = self._read()
        document["auths"] = {**_table(document, "auths", self.path), key: dict(entry)}
        self._write(document)

    def _drop(self, registry: str) -> None:
        document = self._read()
        auths = _table(document, "auths", self.path)
        kept = {key: entry for key, entry in auths.items() if not same_server(key, registry)}
        if kept != auths:
            document["auths"] = kept
            self._write(document)

    def _write(self, document: Mapping[str, Any]) -> None:
        # A link stays one: people keep the file elsewhere.
        path = Path(os.path.realpath(self.path))
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise precondition(f"cannot make {path.parent}: {error.strerror}") from error
        write_atomic(path, json.dumps(document, indent="\t").encode() + b"\n")


def _table(document: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    found = document.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise invalid(f"{key} in {path} is not a JSON object")
    return found


def _entry(entry: object, where: str) -> Credentials | None:
    if not isinstance(entry, dict):
        raise invalid(f"{where} is not a JSON object")
    known = decode_auth(str(entry["auth"]), where) if entry.get("auth") else Credentials()
    token = str(entry.get("identitytoken") or "")
    if token:
        return Credentials(known.username, known.password, token)
    if known.username:
        return known
    return Credentials(str(entry["username"]), str(entry.get("password", ""))) if entry.get("username") else None
