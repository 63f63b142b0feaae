"""What a registry's refusals mean, as sentences. Pure."""

from __future__ import annotations

import email.utils
from typing import Final

import msgspec

from swarmpy.errors import Code, SwarmError

TOO_MANY: Final = 429
LONGEST_WAIT_S: Final = 60.0
"""A registry that asks for a longer pause is not waited for: the caller hears of it."""


class RegistryError(SwarmError):
    """A registry's refusal or failure.

    Args:
        status: of HTTP, 0 if there was no answer.
        again: whether the same request may succeed in some seconds.
        retry_after_s: how long the registry wants us to wait, None if it did not say.
    """

    def __init__(
        self, code: Code, message: str, *, status: int = 0, again: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(code, message, retryable=again)
        self.status = status
        self.again = again and (retry_after_s is None or retry_after_s <= LONGEST_WAIT_S)
        self.retry_after_s = retry_after_s


class UntrustedError(RegistryError):
    """A registry shows a certificate that is not to be trusted: speaking plain HTTP instead would be no better."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.FAILED_PRECONDITION, message)


class _Row(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct, frozen=True):
    errors: tuple[_Row, ...] = ()


def said(body: bytes) -> str:
    """Return the first error that a registry's answer names, empty if it names none."""
    try:
        rows = msgspec.json.decode(body, type=_Errors).errors
    except msgspec.MsgspecError:
        return ""
    text = next((row.message or row.code for row in rows if row.message or row.code), "")
    return " ".join(text.split())[:200]


def retry_after_s(header: str, now_s: float) -> float | None:
    """Return the seconds that a Retry-After header asks for; `now_s` is wall time. None if it cannot be read."""
    if header.strip().isdigit():
        return float(header)
    parsed = email.utils.parsedate_tz(header)
    return max(0.0, email.utils.mktime_tz(parsed) - now_s) if parsed else None


def refusal(
    status: int, *, host: str, what: str, body: bytes = b"", authenticated: bool = False, wait_s: float | None = None
) -> RegistryError:
    """Return the error for an answer that is none. `what` was asked for: `the manifest of web:1`."""
    why = said(body)
    behind = f" ({why})" if why else ""
    if status == 401 and authenticated:
        sentence = f"{host} refuses the credentials for {what}{behind}: log in again with `swarmpy login {host}`"
        return RegistryError(Code.UNAUTHENTICATED, sentence, status=status)
    if status == 401:
        sentence = f"{host} gives {what} only after a login, or does not have it{behind}: use `swarmpy login {host}`"
        return RegistryError(Code.UNAUTHENTICATED, sentence, status=status)
    if status == 403:
        who = "this user" if authenticated else "anyone without a login"
        sentence = f"{host} forbids {who} {what}{behind}: ask its owner for access, or log in as another user"
        return RegistryError(Code.PERMISSION_DENIED, sentence, status=status)
    if status == 404:
        sentence = f"{host} does not have {what}{behind}: check the name and the tag"
        return RegistryError(Code.NOT_FOUND, sentence, status=status)
    if status == TOO_MANY:
        pause = f"; it allows the next in {wait_s:g} s" if wait_s is not None else ""
        sentence = f"{host} has had too many requests to give {what}{behind}{pause}: wait, or log in for a higher limit"
        return RegistryError(Code.RESOURCE_EXHAUSTED, sentence, status=status, again=True, retry_after_s=wait_s)
    if status >= 500 or status == 408:
        sentence = f"{host} cannot give {what} now: it answered {status}{behind}"
        return RegistryError(Code.UNAVAILABLE, sentence, status=status, again=status != 501, retry_after_s=wait_s)
    return RegistryError(
        Code.FAILED_PRECONDITION, f"{host} answered {status} to the request for {what}{behind}", status=status
    )


def truncated(host: str, what: str, got_bytes: int, size_bytes: int | None) -> RegistryError:
    """Return the error for a body that ends early."""
    of = f" of {size_bytes}" if size_bytes is not None else ""
    sentence = f"{host} broke off {what} after {got_bytes}{of} bytes"
    return RegistryError(Code.UNAVAILABLE, sentence, again=True)


def too_long(host: str, what: str, limit_bytes: int) -> RegistryError:
    return RegistryError(Code.CORRUPT, f"{host} sends more than the {limit_bytes} bytes that {what} may have")


def lying(host: str, what: str, wanted: str, got: str) -> RegistryError:
    """Return the error for content that is not what its digest says."""
    sentence = f"{host} sent something else as {what}: its digest is {got}, not {wanted}. Nothing of it was kept"
    return RegistryError(Code.CORRUPT, sentence)
