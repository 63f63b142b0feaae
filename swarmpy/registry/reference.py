"""Names of images as people write them, and what they stand for by Docker's rules. Pure.

`web` is `docker.io/library/web:latest`; a first part with a dot, a port, or `localhost` is a registry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from swarmpy.errors import SwarmError, invalid

DEFAULT_DOMAIN: Final = "docker.io"
"""The registry of short names: Docker's rule, which every image's name in the wild relies on."""
LEGACY_DOMAIN: Final = f"index.{DEFAULT_DOMAIN}"
DEFAULT_ENDPOINT: Final = f"registry-1.{DEFAULT_DOMAIN}"
"""Where that registry answers; its own name does not."""
OFFICIAL: Final = "library"
DEFAULT_TAG: Final = "latest"
MAX_NAME: Final = 255

_COMPONENT: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_LABEL: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?", re.ASCII)
_TAG: Final = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST: Final = re.compile(r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})", re.ASCII)
_IMAGE_ID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A full name. At least one of `tag` and `digest` is not empty; with both, the digest decides."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """The name without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def identifier(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def familiar(self) -> str:
        """Return the short form that people write."""
        text = str(self)
        if self.domain == DEFAULT_DOMAIN:
            text = text.removeprefix(f"{DEFAULT_DOMAIN}/")
            if self.path.count("/") == 1:
                text = text.removeprefix(f"{OFFICIAL}/")
        return text

    def at(self, digest: str) -> Reference:
        """Return the name of exactly that content of the repository."""
        return replace(self, tag="", digest=digest)


def parse_reference(text: str) -> Reference:
    """Return the full name that `text` stands for; the tag is `latest` if neither tag nor digest is given.

    Raises:
        SwarmError: INVALID_ARGUMENT.
    """
    if not text:
        raise invalid("an image has no name: write NAME, NAME:TAG or NAME@DIGEST")
    if _IMAGE_ID.fullmatch(text):
        raise invalid(f"{text!r} is the ID of an image, not its name: write NAME, NAME:TAG or NAME@sha256:{text[:12]}…")
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _bad(text, f"the digest {digest!r} is not sha256: and 64 hexadecimal digits in lower case")
    name, tag = _split_tag(rest)
    if tag is not None and not _TAG.fullmatch(tag):
        rule = "a tag has up to 128 letters, digits, underscores, dots and dashes, and starts with none of the last two"
        raise _bad(text, f"the tag {tag!r} is wrong: {rule}")
    domain, path = _split_domain(name)
    if not _DOMAIN.fullmatch(domain) or int(domain.rpartition(":")[2] or 0 if _has_port(domain) else 0) > 65535:
        raise _bad(text, f"{domain!r} is not a registry's host and port")
    _check_path(text, path)
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise _bad(text, f"the name has more than {MAX_NAME} characters")
    return Reference(domain, path, tag or ("" if digest else DEFAULT_TAG), digest)


def is_digest(text: str) -> bool:
    """Return whether `text` names content by a hash that we can check."""
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: str, where: str) -> str:
    """Return `text` if it is a digest; `where` says whose it is.

    Raises:
        SwarmError: INVALID_ARGUMENT.
    """
    if not is_digest(text):
        raise invalid(f"{where} has {text[:80]!r} where a digest (sha256:…) belongs")
    return text


def endpoint_of(domain: str) -> str:
    """Return the host and port that serve a registry."""
    return DEFAULT_ENDPOINT if domain == DEFAULT_DOMAIN else domain


def _split_tag(text: str) -> tuple[str, str | None]:
    """Split off what is behind the last colon, unless that colon belongs to a host's port."""
    name, colon, tag = text.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (text, None)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_host = "." in first or ":" in first or first == "localhost" or first.lower() != first
    domain, path = (first, rest) if slash and is_host else (DEFAULT_DOMAIN, name)
    if domain == LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"{OFFICIAL}/{path}" if path else path
    return domain, path


def _has_port(domain: str) -> bool:
    return ":" in domain and not domain.endswith("]")


def _check_path(text: str, path: str) -> None:
    if _PATH.fullmatch(path):
        return
    if not path:
        raise _bad(text, "a repository's name is missing")
    if path.lower() != path and _PATH.fullmatch(path.lower()):
        raise _bad(text, "a repository's name is in lower case")
    rule = "its parts are lower-case letters and digits, with single dots, up to two underscores or dashes between them"
    raise _bad(text, f"{path!r} is not a repository's name: {rule}")


def _bad(text: str, why: str) -> SwarmError:
    shown = text if len(text) <= 300 else text[:300] + "…"
    return invalid(f"invalid image name {shown!r}: {why}")
