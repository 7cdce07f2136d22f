"""
Files that hold secrets: who else can read them, and a token that may be replaced while its agent runs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.logger import Logger

from tunnelstack.control.config.sources import checkToken
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.files import readFile

OTHERS = stat.S_IRGRP | stat.S_IROTH


def exposed(paths: Iterable[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """
    Those of the files that their group or others can read.  Files that do not exist, and what is no regular file, are left out,
    and so are the credentials that systemd hands over: an access control list there shows as a bit of the group.
    """
    credentials = environ.get("CREDENTIALS_DIRECTORY", "")
    found = []
    for path in dict.fromkeys(filter(None, paths)):
        if credentials and os.path.dirname(path) == credentials.rstrip("/"):
            continue
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(mode) and mode & OTHERS:
            found.append(path)
    return found


def warnOfExposed(log: Any, paths: Iterable[str]) -> None:
    """
    Log a warning for each secret that other users of the machine can read.
    """
    for path in exposed(paths):
        log.warn("{path} holds a secret and can be read by other users (chmod 600 {path})", path=path)


class TokenFile:
    """
    A token that is read again each time it is asked for, so that a file may be rotated while its agent runs.
    """

    log = Logger()

    def __init__(self, path: str, token: str) -> None:
        """
        @param path: the file; C{""} for a token that came from elsewhere and does not change.
        @param token: what the file held when the configuration was read.
        """
        self._path = path
        self._token = token
        self._reason = ""

    def __call__(self) -> str:
        """
        @return: the token; the last one, where the file cannot be used at the moment, which is logged once.
        """
        if self._path and self._isRegular():
            try:
                self._token, self._reason = checkToken(readFile(self._path).strip(), self._path), ""
            except ConfigurationError as unusable:
                self._keep(str(unusable))
        return self._token

    def _isRegular(self) -> bool:
        """
        Whether reading it neither waits nor uses it up, as reading a pipe does.
        """
        try:
            return stat.S_ISREG(os.stat(self._path).st_mode)
        except (OSError, ValueError) as missing:
            self._keep(f"{self._path} cannot be read: {getattr(missing, 'strerror', None) or missing}")
            return False

    def _keep(self, reason: str) -> None:
        if reason != self._reason:
            self.log.warn("{reason}; the token that was read before is used", reason=reason)
        self._reason = reason
