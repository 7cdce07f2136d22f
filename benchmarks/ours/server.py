"""
The far side: accepts sessions, and serves /sink, /echo and /hold on their streams.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, KeyPair, PrivateCertificate
from twisted.internet.stdio import StandardIO
from zope.interface import implementer

from tunnelstack.negotiation.multistream import MultistreamFactory
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.transport.websocket.server import WebSocketServerFactory
from tunnelstack.wire.yamux.limits import SessionLimits

MANY = SessionLimits(max_streams=100_000)


@implementer(IHalfCloseableProtocol)
class Sink(Protocol):
    """
    Counts to the end, and answers with the count.
    """

    count = 0

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)

    def readConnectionLost(self) -> None:
        self.transport.write(b"%d\n" % self.count)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


class Echo(Protocol):
    """
    Sends back what comes.
    """

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


def quiet(protocol: Callable[[], Protocol]) -> Factory:
    """
    A factory that logs nothing.
    """
    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda address: protocol()  # type: ignore[method-assign,assignment,return-value]
    return factory


class Sessions(Factory):
    """
    A yamux server on every connection.
    """

    noisy = False

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        handlers = {b"/sink": Sink, b"/echo": Echo, b"/hold": Echo}
        self._streams = MultistreamFactory({name: quiet(protocol) for name, protocol in handlers.items()})

    def buildProtocol(self, address: Any) -> YamuxSession:
        session = YamuxSession(False, clock=self._reactor, limits=MANY)
        session.listener.listen(self._streams)
        return session


class Stdin(Protocol):
    """
    @ivar ended: fires at the end of stdin.
    """

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


async def untilStdinEnds(reactor: Any) -> None:
    """
    How a process that waits is told to go.
    """
    stdin = Stdin()
    StandardIO(stdin, reactor=reactor)
    await stdin.ended


async def main(reactor: Any, chosen: Namespace) -> None:
    """
    Listen, say the port, and go on until stdin ends.
    """
    factory: Any = Sessions(reactor)
    if chosen.carrier != "tcp":
        factory = WebSocketServerFactory(factory, clock=reactor)
    endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    if chosen.carrier == "wss":
        key = KeyPair.load(Path(chosen.key).read_bytes(), 1)
        certificate = PrivateCertificate.fromCertificateAndKeyPair(
            Certificate.loadPEM(Path(chosen.certificate).read_bytes()), key
        )
        endpoint = SSL4ServerEndpoint(reactor, 0, certificate.options(), interface="127.0.0.1")
    port = await endpoint.listen(factory)
    print(json.dumps({"port": port.getHost().port}), flush=True)
    await untilStdinEnds(reactor)
