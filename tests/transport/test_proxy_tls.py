"""
Out through a proxy that is spoken TLS with, over real sockets: CONNECT in TLS, and TLS with the edge within that.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from OpenSSL.SSL import Error as TLSError
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.transport.certificates import Authority, authority, edge
from tunnelstack.stream.splice import Splice
from tunnelstack.transport.proxy import (
    NotAProxy,
    ProxyEndpoint,
    ProxyFailed,
    ProxyRefused,
    ProxyRejected,
    parseProxy,
)
from tunnelstack.transport.tls import clientContext, serverContext

MEBIBYTE = 1024 * 1024
reactor: Any = installed


class Between(Protocol):
    """
    A proxy: takes one CONNECT, and joins who asked with a port of this machine.
    """

    transport: Any
    factory: Any

    def __init__(self) -> None:
        self.head = b""

    def dataReceived(self, data: bytes) -> None:
        self.head += data
        if b"\r\n\r\n" not in self.head:
            return
        self.factory.asked.append(self.head)
        shown = f"\r\nProxy-Authorization: Basic {self.factory.credential}\r\n".encode()
        if self.factory.credential and shown not in self.head:
            self.transport.write(
                b'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 2\r\n\r\nno'
            )
            self.transport.loseConnection()
            return
        port = int(self.head.split(b" ")[1].rpartition(b":")[2])
        splice = Splice(reactor)
        joined = TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(quiet(lambda: splice.far))
        joined.addCallbacks(self._joined, self._absent, (splice,))

    def _joined(self, _: object, splice: Splice) -> None:
        self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        name = "wrappedProtocol" if hasattr(self.transport, "wrappedProtocol") else "protocol"
        setattr(self.transport, name, splice.near)
        splice.near.makeConnection(self.transport)

    def _absent(self, failure: Failure) -> None:
        self.transport.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        self.transport.loseConnection()


class Echo(Protocol):
    """
    A server, which says what it hears, without holding more of it than the other side takes.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.lost.callback(None)  # type: ignore[attr-defined]


