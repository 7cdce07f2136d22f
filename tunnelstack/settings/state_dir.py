"""
The state folder: what outlives a process, in a folder that only its owner can read.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from pwd import getpwuid

from attrs import frozen

from tunnelstack.errors import ConfigurationError

ADMIN_SOCKET = "admin.sock"

SOCKET_OCTETS = 104
"""Octets of the longest path that a Unix socket may have everywhere (sun_path in unix(7) has a few more)."""

NO_HOME = (
    "there is no folder to keep state in: HOME is not set to one, and user {user} has no home folder; "
    "set STATE_DIRECTORY to a folder that stays the same"
)


def stateDirectoryPath(environ: Mapping[str, str]) -> Path:
    """
    Where this user's state is: C{$STATE_DIRECTORY} (the first, where systemd gives several), else C{tunnelstack} in
    C{$XDG_STATE_HOME} or in C{.local/state} of the home folder.

    @raise ConfigurationError: none of them is there.  Nothing is made in the working directory instead: credentials would be
        kept wherever a process happens to be started.
    """
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    above = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(above):   # the XDG specification ignores relative ones
        above = os.path.join(_home(environ), ".local", "state")
    return Path(above) / "tunnelstack"


def _home(environ: Mapping[str, str]) -> str:
    """
    The home folder: C{$HOME}, else that of the user in the system's database.
    """
    home = environ.get("HOME", "")
    if not os.path.isabs(home):
        with suppress(KeyError):
            home = getpwuid(os.getuid()).pw_dir
    if not os.path.isabs(home):
        raise ConfigurationError(NO_HOME.format(user=os.getuid()))
    return home


def socketPath(path: Path) -> tuple[str, int]:
    """
    A Unix socket's path that the system takes, however deep its folder is.

    @return: the path; and a descriptor to be kept open as long as it is used, or C{-1}.
    @raise OSError: there is no such folder.
    """
    if len(os.fsencode(path)) <= SOCKET_OCTETS:
        return str(path), -1
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{descriptor}/{path.name}", descriptor


@frozen
class StateDirectory:
    """
    The folder, made when something is first written.
    """

    folder: Path

    def path(self, name: str) -> Path:
        """
        Where C{name} is kept.
        """
        return self.folder / name

    def make(self) -> None:
        """
        Make the folder, if it is not there.

        @raise ConfigurationError: it cannot be made.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as unwritable:
            raise ConfigurationError(
                f"the state folder {self.folder} cannot be made: {unwritable.strerror}; STATE_DIRECTORY names another"
            ) from None

    def write(self, name: str, text: str) -> None:
        """
        Keep C{text}: all of it or what was there before, and for nobody else to read.

        @raise ConfigurationError: the folder cannot be written.
        """
        try:
            self.make()
            descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self.folder)   # 0600 by itself
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path(name))
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as unwritable:
            raise ConfigurationError(
                f"the state folder {self.folder} cannot be written: {unwritable.strerror}; STATE_DIRECTORY names another"
            ) from None

    def read(self, name: str) -> str | None:
        """
        @return: what was kept under the name, or C{None}.
        @raise ConfigurationError: it is there and cannot be read.
        """
        try:
            return self.path(name).read_text("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as unreadable:
            reason = unreadable.strerror if isinstance(unreadable, OSError) else "it is not text"
            raise ConfigurationError(f"{self.path(name)} cannot be read: {reason}") from None
