"""
The credentials for logins to an SSH server: a file of password hashes and a file of public keys.

A line of the password file is C{user:$scrypt$ln=14,r=8,p=1$SALT$HASH} (base64 without padding).  Each line has its own
parameters, so that they can be raised for new passwords.  L{passwordEntry} makes a line.  The key file has the format of
OpenSSH's C{authorized_keys}, without options.  Both files are read at each login, so that a change is effective immediately.
"""

from __future__ import annotations

import hmac
import os
import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterator
from hashlib import scrypt, sha256
from pathlib import Path
from struct import error as StructError

from attrs import field, frozen
from twisted.conch.ssh.keys import BadKeyError, Key
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from tunnelstack.errors import UsageError

LARGEST_FILE = 1024 * 1024
"""Octets of a file that are read; enough for thousands of users or keys."""

MEMORY = 64 * 1024 * 1024
"""Octets of memory that one check may use: 128 * N * r."""

ENTRY = re.compile(
    r"\$scrypt\$ln=(?P<ln>\d{1,2}),r=(?P<r>\d{1,2}),p=(?P<p>\d{1,2})\$(?P<salt>[A-Za-z0-9+/]{11,86})\$(?P<hash>[A-Za-z0-9+/]{22,86})")

_log = Logger()


@frozen
class _Hash:
    ln: int
    r: int
    p: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    def matches(self, password: bytes) -> bool:
        """
        Whether this is the hash of C{password}.  A wrong password takes the same time.
        """
        return hmac.compare_digest(self.digest, _scrypt(password, self.salt, self.ln, self.r, self.p, len(self.digest)))


def _scrypt(password: bytes, salt: bytes, ln: int, r: int, p: int, length: int) -> bytes:
    return scrypt(password, salt=salt, n=1 << ln, r=r, p=p, maxmem=2 * MEMORY, dklen=length)


def _text(octets: bytes) -> str:
    return b64encode(octets).decode().rstrip("=")


def _octets(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), validate=True)


def passwordEntry(user: str, password: str, *, ln: int = 14, r: int = 8, p: int = 1) -> str:
    """
    @param ln: the binary logarithm of scrypt's N; 14 uses 16 MiB and about 50 ms.
    @return: a line for the password file, without a line end.
    @raise UsageError: the user name cannot be written to the file, or the parameters are out of range.
    """
    if not user or set(user) & set(":\r\n\0#"):
        raise UsageError("a user name must not be empty or contain a colon, # or a line end", user=user)
    salt = os.urandom(16)
    if not _affordable(ln, r, p):
        raise UsageError("the scrypt parameters are out of range", ln=ln, r=r, p=p)
    return f"{user}:$scrypt$ln={ln},r={r},p={p}${_text(salt)}${_text(_scrypt(password.encode(), salt, ln, r, p, 32))}"


def _affordable(ln: int, r: int, p: int) -> bool:
    return 10 <= ln <= 20 and 1 <= r <= 32 and 1 <= p <= 4 and 128 * r << ln <= MEMORY


