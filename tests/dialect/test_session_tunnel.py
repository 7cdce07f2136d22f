"""
The edge's end of a session, whose agent goes away; in virtual time.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.exchange.doubles import Recorder, Talker
from tunnelstack.dialect.session_tunnel import SessionTunnel
from tunnelstack.exchange.bounds import DEFAULT_BOUNDS
from tunnelstack.exchange.errors import Busy
from tunnelstack.interfaces import ITunnel
from tunnelstack.records import HTTPPurpose, Principal
from tunnelstack.testing import sessionPair
from tunnelstack.wire.http1.head import RequestHead

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Origin(Talker):
    """
    Closes when the visitor does.
    """

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()


class GoingAwayTests(SynchronousTestCase):
    """
    The agent accepts no more streams.
    """

    def setUp(self) -> None:
        self.origins: list[Origin] = []
        factory = Factory()
        factory.buildProtocol = lambda address: self.accept()  # type: ignore[method-assign]
        self.wire, session, self.agent = sessionPair(factory)
        self.tunnel: SessionTunnel[Any] = SessionTunnel(
            session, Principal(agent="site"), dialect="test", instance="", clock=self.wire.clock, bounds=DEFAULT_BOUNDS,
            endpointFor=lambda purpose, visitor, wait: session.connector,
        )
        self.wire.settle()

    def accept(self) -> Origin:
        self.origins.append(Origin())
        return self.origins[-1]

    def begin(self) -> Recorder:
        recorder = Recorder()
        exchange = self.tunnel.exchange(HTTPPurpose(), recorder)
        exchange.sendHead(RequestHead(b"GET", b"/", [(b"Host", b"a")]))
        exchange.end()
        self.wire.settle()
        return recorder

    def answer(self) -> None:
        self.origins[-1].say(OK)
        self.wire.settle()

    def goAway(self) -> Any:
        drained = self.agent.drain()
        self.wire.settle()
        return drained

    def test_anIdleStreamIsClosed(self) -> None:
        verifyObject(ITunnel, self.tunnel)
        self.begin()
        self.answer()
        self.assertEqual(self.agent.streams, 1)
        self.assertTrue(self.tunnel.healthy)
        self.successResultOf(self.goAway())
        self.assertFalse(self.tunnel.healthy)
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_anExchangeUnderWayIsFinished(self) -> None:
        recorder = self.begin()
        drained = self.goAway()
        self.assertFalse(self.tunnel.healthy)
        self.assertRaises(Busy, self.tunnel.exchange, HTTPPurpose(), Recorder())
        self.assertNoResult(drained)
        self.answer()
        self.assertEqual(recorder.body, b"ok")
        self.successResultOf(drained)

    def test_noTimerIsLeftOfASessionThatIsLost(self) -> None:
        self.begin()
        self.answer()
        self.begin()
        self.wire.drop()
        self.wire.settle()
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])
        self.assertFalse(self.tunnel.healthy)
