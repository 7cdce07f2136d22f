"""
Bulk over links that are slow, far, or stall: sessions stay alive, what is urgent overtakes, and fast links lose nothing.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.session.links import Line, Sessions
from tunnelstack.stream.errors import SessionLost
from tunnelstack.wire.yamux.limits import SessionLimits

SOAK = os.environ.get("TUNNELSTACK_SOAK") == "1"
HOUR = 3600.0
KIB = 1024


class Source(Protocol):
    """
    Writes for as long as it may.
    """

    block = bytes(64 * KIB)
    paused = True

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def resumeProducing(self) -> None:
        self.paused = False
        while not self.paused:
            self.transport.write(self.block)

    def pauseProducing(self) -> None:
        self.paused = True

    stopProducing = pauseProducing


class Sink(Protocol):
    """
    Counts.
    """

    got = 0

    def dataReceived(self, data: bytes) -> None:
        self.got += len(data)


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Asking(Protocol):
    """
    Sends 64 octets, and again when they have come back.

    @ivar trips: seconds of each round.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._sent = 0.0
        self._got = 0
        self.trips: list[float] = []

    def connectionMade(self) -> None:
        self._sent = self._clock.seconds()
        self.transport.write(bytes(64))

    def dataReceived(self, data: bytes) -> None:
        self._got += len(data)
        if self._got == 64:
            self._got = 0
            self.trips.append(self._clock.seconds() - self._sent)
            self._clock.callLater(1.0, self.connectionMade)


class Transfer:
    """
    Bulk in one direction, a ping-pong beside it, and pings of both ends as a Go peer sends them: every 30 s.

    @ivar sink: has what arrived.
    @ivar asking: the ping-pong.
    @ivar pings: seconds of the round trip of each ping.
    """

    def __init__(
        self, line: Line, webSocket: bool, upward: bool, limits: SessionLimits | None = None, bulk: bool = True
    ) -> None:
        self.sessions = sessions = Sessions(line, webSocket, limits or SessionLimits())
        self.clock = sessions.clock
        self.pings: list[float] = []
        opener, taker = (sessions.near, sessions.far) if upward else (sessions.far, sessions.near)
        self.taker = taker
        protocols = [Sink(), Echo()]
        self.sink: Any = protocols[0]
        taking = Factory()
        taking.buildProtocol = lambda address: protocols.pop(0)  # type: ignore[method-assign,assignment]
        taker.listener.listen(taking)
        self.source = Source()
        self.asking = Asking(self.clock)
        self._open(opener, self.source)
        self._open(opener, self.asking)
        if bulk:
            self.source.resumeProducing()
        self.clock.callLater(30.0, self._ping)
        self.lost: list[SessionLost] = []
        for session in (sessions.near, sessions.far):
            session.whenLost().addCallback(self.lost.append)

    def _open(self, session: Any, protocol: Protocol) -> None:
        factory = Factory()
        factory.buildProtocol = lambda address: protocol  # type: ignore[method-assign,assignment]
        session.connector.connect(factory)

    def _ping(self) -> None:
        for session in (self.sessions.near, self.sessions.far):
            answer: Deferred[float] = session.ping()
            answer.addCallbacks(self.pings.append, lambda failure: None)
        self.clock.callLater(30.0, self._ping)


