"""
Connecting and listening over real sockets: TLS with ALPN, prior knowledge, and servers that speak something else.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from tests.transport.certificates import Authority
from tests.transport.http2 import GET, OK, Remember
from tunnelstack.transport.http2.alpn import ALPN_HTTP1, ALPN_HTTP2
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.transport.http2.endpoint import HTTP2ClientEndpoint, HTTP2ServerFactory
from tunnelstack.transport.http2.errors import HTTP2ConnectionLost
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.tls import ALPNFactory, clientContext, serverContext
from tunnelstack.wire.http2.errors import NotHTTP2
from tunnelstack.wire.http2.preface import PREFACE, match_preface


class Answering(Remember):
    """
    Answers each request.
    """

    def ended(self, trailers: Any) -> None:
        self.stream.sendHeaders(OK)
        self.stream.write(b"answer to %s" % str(self.stream.getHost().port).encode())
        self.stream.end()


class Over(Remember):
    """
    A receiver with a Deferred of its end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.over: Deferred[bytes] = Deferred()

    def closed(self) -> None:
        self.over.callback(self.body)

    def failed(self, reason: Any) -> None:
        self.over.errback(reason)


class SpeakingFirst(Protocol):
    """
    Another protocol, which sends a line and closes when it receives anything.
    """

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")       # type: ignore[union-attr]
        self.transport.loseConnection()                                 # type: ignore[union-attr]


class Recognizing(Protocol):
    """
    Reads the first octets, and gives the transport to HTTP/2 if they are its.
    """

    transport: Any
    first = b""

    def dataReceived(self, data: bytes) -> None:
        self.first += data
        if match_preface(self.first):
            connection = HTTP2Connection(False, clock=reactor, accept=Answering)     # type: ignore[arg-type]
            self.transport.protocol = connection
            connection.makeConnection(self.transport)
            connection.dataReceived(self.first)


class EndpointTests(TestCase):
    """
    Clients and servers on loopback.
    """

    @inlineCallbacks
    def listen(self: Any, factory: Any) -> Any:
        port = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        return TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)

    @inlineCallbacks
    def exchange(self: Any, below: Any) -> Any:
        connection = yield HTTP2ClientEndpoint(reactor, below).connect()
        receiver = Over()
        connection.openStream(GET, receiver, True)
        body = yield receiver.over
        self.assertEqual(body, b"answer to %d" % connection.getPeer().port)
        yield connection.drain()
        return connection

    @inlineCallbacks
    def test_priorKnowledgeSuffices(self: Any) -> Any:
        below = yield self.listen(HTTP2ServerFactory(reactor, Answering))
        yield self.exchange(below)

    @inlineCallbacks
    def test_anotherProtocolRecognizesThePreface(self: Any) -> Any:
        below = yield self.listen(Factory.forProtocol(Recognizing))
        yield self.exchange(below)

    @inlineCallbacks
    def test_alpnSelectsHTTP2(self: Any) -> Any:
        authority = Authority()
        factory = ALPNFactory(
            {ALPN_HTTP2: HTTP2ServerFactory(reactor, Answering), ALPN_HTTP1: Factory.forProtocol(SpeakingFirst)}, reactor
        )
        context = serverContext(authority.identity("localhost"), alpn=[ALPN_HTTP2, ALPN_HTTP1])
        below = yield self.listen(factory.wrap(context))
        client = clientContext("localhost", ca=[authority.certificate], alpn=[ALPN_HTTP2])
        yield self.exchange(SecureEndpoint(reactor, "localhost", below, client, alpn=ALPN_HTTP2))

    @inlineCallbacks
    def test_anotherProtocolThatTLSSelectedIsRefused(self: Any) -> Any:
        authority = Authority()
        factory = ALPNFactory({ALPN_HTTP1: Factory.forProtocol(SpeakingFirst)}, reactor)
        below = yield self.listen(factory.wrap(serverContext(authority.identity("localhost"), alpn=[ALPN_HTTP1])))
        client = clientContext("localhost", ca=[authority.certificate], alpn=[ALPN_HTTP2, ALPN_HTTP1])
        connecting = HTTP2ClientEndpoint(reactor, SecureEndpoint(reactor, "localhost", below, client)).connect()
        yield self.assertFailure(connecting, NotHTTP2)

    @inlineCallbacks
    def test_aServerThatSpeaksSomethingElseIsRefused(self: Any) -> Any:
        below = yield self.listen(Factory.forProtocol(SpeakingFirst))
        yield self.assertFailure(HTTP2ClientEndpoint(reactor, below).connect(), NotHTTP2)

    @inlineCallbacks
    def test_aServerThatClosesIsReported(self: Any) -> Any:
        class Closing(Protocol):
            def connectionMade(self) -> None:
                self.transport.loseConnection()       # type: ignore[union-attr]

        below = yield self.listen(Factory.forProtocol(Closing))
        yield self.assertFailure(HTTP2ClientEndpoint(reactor, below).connect(), HTTP2ConnectionLost)

    @inlineCallbacks
    def test_aRefusedConnectionIsReported(self: Any) -> Any:
        port = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Protocol))
        number = port.getHost().port
        yield port.stopListening()
        connecting = HTTP2ClientEndpoint(reactor, TCP4ClientEndpoint(reactor, "127.0.0.1", number)).connect()
        yield self.assertFailure(connecting, ConnectionRefusedError)

    @inlineCallbacks
    def test_anAttemptCanBeCancelled(self: Any) -> Any:
        lost: Deferred[None] = Deferred()

        class Silent(Protocol):
            def dataReceived(self, data: bytes) -> None:
                connecting.cancel()

            def connectionLost(self, reason: Any = None) -> None:
                lost.callback(None)

        below = yield self.listen(Factory.forProtocol(Silent))
        connecting = HTTP2ClientEndpoint(reactor, below).connect()
        yield self.assertFailure(connecting, CancelledError)
        yield lost


class PrefaceTests(TestCase):
    """
    The first octets.
    """

    def test_thePrefaceIsRecognizedAtEveryLength(self) -> None:
        for length in range(len(PREFACE)):
            self.assertIsNone(match_preface(PREFACE[:length]))
            self.assertIs(match_preface(PREFACE[:length] + b"\0"), False)
        self.assertIs(match_preface(PREFACE), True)
        self.assertIs(match_preface(PREFACE + b"more"), True)
        self.assertIs(match_preface(b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n"), False)
