"""
A connection calls its protocol without the wrapper of its endpoint.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tunnelstack.transport.endpoint_wrapper import leaveWrapper


class Leaving(Protocol):
    """
    Leaves the wrapper as soon as it is connected.
    """

    transport: Any

    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        leaveWrapper(self.transport, self)

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(None)


class LeaveWrapperTests(TestCase):
    """
    Over TCP, with Twisted's endpoint.
    """

    async def test_theEndpointStillReportsItsProtocol(self) -> None:
        from twisted.internet import reactor

        server: Any = Factory.forProtocol(Protocol)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(server)
        self.addCleanup(port.stopListening)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        protocol: Any = await endpoint.connect(Factory.forProtocol(Leaving))
        self.assertIs(protocol.transport.protocol, protocol)
        protocol.transport.abortConnection()
        await protocol.lost


class OtherTransportTests(SynchronousTestCase):
    """
    Transports without a wrapper.
    """

    def test_aTransportWithoutProtocolIsLeftAsItIs(self) -> None:
        transport = StringTransport()
        leaveWrapper(transport, Protocol())
        self.assertFalse(hasattr(transport, "protocol"))

    def test_anotherProtocolIsNotReplaced(self) -> None:
        transport: Any = StringTransport()
        transport.protocol = other = Protocol()
        leaveWrapper(transport, Protocol())
        self.assertIs(transport.protocol, other)
