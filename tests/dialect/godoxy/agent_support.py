"""
An agent of GoDoxy on a network in memory, and the edge's side of its connections.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL.crypto import X509, PKey
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tunnelstack.control.certificate_authority import IssuedCertificate, issue, makeAuthority
from tunnelstack.dialect.godoxy.agent import GoDoxyAgent
from tunnelstack.dialect.godoxy.agent_settings import AgentSettings
from tunnelstack.testing import Network
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.tls import TLSIdentity, clientContext
from tunnelstack.wire.records.godoxy import ALPN, SERVER_NAME, StreamHeader, encode_header

PORT = 8890


@cache
def authorityPEM() -> IssuedCertificate:
    return makeAuthority("test", 1)


@cache
def serverPEM() -> IssuedCertificate:
    return issue(authorityPEM(), "server", [SERVER_NAME], 1)


@cache
def clientPEM() -> IssuedCertificate:
    return issue(authorityPEM(), "client", ["edge"], 1)


def identityOf(issued: IssuedCertificate) -> TLSIdentity:
    certificate = X509.from_cryptography(x509.load_pem_x509_certificate(issued.certificate))
    return TLSIdentity(certificate, PKey.from_cryptography_key(load_pem_private_key(issued.key, None)))  # type: ignore[arg-type]


def writeCertificates(folder: Path, server: IssuedCertificate | None = None) -> dict[str, str]:
    """
    @return: the settings of an agent that name the files.
    """
    folder.mkdir(exist_ok=True)
    server = server or serverPEM()
    for name, octets in (("ca.pem", authorityPEM().certificate), ("agent.pem", server.certificate), ("agent.key", server.key)):
        (folder / name).write_bytes(octets)
    return {
        "caFile": str(folder / "ca.pem"), "certificateFile": str(folder / "agent.pem"), "keyFile": str(folder / "agent.key"),
    }


class Host:
    """
    What the service uses of an agent.
    """

    def __init__(self, reactor: Any) -> None:
        self.clock = reactor
        self.requests: list[tuple[str, int]] = []

    def exchangeEnded(self, service: str, exchange: Any, seconds: float) -> None:
        self.requests.append((service, exchange.status))


@implementer(IHalfCloseableProtocol)
class End(Protocol):
    """
    Remembers what it received, and how it ended.
    """

    def __init__(self) -> None:
        self.got = b""
        self.ended = False
        self.reason: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def readConnectionLost(self) -> None:
        self.ended = True

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Any = None) -> None:
        self.reason = reason


class Server(Factory):
    """
    A destination.
    """

    noisy = False

    def __init__(self) -> None:
        self.ends: list[End] = []

    def buildProtocol(self, address: object) -> Any:
        self.ends.append(End())
        return self.ends[-1]


class AgentCase(SynchronousTestCase):
    """
    An agent, with a destination on port 3000.

    @ivar lines: what was logged.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._logged)
        self.addCleanup(globalLogPublisher.removeObserver, self._logged)
        self.server = Server()
        self.network.listenTCP(3000, self.server)
        self.files = writeCertificates(Path(self.mktemp()))

    def _logged(self, event: Any) -> None:
        if event["log_namespace"].startswith("tunnelstack"):
            self.lines.append(formatEvent(event))

    def start(self, **settings: Any) -> GoDoxyAgent:
        given = {"targets": ("localhost:3000",), "datagrams": False, **self.files, **settings}
        self.host = Host(self.network)
        self.agent = GoDoxyAgent(self.host, AgentSettings(**given))  # type: ignore[arg-type]
        self.agent.startService()
        self.successResultOf(self.agent.whenListening())
        self.addCleanup(self.stop)
        return self.agent

    def stop(self) -> None:
        stopped = self.agent.stopService()
        self.network.settle()
        self.successResultOf(stopped)
        self.assertEqual(self.agent.session.streams, 0)

    def connect(
        self, alpn: tuple[bytes, ...] = (ALPN,), identity: TLSIdentity | None = None, name: str = SERVER_NAME
    ) -> Deferred[Any]:
        ca = X509.from_cryptography(x509.load_pem_x509_certificate(authorityPEM().certificate))
        context = clientContext(name, ca=[ca], identity=identity or identityOf(clientPEM()), alpn=alpn)
        below = TCP4ClientEndpoint(self.network, "127.0.0.1", PORT)  # type: ignore[arg-type]
        endpoint = SecureEndpoint(self.network, name, below, context, halfClose=True)
        connecting = endpoint.connect(Factory.forProtocol(End))
        self.network.settle()
        return connecting

    def open(self, header: StreamHeader | bytes, data: bytes = b"") -> Any:
        """
        @return: the edge's end of a stream.
        """
        end = self.successResultOf(self.connect())
        end.transport.write((header if isinstance(header, bytes) else encode_header(header)) + data)
        self.network.settle()
        return end
