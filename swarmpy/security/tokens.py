"""Join tokens: `SWMTKN-1-<digest of the root certificate>-<secret>`.

The digest lets a joiner check that it talks to the right cluster before it says the secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

from swarmpy.errors import invalid
from swarmpy.ids import RandomBytes, base36, new_id

DIGEST_LENGTH: Final = 50
_TOKEN: Final = re.compile(r"SWMTKN-1-([0-9a-z]{50})-([0-9a-z]{25})")


@dataclass(frozen=True)
class JoinToken:
    """A parsed token. `secret` never appears in a log or an error."""

    digest: str
    secret: str

    def __str__(self) -> str:
        return f"SWMTKN-1-{self.digest}-{self.secret}"

    def __repr__(self) -> str:
        return f"JoinToken(digest={self.digest[:8]}...)"


def root_digest(root_pem: bytes) -> str:
    """Return the digest of a root certificate: SHA-256 of its PEM text, 50 characters of base 36."""
    return base36(int.from_bytes(hashlib.sha256(root_pem.strip()).digest(), "big"), DIGEST_LENGTH)


def new_token(digest: str, random_bytes: RandomBytes) -> str:
    """Return a new token for the root with this digest."""
    return str(JoinToken(digest, new_id(random_bytes)))


def parse_token(text: str) -> JoinToken:
    """Return the token's parts.

    Raises:
        SwarmError: INVALID_ARGUMENT, the text does not have a token's form.
    """
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise invalid(
            "the join token is malformed: it looks like SWMTKN-1-<50 characters>-<25 characters>; "
            "print it on a manager with `swarmpy swarm join-token worker`"
        )
    return JoinToken(match[1], match[2])


def same_token(ours: str, theirs: str) -> bool:
    """Compare two tokens in a time that does not depend on where they differ."""
    return hmac.compare_digest(ours.encode(), theirs.encode())
