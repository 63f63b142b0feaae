"""Docker's credential helpers: programs named docker-credential-NAME that keep passwords in some safe."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import dataclass
from typing import Final

from swarmpy.errors import Code, SwarmError, invalid, not_found
from swarmpy.registry.credentials import Credentials

MISSING: Final = "credentials not found"
TOKEN_USER: Final = "<token>"
"""The user name under which helpers keep identity tokens."""
MAX_ANSWER: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Helper:
    """One helper. `name` is the part behind `docker-credential-`; a call takes `deadline_s` at most."""

    name: str
    deadline_s: float = 30.0

    @property
    def program(self) -> str:
        return f"docker-credential-{self.name}"

    async def get(self, server: str) -> Credentials | None:
        """Return what the helper has for a server, None if it has nothing.

        Raises:
            SwarmError: the helper is missing, fails, or answers nonsense.
        """
        status, answer = await self._run("get", server.encode())
        if status != 0:
            if MISSING in answer.lower():
                return None
            raise self._failed("get", answer)
        try:
            document = json.loads(answer)
            username, secret = str(document["Username"]), str(document["Secret"])
        except (ValueError, KeyError, TypeError) as error:
            raise SwarmError(Code.CORRUPT, f"{self.program} did not answer with a user name and a secret") from error
        return Credentials(identity_token=secret) if username == TOKEN_USER else Credentials(username, secret)

    async def store(self, server: str, credentials: Credentials) -> None:
        """Keep credentials for a server."""
        token = credentials.identity_token
        user, secret = (TOKEN_USER, token) if token else (credentials.username, credentials.password)
        request = json.dumps({"ServerURL": server, "Username": user, "Secret": secret})
        status, answer = await self._run("store", request.encode())
        if status != 0:
            raise self._failed("store", answer)

    async def erase(self, server: str) -> None:
        """Forget a server; one that is not known is no error."""
        status, answer = await self._run("erase", server.encode())
        if status != 0 and MISSING not in answer.lower():
            raise self._failed("erase", answer)

    async def _run(self, verb: str, request: bytes) -> tuple[int, str]:
        if not self.name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise invalid(f"the credential helper {self.name!r} of Docker's configuration has a wrong name")
        try:
            process = await asyncio.create_subprocess_exec(
                self.program,
                verb,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            hint = "install it, or take it out of credsStore and credHelpers"
            raise not_found(f"Docker's configuration names {self.program}, which is not in PATH: {hint}") from error
        except OSError as error:
            raise SwarmError(Code.FAILED_PRECONDITION, f"cannot run {self.program}: {error.strerror}") from error
        try:
            async with asyncio.timeout(self.deadline_s):
                answer, _ = await process.communicate(request)
        except TimeoutError as error:
            sentence = f"{self.program} {verb} did not answer within {self.deadline_s:g} s"
            raise SwarmError(Code.DEADLINE_EXCEEDED, sentence) from error
        finally:
            if process.returncode is None:
                # The group: helpers are often shell scripts, whose children would keep the pipe.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.communicate()
        assert process.returncode is not None, "communicate() waits for the end"
        return process.returncode, answer[:MAX_ANSWER].decode(errors="replace").strip()

    def _failed(self, verb: str, answer: str) -> SwarmError:
        said = answer.splitlines()[0][:200] if answer else "it said nothing"
        return SwarmError(Code.FAILED_PRECONDITION, f"{self.program} {verb} failed: {said}")
