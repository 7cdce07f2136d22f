"""
A folder whose files are published: which of them are, and how they are opened.

Published are regular files and folders below it.  Each step of a path is opened relative to the folder before it, and no
symbolic link is followed, so no request leaves the folder, whatever is renamed at the same moment.  Devices, sockets and FIFOs
are not opened: opening a FIFO would wait for its other end, and would be noticed there.  Names that begin with a dot are not
published (C{.git}, C{.env}), except C{.well-known} at the top (RFC 8615).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence

WELL_KNOWN = b".well-known"

MOST_NAMES = 10_000
"""Names of a folder that are listed."""

ABSENT = frozenset((
    errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV,
    errno.EINVAL, errno.EILSEQ, errno.EMLINK, errno.EISDIR,
))  # fmt: skip
"""Errors of a name that is not there, may not be read, or is no regular file (C{EMLINK}: a link, on FreeBSD)."""

_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_LISTED = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def isPublished(name: bytes, top: bool = False) -> bool:
    """
    @param top: whether the name is in the folder itself and not further below.
    @return: whether a name may be published at all.
    """
    if not name or b"/" in name or b"\0" in name:
        return False
    return not name.startswith(b".") or (top and name == WELL_KNOWN)


class OpenEntry:
    """
    An open file or folder.  Call L{close} when it is not needed any more.

    @ivar descriptor: of the file, for reading; of a folder, for opening what is in it.
    @ivar stat: its C{os.stat_result}.
    """

    __slots__ = ("descriptor", "stat")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.stat = os.fstat(descriptor)

    @property
    def isFolder(self) -> bool:
        """
        Whether it is a folder.
        """
        return stat.S_ISDIR(self.stat.st_mode)

    def child(self, name: bytes) -> OpenEntry | None:
        """
        Open a file or folder in this folder.

        @return: C{None} if there is no regular file or folder of this name.
        @raise OSError: it could not be opened for a reason that is not its own, such as too many open files.
        """
        try:
            mode = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                return None
            flags = _FILE if stat.S_ISREG(mode) else _FOLDER | os.O_NOFOLLOW
            entry = OpenEntry(os.open(name, flags, dir_fd=self.descriptor))
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise
        if entry.isFolder or stat.S_ISREG(entry.stat.st_mode):
            return entry
        entry.close()                       # something else has taken its place in between
        return None

    def names(self, top: bool = False) -> list[bytes]:
        """
        @param top: as in L{isPublished}.
        @return: the published names in this folder, sorted; those of folders end with a slash.
        @raise OSError: the folder cannot be read.
        """
        descriptor = os.open(b".", _LISTED, dir_fd=self.descriptor)
        try:
            with os.scandir(descriptor) as entries:
                return sorted(self._published(entries, top))
        finally:
            os.close(descriptor)

    def _published(self, entries: Iterator[os.DirEntry[str]], top: bool) -> Iterator[bytes]:
        for _, entry in zip(range(MOST_NAMES), entries, strict=False):
            name = os.fsencode(entry.name)
            if not isPublished(name, top):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield name + b"/"
            elif entry.is_file(follow_symlinks=False):
                yield name

    def close(self) -> None:
        """
        Release the descriptor; more than one call does nothing more.
        """
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Folder:
    """
    A folder whose files are published.

    @ivar path: of the folder; it is looked up for each request, so the folder may be replaced, and it may be a symbolic link.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, names: Sequence[bytes]) -> OpenEntry | None:
        """
        Open a file or folder.

        @param names: of the folders on the way, and its own; none for the folder itself.
        @return: C{None} if nothing of this name is published.
        @raise OSError: it could not be opened for a reason that is not its own, such as too many open files.
        """
        if not all(isPublished(name, top) for name, top in zip(names, (True, *[False] * len(names)), strict=False)):
            return None
        try:
            entry: OpenEntry | None = OpenEntry(os.open(self.path, _FOLDER))
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise
        for name in names:
            outer = entry
            if outer is None or not outer.isFolder:
                break
            try:
                entry = outer.child(name)
            finally:
                outer.close()
        else:
            return entry
        if entry is not None:
            entry.close()                   # a file in the middle of the path
        return None
