"""
Folders of certificates: which one is shown, and when they are read again.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL.SSL import TLS_CLIENT_METHOD, Connection, Context, WantReadError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.certificates import authority
from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.certificates import CertificateFolder


def pem(*names: str) -> tuple[bytes, bytes]:
    """
    A certificate and its key.
    """
    identity = authority().identity(*names)
    key = identity.key.to_cryptography_key()
    return (
        identity.certificate.to_cryptography().public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def write(folder: Path, file: str, *names: str) -> None:
    """
    A certificate with its key, and with a time of its own.
    """
    folder.mkdir(exist_ok=True)
    (folder / file).write_bytes(b"".join(pem(*names)))
    os.utime(folder / file, ns=(time.time_ns(), time.time_ns()))


def handshake(folder: CertificateFolder, name: str = "") -> str:
    """
    @return: the common name of the certificate that a client is shown.
    """
    server = folder.serverConnectionForTLS(None)
    server.set_accept_state()
    client = Connection(Context(TLS_CLIENT_METHOD), None)
    client.set_connect_state()
    if name:
        client.set_tlsext_host_name(name.encode())
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            with contextlib.suppress(WantReadError):
                one.do_handshake()
            with contextlib.suppress(WantReadError):
                while True:
                    other.bio_write(one.bio_read(65536))
    certificate = client.get_peer_certificate()
    assert certificate is not None
    return str(certificate.get_subject().CN)


class FolderTests(SynchronousTestCase):
    """
    Real handshakes, in memory.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = Path(self.mktemp())
        write(self.path, "a.pem", "a.example.net", "www.a.example.net")
        write(self.path, "wild.pem", "*.example.net", "example.net")

    def folder(self) -> CertificateFolder:
        return CertificateFolder(str(self.path), self.clock)

    def test_aCertificateIsChosenByName(self) -> None:
        folder = self.folder()
        for name, shown in (
            ("a.example.net", "a.example.net"), ("WWW.A.Example.net", "a.example.net"), ("b.example.net", "*.example.net"),
            ("example.net", "*.example.net"), ("x.b.example.net", "a.example.net"), ("elsewhere.org", "a.example.net"),
            ("", "a.example.net"),
        ):  # fmt: skip
            self.assertEqual(handshake(folder, name), shown, name)

    def test_otherNamesGetTheDefault(self) -> None:
        write(self.path, "default.pem", "fallback.example.org")
        folder = self.folder()
        self.assertEqual(handshake(folder, "elsewhere.org"), "fallback.example.org")
        self.assertEqual(handshake(folder), "fallback.example.org")

    def test_foldersOfCertbotAreRead(self) -> None:
        live = self.path / "c.example.net"
        live.mkdir()
        chain, key = pem("c.example.net")
        (live / "fullchain.pem").write_bytes(chain)
        (live / "privkey.pem").write_bytes(key)
        (self.path / "README").write_text("nothing")
        self.assertEqual(handshake(self.folder(), "c.example.net"), "c.example.net")

    def test_theKeyMayHaveAFileOfItsOwn(self) -> None:
        chain, key = pem("d.example.net")
        (self.path / "d.pem").write_bytes(chain)
        (self.path / "d.key").write_bytes(key)
        self.assertEqual(handshake(self.folder(), "d.example.net"), "d.example.net")

    def test_whatIsNewIsShownWithinASecond(self) -> None:
        folder = self.folder()
        handshake(folder)
        write(self.path, "e.pem", "e.example.net")
        self.clock.advance(1)
        self.assertEqual(handshake(folder, "e.example.net"), "e.example.net")
        (self.path / "e.pem").unlink()
        self.clock.advance(1)
        self.assertEqual(handshake(folder, "e.example.net"), "*.example.net")

    def test_itIsNotLookedAtForEverybody(self) -> None:
        folder = self.folder()
        handshake(folder)
        write(self.path, "e.pem", "e.example.net")
        self.assertEqual(handshake(folder, "e.example.net"), "*.example.net")

    def test_whatCannotBeUsedTakesNothingAway(self) -> None:
        folder = self.folder()
        handshake(folder)
        before = folder.find("a.example.net")
        (self.path / "a.pem").write_text("half a cert")
        self.clock.advance(1)
        self.assertEqual(handshake(folder, "a.example.net"), "a.example.net")
        self.assertIs(folder.find("a.example.net"), before)

    def test_theFolderIsGone(self) -> None:
        folder = self.folder()
        handshake(folder)
        self.path.rename(self.path.with_suffix(".gone"))
        self.clock.advance(1)
        self.assertEqual(handshake(folder, "a.example.net"), "a.example.net")

    def test_aFolderWithoutCertificatesIsAnError(self) -> None:
        with self.assertRaisesRegex(ConfigurationError, "cannot be read: No such file"):
            CertificateFolder("nowhere", self.clock)
        empty = Path(self.mktemp())
        empty.mkdir()
        (empty / "bad.pem").write_text("no")
        with self.assertRaisesRegex(ConfigurationError, "no usable certificate in"):
            CertificateFolder(str(empty), self.clock)

    def test_aConnectionKeepsWhatItBeganWith(self) -> None:
        folder = self.folder()
        server = folder.serverConnectionForTLS(None)
        write(self.path, "a.pem", "a.example.net")
        self.clock.advance(1)
        folder.refresh()
        self.assertIsNot(server.get_context(), folder.find("a.example.net").context)


class ExpiryTests(SynchronousTestCase):
    """
    When certificates expire, for metrics.
    """

    def test_eachFileHasATime(self) -> None:
        folder = Path(self.mktemp())
        write(folder, "default.pem", "one.example")
        clock = Clock()
        loaded = CertificateFolder(str(folder), clock)
        [(path, expires)] = loaded.expiries().items()
        self.assertEqual(path, str(folder / "default.pem"))
        self.assertGreater(expires, time.time())
        write(folder, "two.pem", "two.example")
        clock.advance(2)
        self.assertEqual(set(loaded.expiries()), {str(folder / name) for name in ("default.pem", "two.pem")})
