"""
The TCP handler: a stream waits until somebody is reached, and is refused if nobody is.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tunnelstack.handler.tcp import TCPHandler
from tunnelstack.interfaces import IDiallingHandler
from tunnelstack.stream.address import StreamAddress
from tunnelstack.testing import Caller, Network, Wire


class TCPHandlerTests(SynchronousTestCase):
    """
    Dialling for a stream.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.failed: list[Any] = []
        self.reached = 0
        self.handler = TCPHandler(
            clientFromString(self.network, "tcp:localhost:80"), self.network, failed=self.failed.append,
            connected=self.connected,
        )

    def connected(self) -> None:
        self.reached += 1

    def test_theHandlerProvidesItsInterface(self) -> None:
        verifyObject(IDiallingHandler, self.handler)

    def test_theStreamIsJoined(self) -> None:
        served = Caller()
        factory: Any = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda address: served
        self.network.listenTCP(80, factory)
        connecting = self.handler.connect(StreamAddress())
        self.assertNoResult(connecting)
        self.network.settle()
        stream, caller = Wire(clock=self.network), Caller()
        stream.connect(caller, self.successResultOf(connecting))
        caller.transport.write(b"question")
        served.transport.write(b"answer")
        while stream.turn() | self.network.turn():
            pass
        self.assertEqual((served.got, caller.got), (b"question", b"answer"))
        caller.transport.abortConnection()
        while stream.turn() | self.network.turn():
            pass
        self.assertIsNotNone(served.lost)
        self.assertEqual((self.reached, self.failed), (1, []))

    def test_nobodyIsThere(self) -> None:
        connecting = self.handler.connect(StreamAddress())
        self.network.settle()
        self.failureResultOf(connecting, ConnectionRefusedError)
        self.assertEqual((self.reached, len(self.failed)), (0, 1))

    def test_theOpenerMayGo(self) -> None:
        connecting = self.handler.connect(StreamAddress())
        connecting.cancel()
        failure = self.failureResultOf(connecting)
        self.assertFalse(failure.check(CancelledError) and self.network.wires)
        self.network.settle()
        self.assertEqual(self.failed, [], "the server may well be there")
        self.assertEqual(self.network.getDelayedCalls(), [])
