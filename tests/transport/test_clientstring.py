"""
Endpoint strings of clients.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, quoteStringArgument
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.certificates import authority, edge
from tests.transport.rawpeer import Raw
from tests.transport.test_websocket import factoryOf
from tunnelstack.errors import ConfigurationError
from tunnelstack.testing import Network
from tunnelstack.transport.clientstring import arguments, clientEndpoint
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.tls import TLSIdentity, certificateFingerprint, serverContext
from tunnelstack.transport.verification import CertificateRejected


def pem(identity: TLSIdentity) -> bytes:
    key = identity.key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return identity.certificate.to_cryptography().public_bytes(Encoding.PEM) + key


class SecureStringTests(SynchronousTestCase):
    """
    C{tls:}, to a server on a network without sockets.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.server = Raw()
        context = serverContext(edge(), clientCA=[authority().certificate], clientAuth="request")
        self.network.listenTCP(443, TLSMemoryBIOFactory(context, False, factoryOf(self.server), self.network))
        self.root = authority().certificate.to_cryptography().public_bytes(Encoding.PEM)

    def file(self, octets: bytes, folder: str = "") -> str:
        path = Path(folder or self.mktemp()).absolute()
        if folder:
            path /= "root.pem"
        path.write_bytes(octets)
        return str(path)

    def folder(self) -> str:
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        return str(path)

    def connect(self, text: str) -> Any:
        connecting = clientEndpoint(self.network, text).connect(factoryOf(Raw()))
        self.network.settle()
        return connecting

    def test_rootsAreReadFromAFileOrAFolder(self) -> None:
        folder = self.folder()
        self.file(self.root, folder)
        for roots in (self.file(self.root), folder):
            for text in ("tls:127.0.0.1:443:trustRoots={}", "tls:host=127.0.0.1:port=443:timeout=5:trustRoots={}"):
                self.successResultOf(self.connect(text.format(roots)))
        self.failureResultOf(self.connect("tls:127.0.0.1:443"), CertificateRejected)

    def test_rootsThatAreMissingAreNotTheSystems(self) -> None:
        for path in (self.folder(), "/nowhere", self.file(b"nonsense")):
            self.assertRaises(ConfigurationError, clientEndpoint, self.network, f"tls:127.0.0.1:443:trustRoots={path}")

    def test_aCertificateIsSentToTheServer(self) -> None:
        ours = authority().identity("agent.example")
        text = f"tls:127.0.0.1:443:trustRoots={self.file(self.root)}:certificate={self.file(pem(ours))}"
        self.successResultOf(self.connect(text))
        self.assertIsNotNone(certificateFingerprint(self.server.transport))

    def test_theEndpointBelowMayBeAnother(self) -> None:
        below = quoteStringArgument("tcp:127.0.0.1:443")
        roots = self.file(self.root)
        self.successResultOf(self.connect(f"tls:edge.example:1:trustRoots={roots}:endpoint={below}"))
        self.failureResultOf(self.connect(f"tls:other.example:1:trustRoots={roots}:endpoint={below}"), CertificateRejected)

    def test_anAddressMayBeBound(self) -> None:
        self.assertIsInstance(clientEndpoint(self.network, "tls:edge.example:443:bindAddress=127.0.0.1"), SecureEndpoint)


class StringTests(SynchronousTestCase):
    """
    What strings mean.
    """

    def test_othersAreTwisteds(self) -> None:
        reactor = MemoryReactorClock()
        for text, kind in (("tcp:127.0.0.1:1", TCP4ClientEndpoint), ("unix:/x", UNIXClientEndpoint)):
            self.assertIsInstance(clientEndpoint(reactor, text), kind)

    def test_mistakesAreReported(self) -> None:
        for text in (
            "tls", "tls:", "tls:host", "tls:host:", "tls::443", "tls:host:port", "tls:host:443:x", "tls:host:443:verify=no",
            "tls:host:443:port=443", "tls:a:1:2:3:4:5:6:7:8:9", "tls:host:443:endpoint=nonsense\\:1", "nonsense:1", "tcp:a", "",
            "tcp:a:80\\\\",
        ):  # fmt: skip
            self.assertRaises(ValueError, clientEndpoint, MemoryReactorClock(), text)

    def test_sslIsRefusedBecauseItDoesNotVerify(self) -> None:
        for text in ("ssl:host:443", "SSL:host:443:hostname=host", "tls:host:443:endpoint=ssl\\:host\\:443"):
            error = self.assertRaises(ConfigurationError, clientEndpoint, MemoryReactorClock(), text)
            self.assertIn("tls:HOST:PORT", str(error))

    @given(st.lists(st.tuples(st.sampled_from(["", "host", "x"]), st.text(max_size=8)), min_size=1, max_size=5))
    def test_whatIsQuotedIsReadBack(self, parts: list[tuple[str, str]]) -> None:
        text = ":".join(
            (name and name + "=") + quoteStringArgument(value).replace("=", "\\=") for name, value in parts
        )
        self.assertEqual(arguments(text), parts)
