"""
Strings that describe ends of DTLS, and the program of C{docs/howto/use-dtls.md}.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.trial.unittest import TestCase

from tests.transport.datagrams import Collector, CollectorFactory
from tests.transport.test_dtls import asynchronous
from tunnelstack.commands.certs import Options, main
from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.dtls.strings import clientFromString, serverFromString
from tunnelstack.transport.verification import CertificateRejected

reactor: Any = installed

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "docs" / "examples" / "datagrams.py"


class StringTests(TestCase):
    """
    Both ends, with files of certificates.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        for arguments in (("ca",), ("server", "localhost"), ("client", "me")):
            options = Options()
            options.parseOptions([*arguments, "--dir", str(self.folder / "certs")])
            main(options)

    def path(self, name: str) -> str:
        return str(self.folder / "certs" / name)

    def server(self, more: str = "") -> Any:
        certificate, key = self.path("server-localhost.pem"), self.path("server-localhost.key")
        files = f"certificate={certificate}:privateKey={key}:clientCA={self.path('ca.pem')}"
        return serverFromString(reactor, f"dtls:0:{files}:interface=127.0.0.1{more}")

    def client(self, port: int, more: str = "") -> Any:
        certificate, key = self.path("client-me.pem"), self.path("client-me.key")
        return clientFromString(
            reactor, f"dtls:127.0.0.1:{port}:trustRoots={self.path('ca.pem')}:certificate={certificate}:privateKey={key}{more}"
        )

    @asynchronous
    async def test_theEndsMeet(self) -> None:
        applications = CollectorFactory(echo=True)
        port = await self.server(":idleTimeout=5").listen(applications)
        self.addCleanup(port.stopListening)
        client = await self.client(port.getHost().port, ":name=localhost:handshakeTimeout=10").connect(CollectorFactory())
        assert isinstance(client, Collector)
        client.transport.write(b"x")
        await client.whenReceived(1)
        client.transport.loseConnection()

    @asynchronous
    async def test_theHostIsTheNameUnlessAnotherIsGiven(self) -> None:
        port = await self.server().listen(CollectorFactory())
        self.addCleanup(port.stopListening)
        with self.assertRaises(CertificateRejected) as raised:
            await self.client(port.getHost().port).connect(CollectorFactory())
        self.assertIn("not for 127.0.0.1", str(raised.exception))

    def test_aMistakeIsNamed(self) -> None:
        files = f"certificate={self.path('server-localhost.pem')}:privateKey={self.path('server-localhost.key')}"
        for make, text, words in (
            (serverFromString, "tls:80", "does not begin with dtls:"),
            (serverFromString, "dtls:80", "needs a certificate"),
            (serverFromString, f"dtls:{files}", "needs a port"),
            (serverFromString, "dtls:80:privateKey=x", "only together with certificate"),
            (serverFromString, "dtls:80:trustRoots=x", "'trustRoots'"),
            (serverFromString, "dtls:80:port=81", "'port'"),
            (clientFromString, "dtls", "needs a host"),
            (clientFromString, "dtls::80", "needs a host"),
            (clientFromString, "dtls:host", "needs a port"),
            (clientFromString, "dtls:host:0", "needs a port, not '0'"),
            (clientFromString, "dtls:host:65536", "needs a port"),
            (clientFromString, "dtls:host:80:81", "'81'"),
            (clientFromString, "dtls:host:80:idleTimeout=long", "long"),
        ):
            with self.assertRaisesRegex(ValueError, words, msg=text):
                make(reactor, text)

    def test_filesThatCannotBeUsedAreAnError(self) -> None:
        for make, text in (
            (clientFromString, f"dtls:host:80:trustRoots={self.path('missing.pem')}"),
            (clientFromString, f"dtls:host:80:certificate={self.path('ca.key')}"),
            (clientFromString, "dtls:host:80:ciphers=ROT13"),
            (serverFromString, f"dtls:80:certificate={self.path('client-me.pem')}:privateKey={self.path('ca.key')}"),
        ):
            self.assertRaises(ConfigurationError, make, reactor, text)

    def test_theExampleRuns(self) -> None:
        ran = subprocess.run(
            [sys.executable, str(EXAMPLE)], cwd=self.folder, capture_output=True, text=True, timeout=60,
        )
        self.assertEqual((ran.stdout, ran.returncode), ("b'is anybody there?'\n", 0), ran.stderr)

    def test_theExampleReportsAMissingFile(self) -> None:
        elsewhere = Path(self.mktemp())
        elsewhere.mkdir()
        ran = subprocess.run(
            [sys.executable, str(EXAMPLE)], cwd=elsewhere, capture_output=True, text=True, timeout=60,
        )
        self.assertEqual((ran.stdout, ran.returncode, ran.stderr.count("\n")), ("", 1, 1), ran.stderr)
        self.assertIn("certs/", ran.stderr)
