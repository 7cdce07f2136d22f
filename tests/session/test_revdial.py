"""
Sessions whose streams are WebSockets of their own: the promises of streams, and what is peculiar to them.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import (
    CannotListenError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NoProtocol,
)
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.promises.streams import Collect, StreamPromises
from tests.session.doors import BASE, Door, House, ToTheHouse
from tunnelstack.errors import PeerError
from tunnelstack.session.arrival_listener import UNCLAIMED
from tunnelstack.session.revdial.dialler import STREAM_LIMITS, PickUpError
from tunnelstack.stream.errors import (
    OpenTimeout,
    SessionClosed,
    SessionLost,
    TooManyStreams,
    UnsupportedPurpose,
)
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.wire.revdial import PENDING


class WholeTests(StreamPromises, SynchronousTestCase):
    """
    Streams over wires that deliver everything there is.
    """

    cut: int | None = None
    halfClose = abortSeen = lateData = shared = False

    def connectSessions(self) -> None:
        self.house = House(self.cut).joined()
        self.near, self.far = self.house.dialler, self.house.listener

    def settle(self) -> None:
        self.house.settle()

    def dropCarrier(self) -> None:
        self.house.wires[0].drop()


class CutTests(WholeTests):
    """
    The same, cut anywhere.
    """

    cut = 4093


class Joined(SynchronousTestCase):
    """
    What the tests of both sides share.
    """

    def setUp(self) -> None:
        self.house = House().joined()
        self.near, self.far = self.house.dialler, self.house.listener
        self.accepted: list[Any] = []

    def accept(self) -> None:
        test = self

        class Accepting(Factory):
            def buildProtocol(self, address: Any) -> Any:
                test.accepted.append(Collect())
                return test.accepted[-1]

        self.successResultOf(self.far.listener.listen(Accepting()))

    def connect(self) -> Deferred[Any]:
        return self.near.connector.connect(Factory.forProtocol(Collect))

    def open(self) -> Any:
        opening = self.connect()
        self.house.settle()
        return self.successResultOf(opening)


class DiallerTests(Joined):
    """
    The side that asks.
    """

    def test_oneConnectionIsRequestedForEachDial(self) -> None:
        self.accept()
        first, second = self.open(), self.open()
        self.assertEqual(len(self.house.reached), 2)
        for path in self.house.reached:
            self.assertRegex(path, rf"^{BASE}\?revdial\.dialer={self.near.identifier}&uuid=[0-9a-f-]{{36}}$")
        self.assertEqual([first.transport.streamId, second.transport.streamId], [1, 2])
        self.assertEqual([end.transport.address.streamId for end in self.accepted], [1, 2])
        first.transport.write(b"for the first")
        second.transport.write(b"for the second")
        self.house.settle()
        self.assertEqual([end.got for end in self.accepted], [b"for the first", b"for the second"])

    def test_answersOutOfOrderFindTheirQuestions(self) -> None:
        self.accept()
        held: list[tuple[Deferred[Any], Any, Any]] = []
        reach = self.house.reach

        def later(path: str) -> Any:
            endpoint = reach(path)

            class Later:
                def connect(self, factory: Any) -> Deferred[Any]:
                    held.append((Deferred(), endpoint, factory))
                    return held[-1][0]

            return Later()

        self.house.reach = later
        openings = [self.near.connector.connect(Factory.forProtocol(Collect)) for _ in range(3)]
        self.house.settle()
        for outcome, endpoint, factory in reversed(held):
            endpoint.connect(factory).chainDeferred(outcome)
            self.house.settle()
        for number, opening in enumerate(openings):
            self.successResultOf(opening).transport.write(b"%d" % number)
        self.house.settle()
        self.assertEqual([end.got for end in self.accepted], [b"2", b"1", b"0"])

    def test_nobodyPicksUp(self) -> None:
        self.far._onEvent = lambda event: None
        opening = self.connect()
        self.house.pass_(19)
        self.assertNoResult(opening)
        self.house.pass_(1)
        self.failureResultOf(opening, OpenTimeout)
        self.assertEqual(self.house.clock.getDelayedCalls().__len__(), 2, "a timer on each side is left")

    def test_aFailedPickUpFailsItsOwnQuestionOnly(self) -> None:
        self.accept()
        reach, failed = self.house.reach, []

        def sometimes(path: str) -> Any:
            if not failed:
                failed.append(path)

                class Refused:
                    def connect(self, factory: Any) -> Deferred[Any]:
                        return fail(ConnectionRefusedError())

                return Refused()
            return reach(path)

        self.house.reach = sometimes
        first, second = self.connect(), self.connect()
        self.house.settle()
        self.assertIn("refused", self.failureResultOf(first, PickUpError).value.details["reason"])
        self.successResultOf(second)

    def test_aCancelledQuestionIsAnsweredInVain(self) -> None:
        self.accept()
        opening = self.connect()
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.house.settle()
        self.assertEqual((len(self.house.reached), self.accepted, self.near.streams), (1, [], 0))
        self.open()
        self.assertEqual(len(self.accepted), 1)

    def test_anApplicationMayCancelWhatConnectedIt(self) -> None:
        class Cancelling(Collect):
            def connectionMade(self) -> None:
                opening.cancel()

        self.accept()
        opening = self.near.connector.connect(Factory.forProtocol(Cancelling))
        self.house.settle()
        self.failureResultOf(opening, CancelledError)
        self.assertEqual(self.near.streams, 0)
        self.assertTrue(self.near.connected)

    def test_anAnswerIsTakenOnce(self) -> None:
        self.accept()
        self.open()
        path = self.house.reached[0]
        again = self.house.reach(path).connect(Factory.forProtocol(Collect))
        self.house.settle()
        self.failureResultOf(again)
        self.assertEqual(self.near.streams, 1)

    def test_twoAnswersAtOnceAreOne(self) -> None:
        """
        Both were let in by the door before either was a WebSocket.
        """
        opening = self.connect()
        (ticket,) = self.near.pending
        factories = [self.house.pickUps.take(self.near.identifier, ticket) for _ in range(2)]
        answers = []
        for factory in factories:
            door = Door(self.house)
            door.house = type("", (), {"pickUps": _Given(factory), "clock": self.house.clock})()  # type: ignore[assignment]
            endpoint = WebSocketClientEndpoint(
                self.house.clock, "ws://edge.example/?revdial.dialer=a&uuid=b", limits=STREAM_LIMITS,
                endpoint=ToTheHouse(self.house, lambda door=door: door),
            )  # fmt: skip
            answers.append(endpoint.connect(Factory.forProtocol(Collect)))
        self.house.settle()
        self.successResultOf(opening)
        self.assertIsNone(self.successResultOf(answers[0]).reason)
        self.failureResultOf(answers[1])

    def test_anUnknownIdentifierIsNobodys(self) -> None:
        self.connect()
        (ticket,) = self.near.pending
        self.assertIsNone(self.house.pickUps.take("0" * 32, ticket))
        self.assertIsNone(self.house.pickUps.take(self.near.identifier, "11111111-2222-4333-8444-555555555555"))
        self.assertIsNotNone(self.house.pickUps.take(self.near.identifier, ticket))

    def test_whoAsksTooMuchWaits(self) -> None:
        self.far._onEvent = lambda event: None
        for _ in range(PENDING):
            self.assertNoResult(self.connect())
        self.failureResultOf(self.connect(), TooManyStreams)

    def test_anApplicationThatDeclinesCostsItsStream(self) -> None:
        self.accept()

        class Declining(Factory):
            def buildProtocol(self, address: Any) -> None:
                return None

        opening = self.near.connector.connect(Declining())
        self.house.settle()
        self.failureResultOf(opening, NoProtocol)
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))

    def test_theProbeIsAStreamThatNobodyNeeds(self) -> None:
        self.accept()
        answer = self.near.ping()
        self.house.clock.advance(0.25)
        self.house.settle()
        self.assertEqual(self.successResultOf(answer), 0.25)
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))

    def test_theListenerHasNoProbeUnlessItIsGivenOne(self) -> None:
        self.failureResultOf(self.far.ping(), UnsupportedPurpose)

    def test_nothingIsOpenedFromTheOtherSide(self) -> None:
        self.failureResultOf(self.far.connector.connect(Factory.forProtocol(Collect)), UnsupportedPurpose)
        port = self.successResultOf(self.near.listener.listen(Factory.forProtocol(Collect)))
        self.successResultOf(port.stopListening())

    def test_lossFailsWhoeverWaits(self) -> None:
        self.far._onEvent = lambda event: None
        opening, lost = self.connect(), self.near.whenLost()
        self.house.wires[0].drop()
        self.failureResultOf(opening, SessionLost)
        self.assertIsInstance(self.successResultOf(lost), SessionLost)
        self.assertIsInstance(self.successResultOf(self.near.whenLost()), SessionLost)
        self.failureResultOf(self.connect(), SessionLost)
        self.failureResultOf(self.near.ping(), SessionLost)
        self.assertEqual(self.house.clock.getDelayedCalls(), [])

    def test_aDiallerThatIsGonePicksNothingUp(self) -> None:
        self.assertEqual(len(self.house.pickUps), 1)
        self.house.wires[0].drop()
        self.assertEqual(len(self.house.pickUps), 0)

    def test_abortEndsTheStreamsToo(self) -> None:
        self.accept()
        near = self.open()
        self.near.abort()
        self.house.settle()
        self.assertTrue(near.reason.check(ConnectionLost) or near.reason)
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))
        self.assertIsInstance(self.successResultOf(self.near.whenLost()), SessionLost)

    def test_closeLeavesTheStreams(self) -> None:
        self.accept()
        near = self.open()
        self.near.close("somebody newer is here")
        self.house.settle()
        self.assertEqual(str(self.successResultOf(self.near.whenLost())), "somebody newer is here")
        self.assertIsInstance(self.successResultOf(self.far.whenLost()), SessionClosed)
        near.transport.write(b"still here")
        self.house.settle()
        self.assertEqual(self.accepted[0].got, b"still here")

    def test_drainClosesBehindTheLastStream(self) -> None:
        self.accept()
        near = self.open()
        drained = self.near.drain()
        self.failureResultOf(self.connect(), SessionClosed)
        self.house.settle()
        self.assertNoResult(drained)
        near.transport.loseConnection()
        self.house.settle()
        self.successResultOf(drained)
        self.assertIsInstance(self.successResultOf(self.far.whenLost()), SessionClosed)
        self.successResultOf(self.near.drain())

    def test_octetsAreCountedOverAllStreams(self) -> None:
        self.accept()
        first, second = self.open(), self.open()
        first.transport.write(b"12345")
        second.transport.write(b"678")
        self.accepted[0].transport.write(b"9")
        self.house.settle()
        first.transport.loseConnection()
        self.house.settle()
        self.assertEqual((self.near.octetsOut, self.near.octetsIn, self.near.streams), (8, 1, 1))
        self.assertEqual((self.far.octetsOut, self.far.octetsIn), (1, 8))


class _Given:
    def __init__(self, factory: Any) -> None:
        self.factory = factory

    def take(self, identifier: str, ticket: str) -> Any:
        return self.factory


class LivenessTests(Joined):
    """
    Lines every 30 seconds, and the end without them.
    """

    def test_bothLiveForEver(self) -> None:
        self.house.pass_(600)
        self.assertNoResult(self.near.whenLost())
        self.assertNoResult(self.far.whenLost())

    def test_aDiallerThatSaysNothingIsGivenUp(self) -> None:
        self.near.transport = StringTransport()      # its lines arrive nowhere
        lost = self.far.whenLost()
        self.house.pass_(34)
        self.assertNoResult(lost)
        self.house.pass_(36)
        self.assertIn("no heartbeat", str(self.successResultOf(lost)))

    def test_badLinesEndTheSession(self) -> None:
        for line in (b"no JSON\n", b"[]\n", b'{"command":1}\n', b"x" * 5000):
            house = House().joined()
            house.listener.transport.write(line)
            house.settle()
            self.assertIn("broke the protocol", str(self.successResultOf(house.dialler.whenLost())))
            self.assertIsInstance(self.successResultOf(house.listener.whenLost()), SessionLost)
            self.assertEqual(house.clock.getDelayedCalls(), [])

    def test_aPeerThatReadsNothingIsGivenUp(self) -> None:
        self.near.pauseProducing()
        self.house.clock.advance(9)
        self.near.resumeProducing()
        self.house.clock.advance(9)
        self.assertNoResult(self.near.whenLost())
        self.near.pauseProducing()
        self.house.pass_(10)
        self.assertIn("does not read", str(self.successResultOf(self.near.whenLost())))

    def test_linesCutAnywhere(self) -> None:
        for cut in (1, 7):
            house = House(cut).joined()
            opening = house.dialler.connector.connect(Factory.forProtocol(Collect))
            house.settle()
            self.successResultOf(opening)


class ListenerTests(Joined):
    """
    The side that is asked.
    """

    def test_streamsWaitForAFactory(self) -> None:
        near = self.open()
        near.transport.write(b"waited")
        self.house.settle()
        self.accept()
        self.house.settle()
        self.assertEqual(self.accepted[0].got, b"waited")

    def test_noMoreWaitThanMay(self) -> None:
        openings = [self.connect() for _ in range(UNCLAIMED + 1)]
        self.house.settle()
        outcomes: list[Any] = []
        for opening in openings:
            opening.addBoth(outcomes.append)
        refused = [outcome for outcome in outcomes if not isinstance(outcome, Collect)]
        self.assertEqual([bool(outcome.check(PickUpError)) for outcome in refused], [True])

    def test_onlyOneFactoryListens(self) -> None:
        self.accept()
        self.failureResultOf(self.far.listener.listen(Factory.forProtocol(Collect)), CannotListenError)
        self.successResultOf(self.far.listener.stopListening())
        self.successResultOf(self.far.listener.listen(Factory.forProtocol(Collect)))

    def test_aFactoryThatDeclinesOrFailsCostsItsStream(self) -> None:
        class Failing(Factory):
            def buildProtocol(self, address: Any) -> None:
                if address.streamId == 1:
                    raise ZeroDivisionError

        self.far.listener.listen(Failing())
        for _ in range(2):
            self.assertIsNotNone(self.open().reason)
        self.assertEqual(self.far.streams, 0)
        self.assertNoResult(self.far.whenLost())

    def test_aPathThatLeadsElsewhereIsNotTaken(self) -> None:
        def elsewhere(path: str) -> Any:
            raise PeerError("that is not on this edge")

        self.house.reach = elsewhere
        opening = self.connect()
        self.house.settle()
        self.assertEqual(self.failureResultOf(opening, PickUpError).value.details["reason"], "that is not on this edge")

    def test_aDoorThatDoesNotKnowUsIsReportedOnce(self) -> None:
        self.house.pickUps.discard(self.near)
        opening = self.connect()
        self.house.settle()
        self.failureResultOf(opening, PickUpError)

    def test_aPickUpThatTakesTooLongIsReported(self) -> None:
        class Never:
            def connect(self, factory: Any) -> Deferred[Any]:
                return Deferred()

        self.house.reach = lambda path: Never()
        said: list[tuple[str, str]] = []
        self.far._wire.report_failure = lambda path, reason: said.append((path, reason))
        self.connect().addErrback(lambda _: None)
        self.house.settle()
        self.house.pass_(19)
        self.assertEqual(said, [])
        self.house.pass_(1)
        self.assertEqual(len(said), 1)

    def test_lossStopsTheDialling(self) -> None:
        dialled: list[Deferred[Any]] = []

        class Never:
            def connect(self, factory: Any) -> Deferred[Any]:
                dialled.append(Deferred())
                return dialled[0]

        self.house.reach = lambda path: Never()
        self.connect().addErrback(lambda _: None)
        self.house.settle()
        self.house.wires[0].drop()
        self.assertTrue(dialled[0].called)
        self.assertEqual(self.house.clock.getDelayedCalls(), [])

    def test_aListenerThatGoesAwayPicksNothingUp(self) -> None:
        self.accept()
        self.far.goAway()
        opening = self.connect()
        self.house.settle()
        self.failureResultOf(opening, PickUpError)

    def test_aListenerThatDrainsDisconnectsAndItsStreamsSurvive(self) -> None:
        self.accept()
        near = self.open()
        drained = self.far.drain()
        opening = self.connect()
        self.house.settle()
        self.failureResultOf(opening, SessionLost)
        self.assertIsInstance(self.successResultOf(self.near.whenLost()), SessionLost)
        self.successResultOf(self.near.whenGoingAway())
        near.transport.write(b"still")
        self.house.settle()
        self.assertEqual(self.accepted[0].got, b"still")
        self.assertNoResult(drained)
        near.transport.loseConnection()
        self.house.settle()
        self.successResultOf(drained)
        self.assertTrue(near.reason.check(ConnectionDone))
        self.successResultOf(self.far.drain())

    def test_aListenerThatDrainsMakesTheConnectionsThatWereRequested(self) -> None:
        self.accept()
        reach: Any = self.house.reach
        held: list[Any] = []

        class Late:
            def __init__(self, path: str) -> None:
                self.path = path

            def connect(self, factory: Any) -> Any:
                held.append((self.path, factory, Deferred()))
                return held[-1][2]

        self.house.reach = Late  # type: ignore[assignment, method-assign]
        opening = self.connect()
        self.house.settle()
        drained = self.far.drain()
        self.house.settle()
        self.assertNoResult(self.near.whenLost())
        path, factory, dialled = held[0]
        reach(path).connect(factory).chainDeferred(dialled)
        self.house.settle()
        near = self.successResultOf(opening)
        self.successResultOf(self.near.whenLost())
        self.assertNoResult(drained)
        near.transport.loseConnection()
        self.house.settle()
        self.successResultOf(drained)
