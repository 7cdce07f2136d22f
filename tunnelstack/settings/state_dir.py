"""
The state folder: files that outlive a process, in a folder that only its owner can read.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from pwd import getpwuid

from attrs import frozen

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.record import Record

ADMIN_SOCKET = "admin.sock"

SOCKET_OCTETS = 104
"""Octets of the longest path of a Unix socket on every system (Linux allows a few more, see unix(7))."""

NO_HOME = (
    "there is no state folder: HOME is not set, and user {user} has no home folder; "
    "set STATE_DIRECTORY to a permanent folder"
)


def stateDirectoryPath(environ: Mapping[str, str]) -> Path:
    """
    @return: C{$STATE_DIRECTORY} (the first, if systemd sets several), else C{tunnelstack} in C{$XDG_STATE_HOME} or in
        C{.local/state} of the home folder.
    @raise ConfigurationError: none of them exists.
    """
    # The working directory is no substitute: credentials would be written wherever a process happens to be started.
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    above = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(above):   # the XDG specification requires that relative paths are ignored
        above = os.path.join(_home(environ), ".local", "state")
    return Path(above) / "tunnelstack"


def _home(environ: Mapping[str, str]) -> str:
    """
    @return: C{$HOME}, else the home folder in the system's user database.
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
    Shorten the path of a Unix socket to what the system accepts.

    @return: the path, and a descriptor that must stay open while the path is used, or C{-1}.
    @raise OSError: there is no such folder.
    """
    if len(os.fsencode(path)) <= SOCKET_OCTETS:
        return str(path), -1
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{descriptor}/{path.name}", descriptor


@frozen(eq=False, repr=False)
class StateDirectory(Record):
    """
    The state folder.  It is created when a file is first written.
    """

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def make(self) -> None:
        """
        Create the folder if it does not exist.

        @raise ConfigurationError: it cannot be created.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as unwritable:
            raise ConfigurationError(
                f"the state folder {self.folder} cannot be created: {unwritable.strerror}; STATE_DIRECTORY can name another one"
            ) from None

    def write(self, name: str, text: str) -> None:
        """
        Replace a file atomically.  Only its owner can read it.

        @raise ConfigurationError: the folder cannot be written.
        """
        with self._writing(name, text) as temporary:
            os.replace(temporary, self.path(name))

    def create(self, name: str, text: str) -> None:
        """
        Write a file that only its owner can read, unless it exists: of two processes that do so at the same time, one wins.

        @raise ConfigurationError: the folder cannot be written.
        """
        with self._writing(name, text) as temporary, suppress(FileExistsError):
            os.link(temporary, self.path(name))

    def remove(self, name: str) -> None:
        """
        Remove a file, if it exists and the folder can be written.
        """
        with suppress(OSError):
            self.path(name).unlink()

    @contextmanager
    def _writing(self, name: str, text: str) -> Iterator[str]:
        """
        Write a temporary file, which is gone at the end of the block.

        @return: a context manager with the path of the file.
        """
        try:
            self.make()
            descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self.folder)   # mkstemp uses mode 0600
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                yield temporary
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
        except OSError as unwritable:
            raise ConfigurationError(
                f"the state folder {self.folder} cannot be written: {unwritable.strerror}; STATE_DIRECTORY can name another one"
            ) from None

    def read(self, name: str) -> str | None:
        """
        @return: the text of a file; C{None} if it does not exist.
        @raise ConfigurationError: it exists and cannot be read.
        """
        try:
            return self.path(name).read_text("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as unreadable:
            reason = unreadable.strerror if isinstance(unreadable, OSError) else "it is not text"
            raise ConfigurationError(f"{self.path(name)} cannot be read: {reason}") from None
