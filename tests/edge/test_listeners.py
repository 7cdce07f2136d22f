"""
Where an edge listens: over real sockets.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.logger import Logger, formatEvent
from twisted.plugin import getPlugins
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import TestCase

from tests.transport.certificates import authority
from tests.transport.test_certificates import pem, write
from tunnelstack.control.config.records import AdminConfig, EdgeConfig, Limits, ListenerConfig
from tunnelstack.edge.listeners import endpointOf, makeListener, splitOptions, withBacklog
from tunnelstack.edge.public.admission import MAX_UNSENT_OCTETS, UNSENT_OPTION
from tunnelstack.edge.service import EdgeService
from tunnelstack.errors import ConfigurationError

GET = b"GET /x HTTP/1.1\r\nHost: nobody.localhost\r\nConnection: close\r\n\r\n"


def ask(
    port: int, said: bytes = GET, *, secure: ssl.SSLContext | None = None, name: str = "edge.example", first: bytes = b""
) -> bytes:
    """
    All that a server says; blocks.

    @param first: said before TLS.
    """
    connection: Any = socket.create_connection(("127.0.0.1", port), 20)
    connection.sendall(first)
    with connection if secure is None else secure.wrap_socket(connection, server_hostname=name) as connection:
        connection.sendall(said)
        heard = b""
        while piece := connection.recv(65536):
            heard += piece
        return heard


class Host(Protocol):
    """
    Sends the peer's host.
    """

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.transport.getPeer().host.encode())
        self.transport.loseConnection()


class ListenerTests(TestCase):
    """
    A whole edge.
    """

    def setUp(self) -> None:
        self.certificates = Path(self.mktemp())
        write(self.certificates, "edge.pem", "edge.example", "localhost")
        self.root = Path(self.mktemp())
        self.root.write_bytes(authority().certificate.to_cryptography().public_bytes(Encoding.PEM))
        self.client = ssl.create_default_context(cafile=str(self.root))

    def start(self, *listeners: ListenerConfig, **settings: Any) -> list[int]:
        """
        @return: the ports, in the order of the listeners.
        """
        self.edge = edge = EdgeService(reactor, EdgeConfig(listen=(), listeners=listeners, **settings))
        edge.startService()
        self.addCleanup(edge.stopService)
        return [address.port for address in edge.addresses]

    def folder(self, prefix: str = "") -> str:
        return f"{prefix}tls:{self.certificates}:port=0:interface=127.0.0.1"

    @inlineCallbacks
    def test_httpsListensByName(self) -> Any:
        write(self.certificates, "other.pem", "*.other.example")
        port, = self.start(ListenerConfig(endpoint=self.folder()))
        self.assertEqual(self.edge.url, f"https://localhost:{port}")
        for name in ("edge.example", "www.other.example"):
            heard = yield deferToThread(ask, port, secure=self.client, name=name)
            self.assertTrue(heard.startswith(b"HTTP/1.1 404 "), heard)
        with self.assertRaises(ssl.SSLCertVerificationError):
            yield deferToThread(ask, port, secure=self.client, name="elsewhere.example")

    @inlineCallbacks
    def test_clientsThatOfferALPNMayUseTheTLSOfTwisted(self) -> Any:
        """
        As browsers do, and curl: at C{ssl:}, for visitors and for the administration.
        """
        twisted = f"ssl:0:interface=127.0.0.1:privateKey={self.certificates}/edge.pem:certKey={self.certificates}/edge.pem"
        port, = self.start(ListenerConfig(endpoint=twisted), admin=AdminConfig(listen=twisted))
        self.client.set_alpn_protocols(["h2", "http/1.1"])
        heard = yield deferToThread(ask, port, secure=self.client)
        self.assertTrue(heard.startswith(b"HTTP/1.1 404 "), heard)
        heard = yield deferToThread(ask, self.edge.admin.addresses[0].port, secure=self.client)
        self.assertTrue(heard.startswith(b"HTTP/1.1 4"), heard)

    @inlineCallbacks
    def test_reloadingLosesNoConnection(self) -> Any:
        port, = self.start(ListenerConfig(endpoint=self.folder()))

        def talk() -> list[bytes]:
            plain = socket.create_connection(("127.0.0.1", port), 20)
            with self.client.wrap_socket(plain, server_hostname="edge.example") as connection:
                heard, serials = [], []
                for _ in range(2):
                    connection.sendall(GET.replace(b"close", b"keep-alive"))
                    heard.append(connection.recv(65536)[:12])
                    serials.append(connection.getpeercert()["serialNumber"])
                    write(self.certificates, "edge.pem", "edge.example", "localhost")
                return heard + serials

        first, second, serial, same = yield deferToThread(talk)
        self.assertEqual((first, second, serial), (b"HTTP/1.1 404", b"HTTP/1.1 404", same))

    @inlineCallbacks
    def test_clientsMustShowACertificate(self) -> Any:
        port, = self.start(ListenerConfig(endpoint=self.folder(), clientCa=str(self.root), clientAuth="require"))
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            heard = yield deferToThread(ask, port, secure=self.client)
            self.assertEqual(heard, b"")
            raise ConnectionError("closed without an answer")
        chain, key = pem("laptop")
        mine = Path(self.mktemp())
        mine.write_bytes(chain + key)
        self.client.load_cert_chain(mine)
        heard = yield deferToThread(ask, port, secure=self.client)
        self.assertTrue(heard.startswith(b"HTTP/1.1 404 "), heard)

    @inlineCallbacks
    def test_clientsMayShowACertificate(self) -> Any:
        port, = self.start(ListenerConfig(endpoint=self.folder(), clientCa=str(self.root), clientAuth="request"))
        heard = yield deferToThread(ask, port, secure=self.client)
        self.assertTrue(heard.startswith(b"HTTP/1.1 404 "), heard)

    @inlineCallbacks
    def test_plainHTTPIsSentToHTTPS(self) -> Any:
        plain, secure = self.start(
            ListenerConfig(endpoint="tcp:0:interface=127.0.0.1", redirect=True), ListenerConfig(endpoint=self.folder())
        )
        heard = yield deferToThread(ask, plain)
        self.assertIn(f"\r\nLocation: https://nobody.localhost:{secure}/x\r\n".encode(), heard)
        self.assertEqual(self.edge.url, f"https://localhost:{secure}")

    @inlineCallbacks
    def test_aProxyInFrontTellsWhoComes(self) -> Any:
        plain, secure = self.start(
            ListenerConfig(endpoint="haproxy:tcp:0:interface=127.0.0.1"), ListenerConfig(endpoint=self.folder("haproxy:"))
        )
        seen: list[Any] = []
        self.edge.public.site.accessLog = seen.append
        for port, client in ((plain, None), (secure, self.client)):
            heard = yield deferToThread(ask, port, secure=client, first=b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 80\r\n")
            self.assertTrue(heard.startswith(b"HTTP/1.1 404 "), heard)
        self.assertEqual([access.visitor for access in seen], ["192.0.2.7"] * 2)
        for port, client in ((plain, None), (secure, self.client)):
            heard = yield deferToThread(ask, port, secure=client, first=b"PROXY UNKNOWN\r\n")
            self.assertTrue(heard.startswith(b"HTTP/1.1 404 "), heard)
        self.assertEqual([access.visitor for access in seen[2:]], ["127.0.0.1"] * 2)
        heard = yield deferToThread(ask, plain)          # who does not say is nobody
        self.assertEqual(heard, b"")

    @inlineCallbacks
    def test_whoeverIsOneTooManyWaits(self) -> Any:
        port, = self.start(ListenerConfig(endpoint="tcp:0:interface=127.0.0.1"), limits=Limits(visitors=1))

        def visit() -> tuple[bool, bytes]:
            with socket.create_connection(("127.0.0.1", port), 20) as first:
                first.sendall(GET.replace(b"close", b"keep-alive"))
                first.recv(65536)
                with socket.create_connection(("127.0.0.1", port), 20) as second:
                    second.sendall(GET)
                    second.settimeout(0.3)
                    try:
                        second.recv(1)
                        waited = False
                    except TimeoutError:
                        waited = True
                    first.close()
                    second.settimeout(20)
                    return waited, second.recv(12)

        waited, heard = yield deferToThread(visit)
        self.assertEqual((waited, heard), (True, b"HTTP/1.1 404"))

    @inlineCallbacks
    def test_theSystemHoldsLittleForASlowVisitor(self) -> Any:
        ports = self.start(ListenerConfig(endpoint="tcp:0:interface=127.0.0.1"), ListenerConfig(endpoint=self.folder()))

        def visit() -> list[int]:
            bounds = []
            for port, client in zip(ports, (None, self.client), strict=True):
                plain: Any = socket.create_connection(("127.0.0.1", port), 20)
                with plain if client is None else client.wrap_socket(plain, server_hostname="edge.example") as talk:
                    talk.sendall(GET.replace(b"close", b"keep-alive"))
                    talk.recv(65536)
                    (connection,) = self.edge.public.connections
                    transport = connection.transport
                    handle = getattr(transport, "socket", None) or transport.transport.socket
                    bounds.append(handle.getsockopt(socket.IPPROTO_TCP, UNSENT_OPTION))
                    talk.sendall(GET)
                    while talk.recv(65536):
                        pass
            return bounds

        bounds = yield deferToThread(visit)
        self.assertEqual(bounds, [MAX_UNSENT_OCTETS, MAX_UNSENT_OCTETS])

    def test_manyMayWaitForAnEdgeThatIsBusy(self) -> None:
        for endpoint in ("tcp:0:interface=127.0.0.1", self.folder()):
            (port,) = self.start(ListenerConfig(endpoint=endpoint))
            for _ in range(400):              # while the reactor waits for this test
                self.addCleanup(socket.create_connection(("127.0.0.1", port), 0.5).close)

    def test_fewerMayWaitWhereThatIsSaid(self) -> None:
        for text in ("tcp:80:backlog=7", "tls:certs:port=443", "unix:/run/edge.sock", "systemd:domain=INET:index=0"):
            self.assertEqual(withBacklog(text), text)

    def test_mistakesInListenersAreReported(self) -> None:
        folder = self.folder()
        for settings, sentence in (
            ({"endpoint": "tls:nowhere:port=0"}, "'nowhere' cannot be read"), ({"endpoint": "tls:"}, "must be tls:FOLDER"),
            ({"endpoint": folder + ":colour=red"}, "has no option colour"),
            ({"endpoint": folder + ":port=x"}, "is not a valid endpoint"),
            ({"endpoint": "tcp:80", "clientAuth": "require", "clientCa": "x"}, "client_auth needs tls:FOLDER"),
            ({"endpoint": folder, "redirect": True}, "uses TLS already"), ({"endpoint": "nonsense"}, "is not a valid endpoint"),
            ({"endpoint": folder, "clientAuth": "require"}, "must be set together"),
        ):  # fmt: skip
            with self.assertRaisesRegex(ConfigurationError, sentence):
                makeListener(reactor, ListenerConfig(**settings))

    @inlineCallbacks
    def test_anyOtherPortMayHaveAProxyInFront(self) -> Any:
        port = yield endpointOf(reactor, "haproxy:tcp:0:interface=127.0.0.1").listen(Factory.forProtocol(Host))
        self.addCleanup(port.stopListening)
        for first, host in ((b"PROXY UNKNOWN\r\n", b"127.0.0.1"), (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n", b"192.0.2.7")):
            heard = yield deferToThread(ask, port.getHost().port, b"who", first=first)
            self.assertEqual(heard, host)
        self.assertRaises(ConfigurationError, endpointOf, reactor, "haproxy:nonsense:80")
    def test_aKeyThatOthersCanReadIsReportedAtTheStart(self) -> None:
        told: list[str] = []
        self.patch(EdgeService, "log", Logger("tunnelstack.test", observer=lambda event: told.append(formatEvent(event))))
        for mode, count in ((0o600, 0), (0o640, 1)):
            (self.certificates / "edge.pem").chmod(mode)
            told.clear()
            self.start(ListenerConfig(endpoint=self.folder()))
            self.assertEqual(len([line for line in told if "edge.pem contains a secret" in line]), count)

    def handedOver(self, count: int) -> list[int]:
        """
        Sockets that listen, as if systemd had handed them over.

        @return: their ports.
        """
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        ports = [each.getsockname()[1] for each in sockets]
        handed = ListenFDs([each.detach() for each in sockets], [str(port) for port in ports])
        [parser] = [each for each in getPlugins(IStreamServerEndpointStringParser) if each.prefix == "systemd"]
        self.patch(type(parser), "_sddaemon", handed)
        return ports

    @inlineCallbacks
    def test_socketsThatWereHandedOverKeepTheSettingsOfTheirListeners(self) -> Any:
        handed = self.handedOver(3)
        tls = f"tls:{self.certificates}:port=443"
        ports = self.start(
            ListenerConfig(endpoint="tcp:80", redirect=True, socket="systemd:domain=INET:index=0"),
            ListenerConfig(endpoint=tls, socket="systemd:domain=INET:index=1"),
            ListenerConfig(
                endpoint=tls, clientCa=str(self.root), clientAuth="require", socket="systemd:domain=INET:index=2"
            ),
        )
        self.assertEqual(ports, handed)
        self.assertEqual(self.edge.url, f"https://localhost:{ports[1]}")
        heard = yield deferToThread(ask, ports[0])
        self.assertTrue(heard.startswith(b"HTTP/1.1 308 "), heard)
        self.assertIn(b"https://nobody.localhost:%d/x" % ports[1], heard)
        heard = yield deferToThread(ask, ports[1], secure=self.client)
        self.assertTrue(heard.startswith(b"HTTP/1.1 404 "), heard)
        heard = yield deferToThread(ask, ports[1])
        self.assertFalse(heard.startswith(b"HTTP"), heard)
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            heard = yield deferToThread(ask, ports[2], secure=self.client)
            self.assertEqual(heard, b"")
            raise ConnectionError("closed without an answer")

    @inlineCallbacks
    def test_aSocketThatWasHandedOverTakesTheProxyProtocol(self) -> Any:
        self.handedOver(2)
        ports = self.start(
            ListenerConfig(endpoint=f"haproxy:tls:{self.certificates}", socket="systemd:domain=INET:index=0"),
            ListenerConfig(endpoint="haproxy:tcp:80", socket="systemd:domain=INET:index=1"),
        )
        told = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
        for port, secure in zip(ports, (self.client, None), strict=True):
            heard = yield deferToThread(ask, port, secure=secure, first=told)
            self.assertTrue(heard.startswith(b"HTTP/1.1 404 "), heard)

    def test_anEndpointThatDoesMoreThanListenTakesNoSocket(self) -> None:
        listener = ListenerConfig(endpoint="ssl:443:privateKey=a.pem", socket="systemd:domain=INET:index=0")
        error = self.assertRaises(ConfigurationError, makeListener, reactor, listener)
        self.assertIn("cannot use a socket from systemd", str(error))

    def test_colonsInFoldersAreEscaped(self) -> None:
        self.assertEqual(splitOptions(r"C\:/certs:port=1:interface=\:\:"), ("C:/certs", {"port": "1", "interface": "::"}))
