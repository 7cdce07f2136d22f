"""
The UDP handler: what it learns of the server that it sends to.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, DNSLookupError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tunnelstack.handler.udp import UDPHandler
from tunnelstack.interfaces import (
    IDatagramClientEndpoint,
    IDatagramFactory,
    IDatagramProtocol,
    IDiallingHandler,
)
from tunnelstack.stream.address import StreamAddress


@implementer(IDatagramClientEndpoint)
class Server:
    """
    A server that is there, or whose name has no address.
    """

    def __init__(self) -> None:
        self.known = True
        self.ends: list[IDatagramProtocol] = []

    def connect(self, factory: IDatagramFactory) -> Deferred[IDatagramProtocol]:
        if not self.known:
            return fail(DNSLookupError())
        self.ends.append(factory.buildProtocol(None))
        return succeed(self.ends[-1])


class UDPHandlerTests(SynchronousTestCase):
    """
    A server that is there, and one that is not.
    """

    def setUp(self) -> None:
        self.server = Server()
        self.failed: list[Failure] = []
        self.answers = 0
        self.handler = UDPHandler(self.server, failed=self.failed.append, answered=self.answered)

    def answered(self) -> None:
        self.answers += 1

    def test_theHandlerProvidesItsInterface(self) -> None:
        verifyObject(IDiallingHandler, self.handler)

    def test_theFirstDatagramOfTheServerIsReported(self) -> None:
        self.successResultOf(self.handler.connect(StreamAddress()))
        self.assertEqual(self.answers, 0)
        for _ in range(3):
            self.server.ends[0].datagramReceived(b"answer")
        self.server.ends[0].connectionLost(Failure(ConnectionDone()))
        self.assertEqual((self.answers, self.failed), (1, []))

    def test_aServerThatDoesNotListenIsReported(self) -> None:
        self.successResultOf(self.handler.connect(StreamAddress()))
        self.server.ends[0].connectionLost(Failure(ConnectionRefusedError()))
        self.assertTrue(self.failed[0].check(ConnectionRefusedError))

    def test_aNameWithoutAddressIsReported(self) -> None:
        self.server.known = False
        self.failureResultOf(self.handler.connect(StreamAddress()), DNSLookupError)
        self.assertEqual(len(self.failed), 1)
