"""
C{tokens.toml} in the state folder: the hashes of the tokens that C{tunnelstack token} has made for an edge.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock

from attrs import frozen

from tunnelstack.control.auth.tokens import formatTime
from tunnelstack.control.config.records import NEVER, TokenRecord
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.record import Record
from tunnelstack.settings.state_dir import StateDirectory

TOKENS_FILE = "tokens.toml"
LOCK_FILE = ".tokens.lock"

FILE_HEADER = """\
# Written by "tunnelstack token"; a running edge reads it again when it changes.  Of each token, only its SHA-256 is kept.
"""


@frozen(eq=False, repr=False)
class TokenStore(Record):
    """
    The tokens of one state folder.
    """

    state: StateDirectory

    @property
    def path(self) -> str:
        return str(self.state.path(TOKENS_FILE))

    def read(self) -> tuple[TokenRecord, ...]:
        """
        @raise ConfigurationError: the file cannot be read or parsed.
        """
        text = self.state.read(TOKENS_FILE)
        if text is None:
            return ()
        from tunnelstack.control.config.reader import parseTokens  # for edges that have a file

        return parseTokens(text, self.path)

    def modificationStamp(self) -> tuple[int, ...]:
        """
        @return: a value that differs whenever the file has changed.
        """
        try:
            found = os.stat(self.path)
        except OSError:
            return ()
        return (found.st_mtime_ns, found.st_ino, found.st_size)

    def add(self, record: TokenRecord) -> None:
        """
        Add one record.

        @raise ConfigurationError: the file cannot be read or written.
        """
        self._update(lambda records: (*records, record))

    def revoke(self, which: str) -> tuple[TokenRecord, ...]:
        """
        Remove records.

        @param which: a token's identifier, or the name of an agent, which stands for all of its tokens.
        @return: those that were removed; empty if there was no such token.
        @raise ConfigurationError: the file cannot be read or written.
        """
        removed: list[TokenRecord] = []

        def without(records: tuple[TokenRecord, ...]) -> tuple[TokenRecord, ...]:
            byId = [record for record in records if record.id == which]
            removed.extend(byId or [record for record in records if record.name == which])
            return tuple(record for record in records if record not in removed)

        self._update(without)
        return tuple(removed)

    def _update(self, change: Callable[[tuple[TokenRecord, ...]], tuple[TokenRecord, ...]]) -> None:
        with self._lock():
            before = self.read()
            after = change(before)
            if after != before:
                self.state.write(TOKENS_FILE, FILE_HEADER + "".join(map(encodeRecord, after)))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """
        Hold a lock across reading and writing: otherwise, of two commands at the same time, one would lose its change.
        """
        self.state.make()
        try:
            descriptor = os.open(self.state.path(LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as unwritable:
            raise ConfigurationError(
                f"the state folder {self.state.folder} cannot be written: {unwritable.strerror}"
            ) from None
        try:
            flock(descriptor, LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def encodeRecord(record: TokenRecord) -> str:
    """
    @return: the record as TOML.
    """
    lines = [
        "", "[[agent]]", f"name = {quoted(record.name)}", f"id = {quoted(record.id)}",
        f"token_sha256 = {quoted(record.tokenSha256)}", f"allow = [{', '.join(map(quoted, record.allow))}]",
    ]  # fmt: skip
    if record.share:
        lines.append("share = true")
    if record.expires != NEVER:
        lines.append(f"expires = {formatTime(record.expires)}")
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """
    @return: a basic string of TOML.  Its escapes are those of JSON, except that DEL must be escaped as well.
    """
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

