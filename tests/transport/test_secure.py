"""
An endpoint with TLS: it connects once the server has verified.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import Error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError, NoProtocol, TimeoutError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.certificates import authority, edge
from tests.transport.rawpeer import Raw
from tests.transport.test_websocket import factoryOf
from tunnelstack.testing import Network
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.secure import HandshakeLost, ProtocolNotSelected, SecureEndpoint, _Attempt
from tunnelstack.transport.tls import clientContext, serverContext


class Silent(Protocol):
    """
    A server that does not answer.
    """

    reason: Any = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


class SecureEndpointTests(SynchronousTestCase):
    """
    On a network without sockets.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.server = Raw()
        secure = TLSMemoryBIOFactory(serverContext(edge(), alpn=[b"x/1"]), False, factoryOf(self.server), self.network)
        self.network.listenTCP(443, secure)

    def connect(
        self, factory: Any = None, *, port: int = 443, name: str = "edge.example", timeout: float = 7,
        offered: tuple[bytes, ...] = (b"x/1",), alpn: bytes | None = None,
    ) -> Deferred[Any]:  # fmt: skip
        below = hostEndpoint(self.network, "127.0.0.1", port)
        context = clientContext(name, ca=[authority().certificate], alpn=offered)
        endpoint = SecureEndpoint(self.network, name, below, context, timeout, alpn=alpn)
        return endpoint.connect(factoryOf(Raw()) if factory is None else factory)

    def quiet(self) -> None:
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_theProtocolIsBuiltOnceTheServerHasVerified(self) -> None:
        built: list[Raw] = []

        def build() -> Raw:
            built.append(Raw())
            return built[-1]

        connecting = self.connect(Factory.forProtocol(build))
        self.network.advance(0)
        self.assertEqual(built, [])
        self.network.settle()
        protocol = self.successResultOf(connecting)
        self.assertEqual(built, [protocol])
        self.assertEqual(protocol.transport.negotiatedProtocol, b"x/1")
        protocol.transport.write(b"question")
        self.network.settle()
        self.assertEqual(self.server.got, b"question")
        self.server.transport.write(b"answer")  # type: ignore[union-attr]
        self.network.settle()
        self.assertEqual(protocol.got, b"answer")
        protocol.transport.loseConnection()
        self.network.settle()
        self.assertIsNotNone(protocol.reason)
        self.quiet()

    def test_noProtocolIsBuiltForAServerThatDoesNotVerify(self) -> None:
        connecting = self.connect(Factory.forProtocol(self.fail), name="other.example")
        self.network.settle()
        self.assertIn("not for other.example", str(self.failureResultOf(connecting, Error).value))
        self.assertEqual(self.server.got, b"")
        self.quiet()

    def test_aServerThatSelectsAnotherProtocolIsRejected(self) -> None:
        protocol = self.settled(self.connect(alpn=b"x/1"))
        protocol.transport.loseConnection()
        self.network.settle()
        for offered, told in (((), "has selected no protocol instead of 'x/1'"), ((b"x/1",), "has selected 'x/1' instead")):
            connecting = self.connect(Factory.forProtocol(self.fail), offered=offered, alpn=b"x/1" if not offered else b"y")
            self.network.settle()
            self.assertIn(told, str(self.failureResultOf(connecting, ProtocolNotSelected).value))
        self.quiet()

    def settled(self, connecting: Deferred[Any]) -> Any:
        self.network.settle()
        return self.successResultOf(connecting)

    def test_aServerWithoutTLSIsRejected(self) -> None:
        class Banner(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"SSH-2.0-x\r\n")  # type: ignore[union-attr]

        self.network.listenTCP(22, Factory.forProtocol(Banner))
        connecting = self.connect(port=22)
        self.network.settle()
        self.failureResultOf(connecting, Error)
        self.quiet()

    def test_aServerThatClosesDuringTheHandshake(self) -> None:
        class Closes(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.loseConnection()  # type: ignore[union-attr]

        self.network.listenTCP(22, Factory.forProtocol(Closes))
        connecting = self.connect(port=22)
        self.network.settle()
        self.failureResultOf(connecting, HandshakeLost)
        self.quiet()

    def test_aServerThatDoesNotAnswer(self) -> None:
        silent = Silent()
        self.network.listenTCP(22, factoryOf(silent))
        connecting = self.connect(port=22, timeout=7)
        self.network.settle()
        self.network.passTime(6.9)
        self.assertNoResult(connecting)
        self.network.passTime(0.2)
        self.assertIn("no TLS after 7 seconds", str(self.failureResultOf(connecting, TimeoutError).value))
        self.assertIsNotNone(silent.reason)
        self.quiet()

    def test_connectingMayBeCancelledAtAnyTime(self) -> None:
        """
        While TCP connects, during the handshake, and after it, when it is too late.
        """
        silent = Silent()
        self.network.listenTCP(22, factoryOf(silent))
        connecting = self.connect(port=22)
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.network.settle()
        self.assertIsNone(silent.transport)
        connecting = self.connect(port=22)
        self.network.settle()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.network.settle()
        self.assertIsNotNone(silent.reason)
        connecting = self.connect()
        self.network.settle()
        connecting.cancel()
        self.assertIsNone(self.successResultOf(connecting).reason)
        self.quiet()

    def test_aPortThatIsShut(self) -> None:
        connecting = self.connect(port=1)
        self.network.settle()
        self.failureResultOf(connecting, ConnectionRefusedError)
        self.quiet()

    def test_aFactoryThatBuildsNothing(self) -> None:
        def breaks() -> Any:
            raise ZeroDivisionError

        for factory, error in ((factoryOf(None), NoProtocol), (Factory.forProtocol(breaks), ZeroDivisionError)):
            connecting = self.connect(factory)
            self.network.settle()
            self.failureResultOf(connecting, error)
            self.quiet()

    def test_factoriesAreStartedAndStopped(self) -> None:
        application = Factory()
        attempt = _Attempt(application, self.network, 7)
        whole = TLSMemoryBIOFactory(clientContext("edge.example"), True, attempt, self.network)
        whole.doStart()
        self.assertEqual(application.numPorts, 1)
        whole.doStop()
        self.assertEqual(application.numPorts, 0)
