"""
Files with secrets: a check of their permissions, and a token file that may be replaced while its agent runs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping

from twisted.logger import Logger

from tunnelstack.control.config.sources import checkToken
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.files import readFile

OTHERS = stat.S_IRGRP | stat.S_IROTH


def exposed(paths: Iterable[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """
    @return: the files that their group or others can read.  Missing files and files that are not regular are left out.  So are
        systemd's credentials, where an access control list appears as permissions of the group.
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


def warnOfExposed(log: Logger, paths: Iterable[str]) -> None:
    """
    Log a warning for each file that other users of the machine can read.
    """
    for path in exposed(paths):
        log.warn("{path} contains a secret and can be read by other users (chmod 600 {path})", path=path)


class TokenFile:
    """
    A token that is read again each time it is used, so that the file may be replaced while the agent runs.
    """

    log = Logger()

    def __init__(self, path: str, token: str) -> None:
        """
        @param path: the file; C{""} for a token from another source, which does not change.
        @param token: the token when the configuration was read.
        """
        self._path = path
        self._token = token
        self._reason = ""

    def __call__(self) -> str:
        """
        @return: the token; the last one that was read if the file cannot be used now, which is logged once.
        """
        if self._path and self._isRegular():
            try:
                self._token, self._reason = checkToken(readFile(self._path).strip(), self._path), ""
            except ConfigurationError as unusable:
                self._keep(str(unusable))
        return self._token

    def _isRegular(self) -> bool:
        """
        @return: whether the file can be read more than once and without blocking, unlike a pipe.
        """
        try:
            return stat.S_ISREG(os.stat(self._path).st_mode)
        except (OSError, ValueError) as missing:
            self._keep(f"{self._path} cannot be read: {getattr(missing, 'strerror', None) or missing}")
            return False

    def _keep(self, reason: str) -> None:
        if reason != self._reason:
            self.log.warn("{reason}; the previous token is still used", reason=reason)
        self._reason = reason
