"""Answers to what registries ask for: Basic credentials, and bearer tokens kept by scope."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urljoin

import msgspec

from swarmpy.clock import Clock
from swarmpy.errors import Code
from swarmpy.registry.challenge import Challenge, choose_challenge, parse_challenges
from swarmpy.registry.credentials import Credentials, Keychain
from swarmpy.registry.failures import RegistryError
from swarmpy.registry.reply import Answer, host_of
from swarmpy.registry.transport import AGENT, Request, Transport

DEFAULT_LIFE_S: Final = 60.0
MARGIN_S: Final = 10.0
MAX_TOKEN_BYTES: Final = 1 << 20
MAX_TOKENS: Final = 256


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a registry is asked. `base` has no trailing slash; `registry` is what its credentials are kept under."""

    base: str
    registry: str
    is_mirror: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """An Authorization header, and whether credentials stand behind it. `expires_s` is monotonic."""

    header: str
    authenticated: bool
    expires_s: float = float("inf")
    identity_token: str = ""


class _TokenAnswer(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None
    refresh_token: str = ""


class Access:
    """Grants for endpoints and scopes, fetched once however many ask at a time."""

    def __init__(self, transport: Transport, keychain: Keychain, clock: Clock) -> None:
        self._transport = transport
        self._keychain = keychain
        self._clock = clock
        self._challenges: dict[str, Challenge] = {}
        self._grants: dict[tuple[str, tuple[str, ...]], Grant] = {}
        self._widened: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def known(self, endpoint: Endpoint, scopes: tuple[str, ...]) -> Grant | None:
        """Return the grant for a request whose endpoint has said before what it wants; None to ask without."""
        challenge = self._challenges.get(endpoint.base)
        wanted = self._widened.get((endpoint.base, scopes), scopes)
        return await self._grant(endpoint, challenge, wanted, None) if challenge else None

    async def answer(
        self, endpoint: Endpoint, scopes: tuple[str, ...], refused: Answer, used: Grant | None
    ) -> Grant | None:
        """Return the grant that a 401 asks for; None if there is nothing but what was `used` already."""
        challenge = choose_challenge(parse_challenges(refused.challenges))
        if challenge is None:
            return None
        self._challenges[endpoint.base] = challenge
        # Some registries know better than we do which access an operation needs.
        asked = tuple(challenge.parameters.get("scope", "").split()) or scopes
        wanted = tuple(dict.fromkeys((*scopes, *asked)))
        if wanted != scopes:
            self._widened[endpoint.base, scopes] = wanted
        grant = await self._grant(endpoint, challenge, wanted, used)
        return None if grant is None or (used is not None and grant.header == used.header) else grant

    async def login(self, endpoint: Endpoint, credentials: Credentials, refused: Answer) -> Grant | None:
        """Return the grant for these credentials, with an identity token if the registry gives them."""
        challenge = choose_challenge(parse_challenges(refused.challenges))
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            return Grant(credentials.basic(), authenticated=True)
        return await self._fetch(endpoint, challenge, (), credentials, offline=True)

    async def _grant(
        self, endpoint: Endpoint, challenge: Challenge, scopes: tuple[str, ...], refused: Grant | None
    ) -> Grant | None:
        key = (endpoint.base, scopes)
        async with self._locks.setdefault(endpoint.base, asyncio.Lock()):
            found = self._grants.get(key)
            if found is not None and found != refused and found.expires_s > self._clock.monotonic():
                return found
            credentials = await self._keychain.get(endpoint.registry)
            if challenge.scheme == "basic":
                return Grant(credentials.basic(), authenticated=True) if credentials else None
            grant = await self._transport.retrying(lambda: self._fetch(endpoint, challenge, scopes, credentials))
            if len(self._grants) >= MAX_TOKENS:
                self._grants.clear()
                self._widened.clear()
            self._grants[key] = grant
            return grant

    async def _fetch(
        self,
        endpoint: Endpoint,
        challenge: Challenge,
        scopes: tuple[str, ...],
        credentials: Credentials | None,
        *,
        offline: bool = False,
    ) -> Grant:
        realm = urljoin(endpoint.base + "/", challenge.parameters["realm"])
        service = challenge.parameters.get("service", "")
        what = "a token for " + (" and ".join(scopes) or "this user")
        answer, request = await self._ask(realm, service, scopes, credentials, offline=offline, what=what)
        if answer.status in (400, 401, 403) and credentials is not None:
            sentence = f"{endpoint.registry} refuses the user name or the password: `swarmpy login {endpoint.registry}`"
            raise RegistryError(Code.UNAUTHENTICATED, sentence, status=answer.status)
        if answer.status != 200:
            raise self._transport.refused(answer, request, authenticated=credentials is not None)
        try:
            granted = msgspec.json.decode(answer.body, type=_TokenAnswer)
        except msgspec.MsgspecError as error:
            sentence = f"{host_of(realm)}, which gives the tokens of {endpoint.registry}, did not answer with one"
            raise RegistryError(Code.CORRUPT, sentence) from error
        token = granted.token or granted.access_token
        if not token or not token.isprintable() or not token.isascii():
            sentence = f"{host_of(realm)}, which gives the tokens of {endpoint.registry}, sent none that can be used"
            raise RegistryError(Code.CORRUPT, sentence)
        life_s = max(granted.expires_in or DEFAULT_LIFE_S, DEFAULT_LIFE_S) - MARGIN_S
        return Grant(
            f"Bearer {token}", credentials is not None, self._clock.monotonic() + life_s, granted.refresh_token
        )

    async def _ask(
        self,
        realm: str,
        service: str,
        scopes: tuple[str, ...],
        credentials: Credentials | None,
        *,
        offline: bool,
        what: str,
    ) -> tuple[Answer, Request]:
        if credentials is not None and credentials.identity_token:
            form = {"grant_type": "refresh_token", "service": service, "client_id": AGENT}
            form |= {"scope": " ".join(scopes), "refresh_token": credentials.identity_token}
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            request = Request("POST", realm, what, kind, urlencode(form).encode())
        else:
            fields = [("service", service)] if service else []
            fields += [("scope", scope) for scope in scopes]
            fields += [("account", credentials.username)] if credentials else []
            fields += [("offline_token", "true"), ("client_id", AGENT)] if offline else []
            mark = "&" if "?" in realm else "?"
            headers = {"Authorization": credentials.basic()} if credentials else {}
            request = Request("GET", f"{realm}{mark}{urlencode(fields)}" if fields else realm, what, headers)
        return await self._transport.call(request, limit_bytes=MAX_TOKEN_BYTES), request
