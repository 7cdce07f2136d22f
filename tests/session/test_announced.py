"""
Announced streams: the promises of streams, and the pairing of announcements with the streams that arrive.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError, NoProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.promises.streams import Collect, HalfCollect, StreamPromises
from tunnelstack.session.announced import (
    LATE_SECONDS,
    MAX_ANNOUNCED,
    OPEN_SECONDS,
    AnnouncingSession,
    OpeningSession,
)
from tunnelstack.stream.errors import OpenTimeout, SessionLost, StreamResetError, TooManyStreams
from tunnelstack.testing import sessionPair

COLLECT = Factory.forProtocol(Collect)


class WholeTests(StreamPromises, SynchronousTestCase):
    """
    One side announces, the other opens.
    """

    cut: int | None = None

    def connectSessions(self) -> None:
        self.wire, below, far = sessionPair(cut=self.cut)
        self.far = OpeningSession(far)
        self.near = AnnouncingSession(below, lambda _: self.far.openStream(), self.wire.clock)

    def settle(self) -> None:
        self.wire.settle()

    def dropCarrier(self) -> None:
        self.wire.drop()


class CutTests(WholeTests):
    """
    The same, cut anywhere.
    """

    cut = 4093


class PairingTests(SynchronousTestCase):
    """
    The peer opens streams when the test says so.  Each says its name at once.
    """

    def setUp(self) -> None:
        self.wire, below, self.far = sessionPair()
        self.announced: list[object] = []
        self.near = AnnouncingSession(below, self.announced.append, self.wire.clock)
        self.wire.settle()

    def ask(self, what: object = "x", factory: Factory = COLLECT) -> Deferred[Any]:
        return self.near.connectorFor(what).connect(factory)

    def come(self, name: bytes) -> Any:
        """
        A stream of the peer arrives.
        """
        protocol = Collect()
        opening = self.far.connector.connect(Factory.forProtocol(lambda: protocol))  # type: ignore[arg-type]
        protocol.transport.write(name)  # type: ignore[union-attr]
        self.wire.settle()
        self.successResultOf(opening)
        return protocol

    def passTime(self, seconds: float) -> None:
        self.wire.clock.advance(seconds)
        self.wire.settle()

    def got(self, asked: Deferred[Any]) -> bytes:
        return bytes(self.successResultOf(asked).got)

    def assertRefused(self, stream: Any) -> None:
        self.assertTrue(stream.reason.check(StreamResetError), stream.reason)

    def test_firstComeFirstServed(self) -> None:
        asked = [self.ask(name) for name in "abc"]
        self.assertEqual((self.announced, self.near.waiting), (["a", "b", "c"], 3))
        for name in (b"a", b"b", b"c"):
            self.come(name)
        self.assertEqual([self.got(each) for each in asked], [b"a", b"b", b"c"])
        self.assertEqual(self.near.waiting, 0)

    def test_aCallIsConnectedBeforeOctetsOfItsStreamArrive(self) -> None:
        told: list[str] = []

        class Told(Protocol):
            def connectionMade(self) -> None:
                told.append("made")

            def dataReceived(self, data: bytes) -> None:
                told.append("data")

        self.ask("x", Factory.forProtocol(Told)).addCallback(lambda _: told.append("connected"))
        self.come(b"early")
        self.assertEqual(told, ["made", "connected", "data"])

    def test_aStreamThatIsLateIsReset(self) -> None:
        asked = self.ask("a")
        self.passTime(OPEN_SECONDS)
        self.failureResultOf(asked, OpenTimeout)
        self.assertRefused(self.come(b"a"))
        asked = self.ask("b")
        self.come(b"b")
        self.assertEqual(self.got(asked), b"b")

    def test_aLateStreamDoesNotShiftTheQueue(self) -> None:
        late = self.ask("a")
        self.passTime(OPEN_SECONDS)
        self.failureResultOf(late, OpenTimeout)
        asked = [self.ask(name) for name in "bc"]
        self.assertRefused(self.come(b"a"))
        for name in (b"b", b"c"):
            self.come(name)
        self.assertEqual([self.got(each) for each in asked], [b"b", b"c"])

    def test_aStreamThatNeverComesPoisonsNothing(self) -> None:
        """
        The genuine server would fail every later request.
        """
        never = self.ask("x")
        self.passTime(OPEN_SECONDS)
        self.failureResultOf(never, OpenTimeout)
        for name in (b"1", b"2", b"3"):
            asked = self.ask("x")
            self.come(name)
            self.assertEqual(self.got(asked), name)

    def test_afterATimeAStreamIsNotExpectedAnyMore(self) -> None:
        never = self.ask("a")
        self.passTime(OPEN_SECONDS)
        self.failureResultOf(never, OpenTimeout)
        self.passTime(LATE_SECONDS)
        asked = self.ask("b")
        self.come(b"b")
        self.assertEqual(self.got(asked), b"b")

    def test_aCancelledCallKeepsItsPlace(self) -> None:
        first, second = self.ask("a"), self.ask("b")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertRefused(self.come(b"a"))
        self.come(b"b")
        self.assertEqual(self.got(second), b"b")

    def test_aCallThatAskedForTheSameTakesTheStreamOfACancelledOne(self) -> None:
        first, second, third = self.ask("a"), self.ask("b"), self.ask("a")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.come(b"1")                    # of the first, taken by the third
        self.come(b"2")
        self.assertRefused(self.come(b"3"))
        self.assertEqual((self.got(third), self.got(second)), (b"1", b"2"))

    def test_aLateStreamDelaysNoDeadline(self) -> None:
        for name in "abc":
            asked = self.ask(name)
            self.passTime(OPEN_SECONDS)
            self.failureResultOf(asked, OpenTimeout)
            self.passTime(1.0)

    def test_deadlinesAreEachCallsOwn(self) -> None:
        first = self.ask("a")
        self.passTime(OPEN_SECONDS / 2)
        second = self.ask("b")
        self.passTime(OPEN_SECONDS / 2)
        self.failureResultOf(first, OpenTimeout)
        self.assertNoResult(second)
        self.passTime(OPEN_SECONDS / 2)
        self.failureResultOf(second, OpenTimeout)

    def test_announcementsAreBounded(self) -> None:
        asked = [self.ask() for _ in range(MAX_ANNOUNCED)]
        self.failureResultOf(self.ask(), TooManyStreams)
        self.assertEqual(len(self.announced), MAX_ANNOUNCED)
        for each in asked:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.failureResultOf(self.ask(), TooManyStreams)           # their streams may still come
        self.passTime(LATE_SECONDS + OPEN_SECONDS)
        self.assertNoResult(self.ask())

    def test_itReportsThatNoCallWaits(self) -> None:
        self.successResultOf(self.near.whenPaired())
        first, second, third = self.ask("a"), self.ask("b"), self.ask("c")
        paired = self.near.whenPaired()
        self.come(b"a")
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertNoResult(paired)
        self.passTime(OPEN_SECONDS)
        self.failureResultOf(third, OpenTimeout)
        self.successResultOf(paired)
        self.assertEqual(self.got(first), b"a")
        self.ask("d")
        paired = self.near.whenPaired()
        for _ in range(3):
            self.come(b"x")
        self.passTime(0)
        self.successResultOf(paired)
        lost = self.ask("e")
        paired = self.near.whenPaired()
        self.wire.drop()
        self.wire.settle()
        self.failureResultOf(lost, SessionLost)
        self.successResultOf(paired)

    def test_whatCannotBeAnnouncedFailsAtOnce(self) -> None:
        wire, below, _ = sessionPair()

        def announce(what: object) -> None:
            raise ZeroDivisionError

        near = AnnouncingSession(below, announce, wire.clock)
        wire.settle()
        self.failureResultOf(near.connector.connect(COLLECT), ZeroDivisionError)
        self.assertEqual(near.waiting, 0)

    def test_theLossOfTheSessionFailsWhatWaits(self) -> None:
        asked, late = self.ask("a"), self.ask("b")
        late.cancel()
        self.failureResultOf(late, CancelledError)
        self.wire.drop()
        self.wire.settle()
        self.failureResultOf(asked, SessionLost)
        self.failureResultOf(self.ask(), SessionLost)
        self.assertEqual(self.near.waiting, 0)

    def test_whatWasNotAnnouncedIsResetUnlessThereIsAFactoryForIt(self) -> None:
        self.assertRefused(self.come(b"stray"))
        taken = Collect()
        port = self.successResultOf(self.near.listener.listen(Factory.forProtocol(lambda: taken)))  # type: ignore[arg-type]
        self.failureResultOf(self.near.listener.listen(COLLECT), CannotListenError)
        self.assertIs(port.getHost(), self.near.address)
        port.startListening()
        self.come(b"control")
        self.assertEqual(taken.got, b"control")
        self.successResultOf(port.stopListening())
        self.assertRefused(self.come(b"stray"))

    def test_aFactoryThatFailsOrDeclinesLosesOneStream(self) -> None:
        class Broken(Factory):
            def buildProtocol(self, address: Any) -> Any:
                raise ZeroDivisionError

        broken, asked = self.ask("x", Broken()), self.ask("x")
        self.assertRefused(self.come(b"a"))
        self.failureResultOf(broken, ZeroDivisionError)
        self.come(b"b")
        self.assertEqual(self.got(asked), b"b")

        class Declining(Factory):
            def buildProtocol(self, address: Any) -> Any:
                return None

        declined = self.ask("x", Declining())
        self.assertRefused(self.come(b"c"))
        self.failureResultOf(declined, NoProtocol)

    @given(st.lists(st.sampled_from(["ask a", "ask b", "come", "cancel", "time"]), max_size=40))
    def test_noCallGetsTheStreamOfAnotherKind(self, steps: list[str]) -> None:
        """
        Streams come in the order of their announcements; whatever is late or cancelled, a call gets a stream of its own kind,
        and each stream goes to one call at most.
        """
        self.setUp()
        asked: list[tuple[bytes, Deferred[Any]]] = []
        come = 0
        for step in steps:
            if step.startswith("ask"):
                asked.append((step[-1:].encode(), self.ask(step[-1:])))
            elif step == "come" and come < len(self.announced):
                self.come(str(self.announced[come]).encode())
                come += 1
            elif step == "cancel" and asked:
                asked[len(asked) // 2][1].cancel()
            elif step == "time":
                self.passTime(OPEN_SECONDS / 4)
        results: list[Any] = []
        for kind, each in asked:
            each.addCallbacks(lambda protocol, kind=kind: results.append((kind, protocol)), lambda failure: None)  # type: ignore[misc]
        for kind, protocol in results:
            self.assertEqual(protocol.got, kind)
        self.assertEqual(len({id(protocol) for _, protocol in results}), len(results))
        self.wire.drop()
        self.wire.settle()


class OpeningTests(SynchronousTestCase):
    """
    The side that opens.
    """

    def setUp(self) -> None:
        self.wire, near, self.far = sessionPair()
        self.near = OpeningSession(near)
        self.accepted: list[Any] = []

        class Accepting(Factory):
            def buildProtocol(_, address: Any) -> Any:
                self.accepted.append(HalfCollect())
                return self.accepted[-1]

        self.far.listener.listen(Accepting())
        self.wire.settle()

    def test_theAddressHasWhatWasAnnounced(self) -> None:
        seen: list[Any] = []

        class Seeing(Factory):
            def buildProtocol(self, address: Any) -> Any:
                seen.append(address)
                return Collect()

        self.near.listener.listen(Seeing())
        self.failureResultOf(self.near.listener.listen(Seeing()), CannotListenError)
        self.successResultOf(self.near.openStream({"port": 80}))
        self.wire.settle()
        self.assertEqual((seen[0].parameters, len(self.accepted)), ({"port": 80}, 1))

    def test_announcementsWaitForAFactory(self) -> None:
        opened = [self.near.openStream() for _ in range(MAX_ANNOUNCED)]
        self.failureResultOf(self.near.openStream(), TooManyStreams)
        self.near.listener.listen(COLLECT)
        self.wire.settle()
        self.successResultOf(opened[0])
        self.assertGreater(len(self.accepted), 1)

    def test_whatTheFactoryDeclinesIsReset(self) -> None:
        class Declining(Factory):
            def buildProtocol(self, address: Any) -> Any:
                return None

        port = self.successResultOf(self.near.listener.listen(Declining()))
        self.failureResultOf(self.near.openStream(), NoProtocol)
        self.wire.settle()
        self.assertEqual(self.near.streams, 0)
        port.stopListening()
        self.assertNoResult(self.near.openStream())


