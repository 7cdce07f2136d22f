"""
Passwords of visitors as they are kept: C{scrypt:COST:SALT:HASH}, salt and hash in base64url.

People choose weak ones, so the hash is slow (some 50 ms and 16 MiB), and is never computed where it would hold up others.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from secrets import token_bytes

from attrs import field, frozen

from tunnelstack.errors import ConfigurationError

COST = 14
"""Binary logarithm of scrypt's cost; its block size is 8, and one lane."""

ALLOWED_COSTS = range(10, 19)
HASH_OCTETS = 32
SALT_OCTETS = 16
MAX_MEMORY = 512 * 1024 * 1024


@frozen
class PasswordHash:
    """
    A user and what his password is compared with.
    """

    user: str
    cost: int = field(repr=False)
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    def verify(self, password: bytes) -> bool:
        """
        Slow on purpose: call it in a thread.
        """
        return hmac.compare_digest(_scrypt(password, self.salt, self.cost), self.digest)


def parsePasswordHash(text: str) -> PasswordHash:
    """
    @param text: C{USER:scrypt:COST:SALT:HASH}.
    @raise ConfigurationError: it is something else.
    """
    user, _, kept = text.partition(":")
    pieces = kept.split(":")
    try:
        name, cost, salt, digest = pieces
        found = PasswordHash(user, int(cost), urlsafe_b64decode(salt + "=="), urlsafe_b64decode(digest + "=="))
        sound = (
            user
            and name == "scrypt"
            and found.cost in ALLOWED_COSTS
            and len(found.digest) == HASH_OCTETS
            and len(found.salt) >= 8
        )
    except ValueError:
        sound = False
    if not sound:
        raise ConfigurationError("must be USER:scrypt:COST:SALT:HASH, as 'tunnelstack password USER' makes it")
    return found


def hashPassword(user: str, password: str) -> str:
    """
    @return: what L{parsePasswordHash} reads.
    @raise ConfigurationError: such a user cannot be told from his password.
    """
    if not user or ":" in user or not user.isprintable():
        raise ConfigurationError(f"a user's name has no colon, and is not empty: {user!r}")
    salt = token_bytes(SALT_OCTETS)
    digest = _scrypt(password.encode(), salt, COST)
    return f"{user}:scrypt:{COST}:{_base64url(salt)}:{_base64url(digest)}"


UNKNOWN_USER = PasswordHash("", COST, bytes(SALT_OCTETS), bytes(HASH_OCTETS))
"""What the password of an unknown user is compared with, so that the answer takes as long."""


def _scrypt(password: bytes, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=1 << cost, r=8, p=1, maxmem=MAX_MEMORY, dklen=HASH_OCTETS)


def _base64url(octets: bytes) -> str:
    return urlsafe_b64encode(octets).decode().rstrip("=")