class SlowLinkTests(SynchronousTestCase):
    """
    Each kind of link, in both directions, over both carriers.
    """

    def check(self, line: Line, seconds: float, trip: float, used: float = 0.9, every: bool = True) -> None:
        """
        Send bulk for so many seconds.

        @param trip: seconds within which pings and small streams come back.
        @param used: the part of the link that bulk has.
        @param every: both directions over both carriers, and not one of each.
        """
        for webSocket, upward in ((False, True), (True, False), (False, False), (True, True))[: 4 if every else 2]:
            transfer = Transfer(line, webSocket, upward)
            transfer.sessions.passTime(seconds)
            self.assertEqual(transfer.lost, [])
            self.assertGreater(transfer.sink.got, used * line.rate * (seconds - 4 * line.delay))
            self.assertGreater(len(transfer.pings), 2 * ((seconds - trip) // 30) - 1)
            self.assertLess(max([0.0, *transfer.pings, *transfer.asking.trips]), trip)

    def test_anHourOfBulkAt8kBAnd2SecondsOfDelayPasses(self) -> None:
        self.check(Line(rate=8e3, delay=2.0, queue=16 * KIB), HOUR, 10.0, every=SOAK)     # a Go peer waits for 10 s

    def test_smallStreamsOvertakeBulk(self) -> None:
        for line, trip in (
            (Line(rate=8e3, queue=4 * KIB), 8.0),
            (Line(rate=60e3, delay=0.05, queue=16 * KIB), 1.5),
            (Line(rate=1e6, delay=0.05, queue=64 * KIB), 0.4),
            (Line(rate=12.5e6, delay=0.02, queue=128 * KIB), 0.15),
        ):
            self.check(line, 60.0 if line.rate < 1e6 else 5.0, trip, every=SOAK)

    def test_lossIsNoDeath(self) -> None:
        self.check(Line(rate=60e3, delay=0.2, stalls=6, stall=6.0), HOUR / 12, 40.0, used=0.4, every=SOAK)

    def test_aRelayThatHoldsHalfAMinuteIsNoDeath(self) -> None:
        for rate in (4e3, 8e3, 60e3):
            self.check(Line(rate=rate, queue=256 * KIB, relay=True), HOUR / 4, 2 * 262144 / rate + 25.0, every=SOAK)

    def test_longAndFastLosesNothing(self) -> None:
        line = Line(rate=125e6, delay=0.05, queue=1024 * KIB)
        limits = SessionLimits(session_octets=64 * KIB * KIB)
        for webSocket, upward in ((False, True), (True, False))[: 2 if SOAK else 1]:
            transfer = Transfer(line, webSocket, upward, limits)
            transfer.sessions.passTime(1.5)
            before = transfer.sink.got
            transfer.sessions.passTime(0.5)
            self.assertGreater(transfer.sink.got - before, 0.95 * 0.5 * line.rate)

    def test_aWindowOfTheLimitsIsUsedWhole(self) -> None:
        transfer = Transfer(Line(rate=125e6, delay=0.05, queue=1024 * KIB), True, True)
        transfer.sessions.passTime(2.0)
        before = transfer.sink.got
        transfer.sessions.passTime(1.0)
        self.assertGreater(transfer.sink.got - before, 0.7 * 4.25 * KIB * KIB / 0.1)    # half of 8 MiB, and the first

    def test_aNearPeerGetsNoLargeWindow(self) -> None:
        transfer = Transfer(Line(rate=125e6, delay=0.0002, queue=64 * KIB), False, True)
        transfer.sessions.passTime(1.0)
        self.assertGreater(transfer.sink.got, 0.95 * 125e6)
        self.assertLessEqual(transfer.sessions.far.memory.growth, 256 * KIB)
        self.assertLess(max(transfer.asking.trips), 0.01)


class DeadPeerTests(SynchronousTestCase):
    """
    A peer that is gone without a word is missed, however much lies before the ping.
    """

    def lostAfter(self, transfer: Transfer, seconds: float) -> float:
        """
        Cut the link after so many seconds.

        @return: seconds until each end has lost its session.
        """
        transfer.sessions.passTime(seconds)
        for end in transfer.sessions.link.ends:
            end.cut = True
        began = transfer.clock.seconds()
        while len(transfer.lost) < 2 and transfer.clock.seconds() < began + 300:
            transfer.sessions.passTime(1.0)
        return transfer.clock.seconds() - began

    def test_besideBulkItIsMissedWithinAPingAndAMinute(self) -> None:
        for rate in (8e3, 60e3):
            self.assertLessEqual(self.lostAfter(Transfer(Line(rate=rate, delay=0.2), True, True), 100.0), 91.0)

    def test_besideARelayThatTakesAll(self) -> None:
        line = Line(rate=8e3, queue=100_000 * KIB, relay=True)
        self.assertLessEqual(self.lostAfter(Transfer(line, True, True), 100.0), 91.0)

    def test_onAQuickLinkItIsMissedWithinAPingAndItsTimeOut(self) -> None:
        self.assertLessEqual(self.lostAfter(Transfer(Line(rate=1e6, delay=0.01), False, True, bulk=False), 100.0), 41.0)
