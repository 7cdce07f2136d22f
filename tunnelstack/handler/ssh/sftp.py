"""
File transfers (SFTP version 3) of an embedded SSH server: Conch's server for the local file system, as the agent's own user.

Requests are served only while the client reads the answers, so that a client that does not read costs a window of memory, not
a file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from struct import unpack_from
from typing import Any

from twisted.conch.interfaces import ISFTPFile, ISFTPServer
from twisted.conch.ls import lsLine
from twisted.conch.ssh import filetransfer
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.filetransfer import SFTPError
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.handler.ssh.transport import NULL_LOGGER

LARGEST_PACKET = 256 * 1024
"""Octets of a packet, as OpenSSH's server accepts them."""

LARGEST_CHUNK = LARGEST_PACKET - 1024
"""Octets of data in one answer."""

OPEN_FILES = 256
"""Files, and as many folders, that one client may have open."""

CODES = {
    errno.ENOENT: filetransfer.FX_NO_SUCH_FILE, errno.ENOTDIR: filetransfer.FX_NO_SUCH_FILE,
    errno.EACCES: filetransfer.FX_PERMISSION_DENIED, errno.EPERM: filetransfer.FX_PERMISSION_DENIED,
}

EXTENSIONS = {b"posix-rename@openssh.com": b"1", b"hardlink@openssh.com": b"1", b"fsync@openssh.com": b"1"}