_DUMMY_HASH = _Hash(14, 8, 1, bytes(16), bytes(32))
"""The hash for a password of an unknown user, whose check must take the same time."""


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """
    @return: the numbered lines that are neither empty nor comments; none if the file does not exist or other users may write to
        it.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o022:
                _log.error("{path} is ignored: other users may write to it (chmod go-w)", path=str(path))
                return
            text = file.read(LARGEST_FILE).decode("utf-8", "replace")
    except FileNotFoundError:
        return
    except OSError as unreadable:
        _log.error("{path} cannot be read: {reason}", path=str(path), reason=unreadable.strerror)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


class PasswordFile:
    """
    A file of users and the hashes of their passwords.
    """

    def __init__(self, path: Path, inThread: Callable[..., Deferred[bool]] = deferToThread) -> None:
        """
        @param inThread: runs a slow call in a thread: C{inThread(call, *arguments)}.
        """
        self._path = path
        self._inThread = inThread

    def users(self) -> dict[str, _Hash]:
        """
        @return: all valid entries, by user.  Invalid lines are logged.
        """
        found = {}
        for number, line in _lines(self._path):
            user, _, entry = line.partition(":")
            try:
                found[user] = _parsed(entry)
            except ValueError:
                _log.warn("line {line} of {path} is not a password entry", line=number, path=str(self._path))
        return found

    def __contains__(self, user: str) -> bool:
        return user in self.users()

    def check(self, user: str, password: bytes) -> Deferred[bool]:
        """
        @return: whether this is the user's password.  The time of the check does not reveal whether the user exists.
        """
        entry = self.users().get(user)
        checked = self._inThread((entry or _DUMMY_HASH).matches, password)
        return checked.addCallback(lambda right: right and entry is not None)


def _parsed(entry: str) -> _Hash:
    match = ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError("not an entry")
    ln, r, p = (int(match[name]) for name in ("ln", "r", "p"))
    if not _affordable(ln, r, p):
        raise ValueError("out of range")
    try:
        return _Hash(ln, r, p, _octets(match["salt"]), _octets(match["hash"]))
    except NotBase64 as wrong:
        raise ValueError("not base64") from wrong


class AuthorizedKeys:
    """
    A file of public keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def keys(self) -> Iterator[tuple[Key, str]]:
        """
        The keys of the file with their comments.  A line with options is skipped: to accept the key without its options would
        permit more than the operator intended.
        """
        for number, line in _lines(self._path):
            try:
                key = Key.fromString(line.encode(), type="public_openssh")
                if not line.startswith(key.sshType().decode()):
                    raise BadKeyError("options")
            except (BadKeyError, StructError, ValueError, LookupError, NotBase64):
                _log.warn("line {line} of {path} is not a usable key", line=number, path=str(self._path))
            else:
                yield key, "".join(line.split(None, 2)[2:])

    def check(self, user: str, key: Key) -> bool:
        """
        Whether the key is in the file, for any user.
        """
        blob = key.blob()
        return any(known.blob() == blob for known, _ in self.keys())

    def names(self, key: Key) -> list[str]:
        """
        @return: the names of a key: its comments in the file, and its fingerprint as C{ssh-keygen -l} prints it; C{[]} if the
            key is not in the file.
        """
        blob = key.blob()
        comments = [comment for known, comment in self.keys() if known.blob() == blob]
        return [*comments, f"SHA256:{_text(sha256(blob).digest())}"] if comments else []


@frozen(kw_only=True)
class LoginPolicy:
    """
    Decides about logins by passwords and keys.

    @ivar passwords: the password file, or C{None}.
    @ivar keys: whether a key is accepted for a user: C{keys(user, key)} gives a C{bool} or a C{Deferred} of one.
    @ivar users: the users that may log in with a key, besides those of the password file.
    """

    passwords: PasswordFile | None = None
    keys: Callable[[str, Key], Deferred[bool]] | Callable[[str, Key], bool] | None = None
    users: frozenset[str] = frozenset()

    def methods(self, user: str) -> tuple[bytes, ...]:
        """
        The names of the SSH authentication methods that are offered.
        """
        keys = (b"publickey",) if self.keys is not None else ()
        return keys + ((b"password",) if self.passwords is not None else ())

    def knows(self, user: str) -> bool:
        """
        Whether the user may log in with a key.
        """
        return user in self.users or (self.passwords is not None and user in self.passwords)

    def authenticationStarted(self, user: str) -> None:
        """
        Nothing needs to be prepared.
        """

    def password(self, user: str, password: bytes) -> Deferred[bool]:
        """
        @return: whether the password is accepted.
        """
        return succeed(False) if self.passwords is None else self.passwords.check(user, password)

    def key(self, user: str, key: Key) -> Deferred[bool]:
        """
        @return: whether the key is accepted, if the client proves that it owns it.
        """
        if self.keys is None or not self.knows(user):
            return succeed(False)
        return maybeDeferred(self.keys, user, key)

    offered = key