class Talk(Protocol):
    """
    Says something, and waits until so much has come back.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.lost: Deferred[BaseException] = Deferred()
        self._wanted = 0
        self._heard: Deferred[bytes] = Deferred()

    def say(self, octets: bytes) -> Deferred[bytes]:
        self._wanted = len(octets)
        self.transport.write(octets)
        return self._heard

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if len(self.got) >= self._wanted and not self._heard.called:
            self._heard.callback(self.got)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(reason.value)
        if not self._heard.called:
            self._heard.errback(reason)


def quiet(build: Callable[[], Any]) -> Any:
    """
    A factory that says nothing of its coming and going.
    """
    factory: Any = Factory.forProtocol(build)
    factory.noisy = False
    return factory


def secured(factory: Any, identity: Any) -> Any:
    """
    The same with TLS before it.
    """
    return TLSMemoryBIOFactory(serverContext(identity), False, factory)


class SecureProxyTests(TestCase):
    """
    A proxy at C{https:}, and a server behind it.
    """

    timeout = 60

    @inlineCallbacks
    def begin(self, *, credential: str = "", proxy: bool = True, server: bool = False) -> Any:
        """
        @param credential: what the proxy wants.
        @param proxy: whether TLS is spoken with the proxy.
        @param server: whether TLS is spoken with the server behind it.
        """
        self.between, self.echo = quiet(Between), quiet(Echo)
        self.between.asked, self.between.credential = [], credential
        self.echo.lost = Deferred()
        self.port = yield self.listen(secured(self.echo, edge()) if server else self.echo)
        self.proxyPort = yield self.listen(secured(self.between, edge()) if proxy else self.between)

    @inlineCallbacks
    def listen(self, factory: Any) -> Any:
        listening = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(listening.stopListening)
        return listening.getHost().port

    def way(self, user: str = "", *, name: str = "edge.example", root: Any = None, port: int = 0) -> ProxyEndpoint:
        """
        The way out.

        @param name: what the proxy's certificate has to be for.
        @param root: who has to have signed it.
        """
        root = authority() if root is None else root
        return ProxyEndpoint(
            reactor, parseProxy(f"https://{user}127.0.0.1:{self.proxyPort}"), "127.0.0.1", port or self.port, timeout=10,
            contextFactory=clientContext(name, ca=[root.certificate]),
        )

    @inlineCallbacks
    def connect(self, way: Any) -> Any:
        talk = yield way.connect(quiet(Talk))
        self.addCleanup(lambda: talk.lost)
        self.addCleanup(talk.transport.loseConnection)
        return talk

    @inlineCallbacks
    def test_theQuestionAndAllThatFollowsAreInTLS(self) -> Any:
        yield self.begin()
        talk = yield self.connect(self.way())
        self.assertEqual((yield talk.say(b"hello")), b"hello")
        where = b"127.0.0.1:%d" % self.port
        self.assertEqual(self.between.asked, [b"CONNECT " + where + b" HTTP/1.1\r\nHost: " + where + b"\r\n\r\n"])
        talk.transport.loseConnection()
        yield self.echo.lost

    @inlineCallbacks
    def test_TLSWithTheServerPassesWithinTLSWithTheProxy(self) -> Any:
        """
        Much more than any buffer holds, both ways at once, arrives whole.
        """
        yield self.begin(server=True)
        talk = yield self.connect(wrapClientTLS(clientContext("localhost", ca=[authority().certificate]), self.way()))
        octets = bytes(range(256)) * (8 * MEBIBYTE // 256)
        self.assertTrue((yield talk.say(octets)) == octets)
        self.assertIn("CN=edge.example", talk.transport.getPeerCertificate().to_cryptography().subject.rfc4514_string())
        talk.transport.loseConnection()
        yield self.echo.lost

    @inlineCallbacks
    def test_aServerThatIsNotTrustedIsNotTheProxysFault(self) -> Any:
        yield self.begin(server=True)
        context = clientContext("localhost", ca=[Authority("another").certificate])
        talk = yield wrapClientTLS(context, self.way()).connect(quiet(Talk))
        reason = yield talk.lost
        self.assertIsInstance(reason, TLSError)
        yield self.assertFailure(talk._heard, TLSError)
        yield self.echo.lost

    @inlineCallbacks
    def test_credentialsAreSent(self) -> Any:
        yield self.begin(credential=b64encode(b"anna:p@ss:").decode())
        talk = yield self.connect(self.way("anna:p%40ss%3A@"))
        self.assertEqual((yield talk.say(b"hello")), b"hello")
        for user in ("", "anna:guess@"):
            refused = yield self.assertFailure(self.way(user).connect(quiet(Talk)), ProxyRefused)
            self.assertEqual(refused.status, 407)
            self.assertEqual(
                refused.args[0], f"the proxy 127.0.0.1:{self.proxyPort} requires a user and a password: put them into its URL"
            )
            self.assertNotIn("guess", str(refused))
        talk.transport.loseConnection()
        yield self.echo.lost

    @inlineCallbacks
    def test_aServerThatTheProxyCannotReach(self) -> Any:
        yield self.begin()
        gone = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.echo)
        port = gone.getHost().port
        yield gone.stopListening()
        failed = yield self.assertFailure(self.way(port=port).connect(quiet(Talk)), ProxyFailed)
        self.assertEqual(failed.status, 502)

    @inlineCallbacks
    def test_aCertificateThatIsNotTrusted(self) -> Any:
        yield self.begin()
        failed = yield self.assertFailure(self.way(root=Authority("another")).connect(quiet(Talk)), ProxyRejected)
        self.assertEqual(
            failed.cause, f"no TLS with the proxy 127.0.0.1:{self.proxyPort}: its certificate is issued by \"test root\", an "
            "authority that is not trusted here",
        )
        self.assertIn("SSL_CERT_FILE", failed.remedy)
        self.assertEqual(str(failed), f"{failed.cause}; {failed.remedy}")
        self.assertEqual(self.between.asked, [], "it was told nothing")

    @inlineCallbacks
    def test_aCertificateForAnotherNameIsRejected(self) -> Any:
        yield self.begin()
        failed = yield self.assertFailure(self.way(name="proxy.example").connect(quiet(Talk)), ProxyRejected)
        self.assertEqual(
            failed.cause, f"no TLS with the proxy 127.0.0.1:{self.proxyPort}: its certificate is for edge.example, 127.0.0.1, "
            "localhost, not for proxy.example"
        )
        self.assertEqual(self.between.asked, [], "it was told nothing")

    @inlineCallbacks
    def test_aProxyWithoutTLSIsReported(self) -> Any:
        """
        Somebody wrote C{https:} where C{http:} was meant.
        """
        yield self.begin(proxy=False)
        self.between.protocol = Answer
        failed = yield self.assertFailure(self.way().connect(quiet(Talk)), ProxyFailed)
        self.assertEqual(
            str(failed), f"no TLS with the proxy 127.0.0.1:{self.proxyPort}: the peer does not use TLS"
        )

    @inlineCallbacks
    def test_anotherServerWithTLSIsRejected(self) -> Any:
        yield self.begin()
        self.between.protocol = Answer
        yield self.assertFailure(self.way().connect(quiet(Talk)), NotAProxy)

    @inlineCallbacks
    def test_cancellingDuringTheHandshakeClosesTheConnection(self) -> Any:
        yield self.begin(proxy=False)
        met: Deferred[Any] = Deferred()

        class Mute(Protocol):
            def dataReceived(self, data: bytes) -> None:
                if not met.called:
                    met.callback(self)

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                gone.callback(None)

        gone: Deferred[None] = Deferred()
        self.between.protocol = Mute
        attempt = self.way().connect(quiet(Talk))
        yield met
        attempt.cancel()
        yield self.failureResultOfLater(attempt)
        yield gone

    def failureResultOfLater(self, attempt: Deferred[Any]) -> Deferred[Any]:
        return attempt.addCallbacks(lambda _: self.fail("it did not fail"), lambda failure: None)


class Answer(Protocol):
    """
    Says something else than a proxy.
    """

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"SSH-2.0-OpenSSH\r\n\r\n")  # type: ignore[union-attr]
