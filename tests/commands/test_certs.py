"""
C{tunnelstack certs}: what it makes is accepted where it should be, by OpenSSL and by the strict rules of RFC 5280.
"""

from __future__ import annotations

import os
import stat
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.test_dtls import Ends, asynchronous
from tunnelstack.commands.certs import Options, main
from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.dtls.options import DTLSClientOptions, DTLSServerOptions
from tunnelstack.transport.tls import loadCertificates, loadIdentity


class Folder:
    """
    A folder of certificates.
    """

    mktemp: Any

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def certs(self, *arguments: str) -> int:
        options = Options()
        options.parseOptions([*arguments, "--dir", str(self.folder)])
        return main(options)

    def path(self, name: str) -> str:
        return str(self.folder / name)


class FileTests(Folder, SynchronousTestCase):
    """
    What is written, and what is not.
    """

    def test_anAuthorityIssuesToServersAndClients(self) -> None:
        for arguments in (("ca",), ("server", "a.example", "192.0.2.1"), ("client", "edge")):
            self.assertEqual(self.certs(*arguments), 0)
        names = ["ca.key", "ca.pem", "client-edge.key", "client-edge.pem", "server-a.example.key", "server-a.example.pem"]
        self.assertEqual(sorted(os.listdir(self.folder)), names)

    def test_keysCanBeReadByTheirOwnerOnly(self) -> None:
        self.certs("ca")
        self.certs("client", "edge", "--archive", self.path("edge.zip"))
        for name in ("ca.key", "client-edge.key", "edge.zip"):
            self.assertEqual(stat.S_IMODE(os.stat(self.path(name)).st_mode), 0o600, name)

    def test_theArchiveHasWhatTheOtherMachineNeeds(self) -> None:
        self.certs("ca")
        self.certs("client", "edge", "--archive", self.path("edge.zip"))
        with ZipFile(self.path("edge.zip")) as archive:
            self.assertEqual([(one.filename, one.compress_type) for one in archive.infolist()],
                             [("ca.pem", ZIP_STORED), ("cert.pem", ZIP_STORED), ("key.pem", ZIP_STORED)])    # fmt: skip
            self.assertEqual(archive.read("ca.pem"), Path(self.path("ca.pem")).read_bytes())
            self.assertEqual(archive.read("key.pem"), Path(self.path("client-edge.key")).read_bytes())

    def test_keysHaveTheFormThatOtherProgramsExpect(self) -> None:
        self.certs("ca")
        self.assertTrue(Path(self.path("ca.key")).read_text().startswith("-----BEGIN EC PRIVATE KEY-----\n"))

    def test_nothingIsOverwritten(self) -> None:
        self.certs("ca")
        before = Path(self.path("ca.key")).read_bytes()
        with self.assertRaisesRegex(ConfigurationError, "ca.pem already exists"):
            self.certs("ca")
        self.assertEqual(Path(self.path("ca.key")).read_bytes(), before)
        Path(self.path("edge.zip")).touch()
        with self.assertRaisesRegex(ConfigurationError, "edge.zip already exists"):
            self.certs("client", "edge", "--archive", self.path("edge.zip"))
        self.assertFalse(os.path.exists(self.path("client-edge.key")))

    def test_withoutAnAuthorityTheRemedyIsNamed(self) -> None:
        with self.assertRaisesRegex(ConfigurationError, "tunnelstack certs ca"):
            self.certs("server", "a.example")

    def test_anAuthorityThatCannotBeReadIsReported(self) -> None:
        self.certs("ca")
        Path(self.path("ca.key")).write_text("nonsense")
        with self.assertRaisesRegex(ConfigurationError, "the authority cannot be read"):
            self.certs("server", "a.example")

    def test_anotherKeyIsNoticed(self) -> None:
        self.certs("ca")
        self.certs("client", "edge")
        os.replace(self.path("client-edge.key"), self.path("ca.key"))
        with self.assertRaisesRegex(ConfigurationError, "not that of its certificate"):
            self.certs("server", "a.example")

    def test_namesBecomeHarmlessFiles(self) -> None:
        self.certs("ca")
        self.certs("client", "../../x")
        self.assertTrue(os.path.exists(self.path("client-.._.._x.pem")))

    def test_aWildcardThatClientsRejectIsReported(self) -> None:
        self.certs("ca")
        for number, (name, rejected) in enumerate((
            ("*.localhost", True), ("*.net.", True), ("*.tunnels.localhost", False), ("localhost", False), ("*a.net", False),
        )):  # fmt: skip
            with redirect_stderr(StringIO()) as told:
                self.certs("server", f"{number}.example", name)
            self.assertEqual(f"such as curl and gRPC, reject '{name}'" in told.getvalue(), rejected, name)
        with redirect_stderr(StringIO()) as told:
            self.certs("client", "edge", "*.localhost")
        self.assertNotIn("warning", told.getvalue())

    def test_namesThatNoCertificateCanHave(self) -> None:
        self.certs("ca")
        for name in ("b\u00fccher.example", "a" * 65, ""):
            self.assertRaises(ConfigurationError, self.certs, "server", name)

    def test_commandLinesThatAreWrong(self) -> None:
        for arguments, words in (
            ((), "missing"), (("sever",), "did you mean server"), (("server",), "at least one name"),
            (("ca", "a", "b"), "at most one name"), (("ca", "--days", "0"), "--days"), (("ca", "--days", "many"), "--days"),
            (("server", "a", "--archive", "x"), "--archive is for certs client"),
        ):  # fmt: skip
            with self.assertRaisesRegex(usage.UsageError, words):
                self.certs(*arguments)


class VerificationTests(Folder, Ends):
    """
    What is issued is accepted for its purpose, and for no other.
    """

    def setUp(self) -> None:
        Ends.setUp(self)
        self.folder = Path(self.mktemp())
        for arguments in (("ca",), ("server", "agent.example", "127.0.0.1"), ("client", "edge")):
            self.certs(*arguments)

    def load(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(Path(self.path(name)).read_bytes())

    def test_strictVerificationAcceptsThem(self) -> None:
        builder = PolicyBuilder().store(Store([self.load("ca.pem")]))
        server, client = self.load("server-agent.example.pem"), self.load("client-edge.pem")
        builder.build_server_verifier(x509.DNSName("agent.example")).verify(server, [])
        builder.build_client_verifier().verify(client, [])
        for wrong in (x509.DNSName("other.example"),):
            self.assertRaises(VerificationError, builder.build_server_verifier(wrong).verify, server, [])
        self.assertRaises(VerificationError, builder.build_client_verifier().verify, server, [])

    @asynchronous
    async def test_bothEndsAcceptEachOther(self) -> None:
        authorities = loadCertificates(self.path("ca.pem"))
        server = loadIdentity(self.path("server-agent.example.pem"), self.path("server-agent.example.key"))
        client = loadIdentity(self.path("client-edge.pem"), self.path("client-edge.key"))
        port = await self.listen(DTLSServerOptions(server, clientCA=authorities, clientAuth="require"))
        for name in ("agent.example", "127.0.0.1"):
            await self.connect(port, DTLSClientOptions(name, ca=authorities, identity=client))
        wrong = DTLSClientOptions("agent.example", ca=authorities, identity=server)
        with self.assertRaises(Exception):    # noqa: B017 - any error of OpenSSL: the certificate is for servers
            await self.connect(port, wrong, handshakeSeconds=5)