class FileServer(filetransfer.FileTransferServer):
    """
    Conch's SFTP server on a channel, for which it is the producer of answers.
    """

    _log = NULL_LOGGER
    log = Logger()
    transport: Any

    def __init__(self, channel: Any, home: str) -> None:
        filetransfer.FileTransferBase.__init__(self)
        self.client = LocalFiles(home)
        self.openFiles: dict[bytes, OpenFile] = {}
        self.openDirs: dict[bytes, FolderListing] = {}
        self._pending = b""
        self._stalled = False
        self._ended = False
        self.makeConnection(channel)

    def dataReceived(self, data: bytes) -> None:
        """
        The client has sent octets, in pieces of any size.
        """
        self._pending += data
        self._serve()

    def endReceived(self) -> None:
        """
        The client sends no more requests.
        """
        self._ended = True
        self._serve()

    def _serve(self) -> None:
        start, pending = 0, self._pending
        while not self._stalled and self.connected and len(pending) - start >= 4:
            (length,) = unpack_from(">L", pending, start)
            if not 5 <= length <= LARGEST_PACKET:
                self._leave(1)
                return
            if len(pending) - start < 4 + length:
                break
            super().dataReceived(pending[start:start + 4 + length])
            start += 4 + length
        self._pending = pending[start:]
        if self._ended and not self._stalled and self.connected:
            self._leave(0)

    def _leave(self, status: int) -> None:
        self.connected = 0
        self._pending = b""
        self.transport.fileTransferEnded(status)

    def pauseProducing(self) -> None:
        """
        The client does not read its answers: serve no more requests.
        """
        self._stalled = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._stalled = False
        self.transport.resumeProducing()
        if self._pending or self._ended:
            self.transport.conn.callNextTurn(self._serve)

    def stopProducing(self) -> None:
        """
        Do nothing: C{connectionLost} follows.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connected = 0
        super().connectionLost(reason)

    def _cbOpenFile(self, fileObj: OpenFile, requestId: bytes) -> None:
        if len(self.openFiles) >= OPEN_FILES:
            fileObj.close()
            raise SFTPError(filetransfer.FX_FAILURE, "too many open files")
        super()._cbOpenFile(fileObj, requestId)

    def _cbOpenDirectory(self, dirObj: FolderListing, requestId: bytes) -> None:
        if len(self.openDirs) >= OPEN_FILES:
            raise SFTPError(filetransfer.FX_FAILURE, "too many open folders")
        super()._cbOpenDirectory(dirObj, requestId)

    def packet_EXTENDED(self, data: bytes) -> None:
        """
        Serve the extensions of OpenSSH, each of which is answered with a status.
        """
        requestId = data[:4]
        name, rest = getNS(data[4:])
        try:
            if name == b"fsync@openssh.com":
                self.openFiles[getNS(rest)[0]].sync()
            elif name in EXTENSIONS:
                first, second, _ = getNS(rest, 2)
                self.client.extendedRequest(name, (first, second))
            else:
                raise NotImplementedError("the extension is not supported")
        except Exception:
            self._ebStatus(Failure(), requestId)
        else:
            self._cbStatus(None, requestId)

    def _ebStatus(self, reason: Failure, requestId: bytes, msg: bytes = b"request failed") -> None:
        """
        Answer a request with an error status.  The text of an unexpected exception is logged and not sent.
        """
        error = reason.value
        if isinstance(error, OSError):
            code, sentence = CODES.get(error.errno or 0, filetransfer.FX_FAILURE), error.strerror or "failure"
        elif isinstance(error, EOFError):
            code, sentence = filetransfer.FX_EOF, "end of file"
        elif isinstance(error, NotImplementedError):
            code, sentence = filetransfer.FX_OP_UNSUPPORTED, str(error)
        elif isinstance(error, SFTPError):
            code, sentence = error.code, str(error.message)
        elif isinstance(error, (LookupError, ValueError)):
            code, sentence = filetransfer.FX_BAD_MESSAGE, "the request is malformed"
        else:
            self.log.failure("an SFTP request failed", failure=reason)
            code, sentence = filetransfer.FX_FAILURE, "failure"
        self._sendStatus(requestId, code, sentence.encode())


@implementer(ISFTPServer)
class LocalFiles:
    """
    The local file system.  Paths are octets; relative paths refer to the home folder.
    """

    avatar = None                             # Conch's server reads it; all clients are the same user

    def __init__(self, home: str) -> None:
        self._home = os.fsencode(home)

    def _path(self, path: bytes) -> bytes:
        return os.path.join(self._home, path)

    def gotVersion(self, otherVersion: int, extData: object) -> dict[bytes, bytes]:
        """
        @return: the extensions that this server offers.
        """
        return EXTENSIONS

    def openFile(self, filename: bytes, flags: int, attrs: dict[str, int]) -> OpenFile:
        return OpenFile(self._path(filename), flags, attrs)

    def removeFile(self, filename: bytes) -> None:
        os.unlink(self._path(filename))

    def renameFile(self, oldpath: bytes, newpath: bytes) -> None:
        """
        Rename a file; version 3 of the protocol does not replace an existing one.
        """
        if os.path.lexists(self._path(newpath)):
            raise SFTPError(filetransfer.FX_FAILURE, "a file of that name exists")
        os.rename(self._path(oldpath), self._path(newpath))

    def makeDirectory(self, path: bytes, attrs: dict[str, int]) -> None:
        os.mkdir(self._path(path), stat.S_IMODE(attrs.get("permissions", 0o777)))

    def removeDirectory(self, path: bytes) -> None:
        os.rmdir(self._path(path))

    def openDirectory(self, path: bytes) -> FolderListing:
        return FolderListing(self._path(path))

    def getAttrs(self, path: bytes, followLinks: bool) -> dict[str, int]:
        return _attributes((os.stat if followLinks else os.lstat)(self._path(path)))

    def setAttrs(self, path: bytes, attrs: dict[str, int]) -> None:
        _change(self._path(path), attrs)

    def readLink(self, path: bytes) -> bytes:
        return os.readlink(self._path(path))

    def makeLink(self, linkPath: bytes, targetPath: bytes) -> None:
        # OpenSSH sends the target first, against the draft, and all other clients do the same.
        os.symlink(linkPath, self._path(targetPath))

    def realPath(self, path: bytes) -> bytes:
        return os.path.realpath(self._path(path))

    def extendedRequest(self, extendedName: bytes, extendedData: tuple[bytes, bytes]) -> None:
        """
        @param extendedData: a pair of paths.
        """
        first, second = map(self._path, extendedData)
        if extendedName == b"posix-rename@openssh.com":
            os.replace(first, second)
        else:
            os.link(first, second, follow_symlinks=False)


@implementer(ISFTPFile)
class OpenFile:
    """
    A regular file.  Other files, such as pipes, are rejected, because reading them could block the process.
    """

    def __init__(self, path: bytes, flags: int, attrs: dict[str, int]) -> None:
        mode = {1: os.O_RDONLY, 2: os.O_WRONLY, 3: os.O_RDWR}.get(flags & 3, os.O_RDONLY)
        for flag, meaning in (
            (filetransfer.FXF_APPEND, os.O_APPEND), (filetransfer.FXF_CREAT, os.O_CREAT),
            (filetransfer.FXF_TRUNC, os.O_TRUNC), (filetransfer.FXF_EXCL, os.O_EXCL),
        ):  # fmt: skip
            mode |= meaning if flags & flag else 0
        self._appends = bool(mode & os.O_APPEND)
        self._descriptor = os.open(
            path, mode | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, stat.S_IMODE(attrs.get("permissions", 0o666)))
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self.close()
            raise SFTPError(filetransfer.FX_FAILURE, "not a regular file")

    def close(self) -> None:
        os.close(self._descriptor)

    def readChunk(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, min(length, LARGEST_CHUNK), offset)

    def writeChunk(self, offset: int, data: bytes) -> None:
        written = 0
        while written < len(data):
            if self._appends:
                written += os.write(self._descriptor, data[written:])
            else:
                written += os.pwrite(self._descriptor, data[written:], offset + written)

    def getAttrs(self) -> dict[str, int]:
        return _attributes(os.fstat(self._descriptor))

    def setAttrs(self, attrs: dict[str, int]) -> None:
        _change(self._descriptor, attrs)

    def sync(self) -> None:
        os.fsync(self._descriptor)


class FolderListing:
    """
    The entries of a folder, each with its line of a long listing and its attributes.
    """

    def __init__(self, path: bytes) -> None:
        self._entries = os.scandir(path)
        self._special = [b".", b".."]
        self._path = path

    def __iter__(self) -> Iterator[tuple[bytes, bytes, dict[str, int]]]:
        for name in self._special:
            yield _described(name, os.lstat(os.path.join(self._path, name)))
        for entry in self._entries:
            try:
                yield _described(entry.name, entry.stat(follow_symlinks=False))
            except FileNotFoundError:         # removed meanwhile
                continue

    def close(self) -> None:
        self._entries.close()


def _described(name: bytes, found: os.stat_result) -> tuple[bytes, bytes, dict[str, int]]:
    """
    @return: name, line of a long listing, and attributes of an entry.
    """
    return name, os.fsencode(lsLine(os.fsdecode(name), found)), _attributes(found)


def _attributes(found: os.stat_result) -> dict[str, int]:
    """
    @return: the attributes in SFTP's form; times have 32 bits.
    """
    return {
        "size": found.st_size, "uid": found.st_uid, "gid": found.st_gid, "permissions": found.st_mode,
        "atime": int(found.st_atime) & 0xFFFFFFFF, "mtime": int(found.st_mtime) & 0xFFFFFFFF,
    }


def _change(what: bytes | int, attrs: dict[str, int]) -> None:
    """
    Set the attributes of a path or a file descriptor.
    """
    if "size" in attrs:
        os.truncate(what, attrs["size"])
    if "uid" in attrs and "gid" in attrs:
        os.chown(what, attrs["uid"], attrs["gid"])
    if "permissions" in attrs:
        os.chmod(what, stat.S_IMODE(attrs["permissions"]))
    if "atime" in attrs and "mtime" in attrs:
        os.utime(what, (attrs["atime"], attrs["mtime"]))


