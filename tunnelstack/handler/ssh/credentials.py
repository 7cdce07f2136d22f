"""
The credentials for logins to an SSH server: a file of password hashes and a file of public keys.

A line of the password file is a L{PasswordEntry<tunnelstack.settings.password_hash.PasswordEntry>}; C{tunnelstack password}
prints it.  The key file is OpenSSH's C{authorized_keys}, without options.  Both are read at each login: an edit counts at once.
"""

from __future__ import annotations

import os
from base64 import b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from struct import error as StructError

from attrs import frozen
from twisted.conch.ssh.keys import BadKeyError, Key
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.password_hash import UNKNOWN_USER, PasswordEntry, parsePasswordEntry

LARGEST_FILE = 1024 * 1024
"""Octets of a file that are read; enough for thousands of users or keys."""

_log = Logger()


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

    @ivar path: the file.
    """

    def __init__(self, path: Path, inThread: Callable[..., Deferred[bool]] = deferToThread) -> None:
        """
        @param inThread: runs a slow call in a thread: C{inThread(call, *arguments)}.
        """
        self.path = path
        self._inThread = inThread

    def users(self) -> dict[str, PasswordEntry]:
        """
        @return: all valid entries, by user.  Invalid lines are logged.
        """
        found = {}
        for number, line in _lines(self.path):
            try:
                entry = parsePasswordEntry(line)
            except ConfigurationError:
                _log.warn("line {line} of {path} is not a password entry", line=number, path=str(self.path))
            else:
                found[entry.user] = entry
        return found

    def __contains__(self, user: str) -> bool:
        return user in self.users()

    def check(self, user: str, password: bytes) -> Deferred[bool]:
        """
        @return: whether this is the user's password.  The time of the check does not reveal whether the user exists.
        """
        entry = self.users().get(user)
        checked = self._inThread((entry or UNKNOWN_USER).verify, password)
        return checked.addCallback(lambda right: right and entry is not None)


class AuthorizedKeys:
    """
    A file of public keys.

    @ivar path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def keys(self) -> Iterator[tuple[Key, str]]:
        """
        The keys of the file with their comments.  A line with options is skipped: to accept the key without its options would
        permit more than the operator intended.
        """
        for number, line in _lines(self.path):
            try:
                key = Key.fromString(line.encode(), type="public_openssh")
                if not line.startswith(key.sshType().decode()):
                    raise BadKeyError("options")
            except (BadKeyError, StructError, ValueError, LookupError, NotBase64):
                _log.warn("line {line} of {path} is not a usable key", line=number, path=str(self.path))
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
        return [*comments, f"SHA256:{b64encode(sha256(blob).digest()).decode().rstrip('=')}"] if comments else []


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
