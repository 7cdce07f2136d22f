"""
The line that stands for a user and a password in C{users} and C{users_file} of a route, and in the password file of an SSH
server: C{USER:$scrypt$ln=14,r=8,p=1$SALT$HASH}.

Source: the PHC string format (https://github.com/P-H-C/phc-string-format) and RFC 7914, scrypt.  Salt and hash are base64
without padding.  The parameters belong to each line, so that the default can grow without a change to existing files.

People choose weak passwords, so the hash is slow (some 50 ms and 16 MiB).  Call L{PasswordEntry.verify} in a thread.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from hashlib import scrypt
from hmac import compare_digest
from secrets import token_bytes

from attrs import field, frozen

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.record import Record

DEFAULT_LN = 14
HASH_OCTETS = 32
SALT_OCTETS = 16
MAX_MEMORY = 64 * 1024 * 1024
"""Octets that one verification may use, C{128 * r * 2 ** ln}: a line of a file must not exhaust the memory."""

_ENTRY = re.compile(
    r"(?P<user>[^:]+):\$scrypt\$ln=(?P<ln>\d{1,2}),r=(?P<r>\d{1,2}),p=(?P<p>\d{1,2})"
    r"\$(?P<salt>[A-Za-z0-9+/]{11,86})\$(?P<hash>[A-Za-z0-9+/]{22,86})"
)


@frozen(eq=False, repr=False)
class PasswordEntry(Record):
    """
    A user and the hash of the user's password.

    @ivar ln: binary logarithm of scrypt's cost parameter N.
    @ivar r: scrypt's block size.
    @ivar p: scrypt's parallelization.
    """

    user: str
    ln: int = field(repr=False)
    r: int = field(repr=False)
    p: int = field(repr=False)
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    def verify(self, password: bytes) -> bool:
        """
        @return: whether this is the user's password.  The time does not depend on the answer.
        """
        found = _scrypt(password, self.salt, self.ln, self.r, self.p, len(self.digest))
        return compare_digest(self.digest, found)


UNKNOWN_USER = PasswordEntry("", DEFAULT_LN, 8, 1, bytes(SALT_OCTETS), bytes(HASH_OCTETS))
"""Verify an unknown user's password with this entry and ignore the result: the response then takes as long as for others."""


def parsePasswordEntry(line: str) -> PasswordEntry:
    """
    @raise ConfigurationError: C{line} is not an entry, or its parameters are out of bounds.
    """
    match = _ENTRY.fullmatch(line)
    if match is not None:
        ln, r, p = (int(match[name]) for name in ("ln", "r", "p"))
        try:
            if _affordable(ln, r, p):
                return PasswordEntry(match["user"], ln, r, p, _decode(match["salt"]), _decode(match["hash"]))
        except ValueError:                    # not base64
            pass
    raise ConfigurationError("must be USER:$scrypt$ln=..,r=..,p=..$SALT$HASH, as 'tunnelstack password USER' prints it")


def makePasswordEntry(user: str, password: str, *, ln: int = DEFAULT_LN, r: int = 8, p: int = 1) -> str:
    """
    @return: a line that L{parsePasswordEntry} accepts, without a line ending.
    @raise ConfigurationError: the user's name cannot stand in such a line, or the parameters are out of bounds.
    """
    if not user.isprintable() or user != user.strip() or ":" in user or user[:1] in ("", "#"):
        raise ConfigurationError(
            "a user's name must not be empty, contain a colon or a control character, or begin with '#', "
            "or begin or end with a space"
        )
    if not _affordable(ln, r, p):
        raise ConfigurationError(f"scrypt's parameters are out of bounds: ln={ln}, r={r}, p={p}")
    salt = token_bytes(SALT_OCTETS)
    digest = _scrypt(password.encode(), salt, ln, r, p, HASH_OCTETS)
    return f"{user}:$scrypt$ln={ln},r={r},p={p}${_encode(salt)}${_encode(digest)}"


def _affordable(ln: int, r: int, p: int) -> bool:
    return 10 <= ln <= 20 and 1 <= r <= 32 and 1 <= p <= 4 and 128 * r << ln <= MAX_MEMORY


def _scrypt(password: bytes, salt: bytes, ln: int, r: int, p: int, length: int) -> bytes:
    return scrypt(password, salt=salt, n=1 << ln, r=r, p=p, maxmem=2 * MAX_MEMORY, dklen=length)


def _encode(octets: bytes) -> str:
    return b64encode(octets).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), validate=True)
