"""
The door behind TLS: real sockets, since Twisted's TLS is what is to be met.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.transport.certificates import authority, edge
from tunnelstack.control.auth.tokens import newToken
from tunnelstack.control.config.records import EdgeConfig, TokenRecord
from tunnelstack.dialect.native.dialler import NativeDialler, ServiceStreams
from tunnelstack.dialect.native.protocol import HTTP
from tunnelstack.edge.service import EdgeService
from tunnelstack.records import Service
from tunnelstack.stream.address import TunnelAddress
from tunnelstack.transport.tls import clientContext, serverContext


class Page(Protocol):
    """
    Says who asks.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        secure = b"X-Forwarded-Proto: https" in data
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + (b"secure" if secure else b"naked!"))


class Visitor(Protocol):
    """
    Collects an answer.
    """

    transport: Any
    got = b""
    ended = False

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True


class SecureTests(TestCase):
    """
    An edge that takes TLS.
    """

    timeout = 60

    @inlineCallbacks
    def test_agentsAndVisitorsComeInByTLS(self) -> Any:
        new = newToken()
        record = TokenRecord(name="laptop", tokenSha256=new.tokenSha256, allow=("http:*",), id=new.id)
        service = EdgeService(reactor, EdgeConfig(listen=("tcp:0:interface=127.0.0.1",), tokens=(record,)))
        ready = service.whenReady()
        service.startService()
        yield ready
        self.addCleanup(service.stopService)
        port = yield SSL4ServerEndpoint(reactor, 0, serverContext(edge()), interface="127.0.0.1").listen(service.public)
        self.addCleanup(port.stopListening)
        where, context = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), self.context()

        pages = Factory.forProtocol(Page)
        pages.noisy = False
        streams = ServiceStreams(("http",), lambda kind, name: pages, lambda kind, name: TunnelAddress(name=name))
        dialler = NativeDialler(
            reactor, "https://localhost", new.token, {HTTP: streams}, endpoint=wrapClientTLS(context, where)
        )
        link = yield dialler.dial()
        self.addCleanup(self.leave, link)
        yield link.announce(Service(name="site"))

        visitor = yield connectProtocol(wrapClientTLS(self.context(), where), Visitor())
        visitor.transport.write(b"GET / HTTP/1.1\r\nHost: site.localhost\r\nConnection: close\r\n\r\n")
        while not visitor.ended:
            yield deferLater(reactor, 0.01, lambda: None)
        self.assertTrue(visitor.got.endswith(b"\r\n\r\nsecure"), visitor.got)

        (tunnel,) = service.registry                          # and what is torn is gone at once, on both sides
        lost = tunnel.whenLost()
        link.abort("torn")
        yield lost
        self.assertEqual(len(service.registry), 0)

    def context(self) -> Any:
        return clientContext("localhost", ca=[authority().certificate])

    def leave(self, link: Any) -> Any:
        lost = link.whenLost()
        link.abort("the test is over")
        return lost
