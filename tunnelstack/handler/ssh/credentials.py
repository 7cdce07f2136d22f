"""
Who may log in: a file of password hashes and a file of public keys, both the server's own.

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
from typing import Any

from attrs import frozen
from twisted.conch.ssh.keys import BadKeyError, Key
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.password_hash import UNKNOWN_USER, PasswordEntry, parsePasswordEntry

LARGEST_FILE = 1024 * 1024
"""Octets; nobody has more users or keys than that in a file."""

_log = Logger()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """
    The lines that say something, numbered; none of a file that is not there or that others may write.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o022:
                _log.error("{path} is not used: others may write it (chmod go-w)", path=str(path))
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
    Passwords by their hashes.
    """

    def __init__(self, path: Path, inThread: Callable[..., Deferred[bool]] = deferToThread) -> None:
        """
        @param inThread: runs a slow call elsewhere: C{inThread(call, *arguments)}.
        """
        self._path = path
        self._inThread = inThread

    def users(self) -> dict[str, PasswordEntry]:
        """
        @return: every well-formed entry, by user.
        """
        found = {}
        for number, line in _lines(self._path):
            try:
                entry = parsePasswordEntry(line)
            except ConfigurationError:
                _log.warn("line {line} of {path} is no password entry", line=number, path=str(self._path))
            else:
                found[entry.user] = entry
        return found

    def __contains__(self, user: str) -> bool:
        return user in self.users()

    def check(self, user: str, password: bytes) -> Deferred[bool]:
        """
        @return: whether it is the user's password; the time it takes does not tell whether the user exists.
        """
        entry = self.users().get(user)
        checked = self._inThread((entry or UNKNOWN_USER).verify, password)
        return checked.addCallback(lambda right: right and entry is not None)


class AuthorizedKeys:
    """
    Public keys by their file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def keys(self) -> Iterator[tuple[Key, str]]:
        """
        Every key of the file, and the comment behind it.  A line with options is left out: to take the key without them would
        allow more than was meant.
        """
        for number, line in _lines(self._path):
            try:
                key = Key.fromString(line.encode(), type="public_openssh")
                if not line.startswith(key.sshType().decode()):
                    raise BadKeyError("options")
            except (BadKeyError, StructError, ValueError, LookupError, NotBase64):
                _log.warn("line {line} of {path} is no key that can be used", line=number, path=str(self._path))
            else:
                yield key, "".join(line.split(None, 2)[2:])

    def check(self, user: str, key: Key) -> bool:
        """
        Whether the key is in the file, whoever comes with it.
        """
        blob = key.blob()
        return any(known.blob() == blob for known, _ in self.keys())

    def names(self, key: Key) -> list[str]:
        """
        @return: what a key is known by: its comments in the file, and its fingerprint as C{ssh-keygen -l} prints it; nothing if
            it is not in the file.
        """
        blob = key.blob()
        comments = [comment for known, comment in self.keys() if known.blob() == blob]
        return [*comments, f"SHA256:{b64encode(sha256(blob).digest()).decode().rstrip('=')}"] if comments else []


@frozen(kw_only=True)
class LoginPolicy:
    """
    Who may log in, and how.

    @ivar passwords: the password file, or C{None}.
    @ivar keys: says whether a key opens the door for a user: C{keys(user, key)} gives a C{bool} or a C{Deferred} of one.
    @ivar users: names that may log in with a key though the password file does not have them.
    """

    passwords: PasswordFile | None = None
    keys: Callable[[str, Key], Any] | None = None
    users: frozenset[str] = frozenset()

    def methods(self, user: str) -> tuple[bytes, ...]:
        """
        SSH's names for the ways that are open.
        """
        keys = (b"publickey",) if self.keys is not None else ()
        return keys + ((b"password",) if self.passwords is not None else ())

    def knows(self, user: str) -> bool:
        """
        Whether the name is one that may log in.
        """
        return user in self.users or (self.passwords is not None and user in self.passwords)

    def authenticationStarted(self, user: str) -> None:
        """
        Nothing is to be made ready.
        """

    def password(self, user: str, password: bytes) -> Deferred[bool]:
        """
        @return: whether it lets the user in.
        """
        return succeed(False) if self.passwords is None else self.passwords.check(user, password)

    def key(self, user: str, key: Key) -> Deferred[bool]:
        """
        @return: whether it lets the user in, once he has proved that it is his.
        """
        if self.keys is None or not self.knows(user):
            return succeed(False)
        return maybeDeferred(self.keys, user, key)

    offered = key
