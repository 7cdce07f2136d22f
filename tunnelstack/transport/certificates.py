"""
A folder of certificates, selected by the name that the client requests (SNI).

When a client connects, and at most once a second, the folder is checked for changes and read again if a file has changed.  A
certificate that cannot be used is logged and left out; if an earlier one of the same file was good, it stays in use.  Open
connections keep the certificate that they began with.

A certificate is a file C{NAME.pem} with its chain, and its key after it or in C{NAME.key}; or a folder with C{fullchain.pem}
and C{privkey.pem}, as certbot makes them.  The names are read from the certificate.  C{default.pem} is sent to clients that
request no name, or one that no certificate has; without it, the first one is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import frozen
from cryptography import x509
from OpenSSL.crypto import X509
from OpenSSL.SSL import Connection, Context
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.tls import TLSIdentity, loadIdentity, serverContext
from tunnelstack.wire.printable_text import quoted

CHECK_SECONDS = 1.0
DEFAULT = "default"
CHAIN, KEY = "fullchain.pem", "privkey.pem"

FolderState = tuple[tuple[str, int, int, int], ...]


@frozen
class LoadedCertificate:
    """
    One certificate of the folder.

    @ivar file: its name in the folder.
    @ivar names: the host names that it is for, in lower case, including such as C{*.example.net}.
    @ivar expires: when it expires, in seconds since 1970.
    """

    file: str
    identity: TLSIdentity
    names: tuple[str, ...]
    context: Context
    expires: float


@implementer(IOpenSSLServerConnectionCreator)
class CertificateFolder:
    """
    The certificates of a folder, for use where Twisted takes the TLS options of a server.

    @ivar loaded: all certificates, by the file they were read from.
    """

    log = Logger()

    def __init__(
        self,
        path: str,
        clock: IReactorTime,
        *,
        alpn: Sequence[bytes] = (b"http/1.1",),
        clientCA: Iterable[X509] = (),
        clientAuth: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        @param alpn: as in L{serverContext}, and so are C{clientCA} and C{clientAuth}.
        @param now: the time of day.
        @raise ConfigurationError: there is no usable certificate.
        """
        self.loaded: dict[str, LoadedCertificate] = {}
        self._path = Path(path)
        self._clock = clock
        self._settings: dict[str, Any] = {"alpn": tuple(alpn), "clientCA": tuple(clientCA), "clientAuth": clientAuth}
        self._now = now
        self._byName: dict[str, LoadedCertificate] = {}
        self._nextCheck = 0.0
        self._folderState: FolderState | None = None
        self._read(self._scan(), first=True)
        if not self.loaded:
            raise ConfigurationError(f"no usable certificate in {quoted(str(self._path))}: put NAME.pem there, with its key")

    # What is loaded

    def serverConnectionForTLS(self, protocol: object) -> Connection:
        self.refresh()
        return Connection(self._default.context, None)

    def find(self, name: str) -> LoadedCertificate:
        """
        @param name: a host.
        @return: the certificate for it: its own, then that of a wildcard, then the default one.
        """
        name = name.lower().removesuffix(".")
        found = self._byName.get(name) or self._byName.get("*." + name.partition(".")[2])
        return found or self._default

    @property
    def _default(self) -> LoadedCertificate:
        for file in (DEFAULT + ".pem", DEFAULT):
            if file in self.loaded:
                return self.loaded[file]
        return self.loaded[min(self.loaded)]

    def _selectContext(self, connection: Connection) -> None:
        """
        Called by OpenSSL with the name that the client requests, if any.
        """
        asked = connection.get_servername()
        if asked:
            connection.set_context(self.find(asked.decode("ascii", "replace")).context)

    # What is in the folder

    def refresh(self) -> None:
        """
        Check whether the folder has changed, if that was not done within the last second.
        """
        now = self._clock.seconds()
        if now < self._nextCheck:
            return
        self._nextCheck = now + CHECK_SECONDS
        stamp = self._scan()
        if stamp != self._folderState:
            self._read(stamp)

    def _scan(self) -> FolderState:
        """
        A value that changes when a file does.
        """
        found = []
        for chain, key in self._pairs():
            for path in (chain, key) if chain != key else (chain,):
                try:
                    status = os.stat(path)
                except OSError:
                    continue
                found.append((str(path), status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def _pairs(self) -> Iterator[tuple[Path, Path]]:
        """
        Files of a certificate and of its key.
        """
        try:
            entries = sorted(self._path.iterdir())
        except OSError as unreadable:
            if self._folderState is None:
                raise ConfigurationError(f"{quoted(str(self._path))} cannot be read: {unreadable.strerror}") from None
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.suffix == ".pem":
                key = entry.with_suffix(".key")
                yield entry, key if key.exists() else entry
            elif (entry / CHAIN).exists():
                yield entry / CHAIN, entry / KEY

    def expiries(self) -> dict[str, float]:
        """
        @return: when each certificate expires, in seconds since 1970, by its path.
        """
        self.refresh()
        return {str(self._path / file): loaded.expires for file, loaded in self.loaded.items()}

    @property
    def keyFiles(self) -> list[str]:
        """
        The files with private keys that exist now.
        """
        return [str(key) for _, key in self._pairs()]

    def _read(self, stamp: FolderState, first: bool = False) -> None:
        self._folderState = stamp
        before, loaded = self.loaded, {}
        for chain, key in self._pairs():
            file = chain.parent.name if chain.name == CHAIN else chain.name
            try:
                loaded[file] = self._load(file, chain, key)
            except ConfigurationError as wrong:
                self.log.error("certificate not loaded: {reason}", reason=str(wrong), file=file)
                if file in before:
                    loaded[file] = before[file]
        if not loaded:
            if not first:
                self.log.error("no usable certificate in {folder}; the previous ones stay in use", folder=str(self._path))
            return
        self.loaded = loaded
        self._byName = {}
        for one in loaded.values():
            for name in one.names:
                self._byName.setdefault(name, one)
        if not first:
            self.log.info("certificates reloaded: {files}", files=", ".join(loaded), status="certificates")

    def _load(self, file: str, chain: Path, key: Path) -> LoadedCertificate:
        identity = loadIdentity(str(chain), str(key))
        certificate = identity.certificate.to_cryptography()
        if certificate.not_valid_after_utc <= self._now():
            self.log.warn("the certificate in {file} has expired", file=file, expired=str(certificate.not_valid_after_utc))
        context = serverContext(identity, **self._settings).getContext()
        context.set_tlsext_servername_callback(self._selectContext)
        expires = certificate.not_valid_after_utc.timestamp()
        return LoadedCertificate(file, identity, _names(certificate), context, expires)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """
    The host names that a certificate is for.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))
