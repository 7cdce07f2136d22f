"""
Streams that are negotiated over a pair of sessions, at any chunking: who gets them, when, and what becomes of a no.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NoProtocol,
)
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.promises.streams import WINDOW, Collect, HalfCollect
from tunnelstack.errors import PeerError, Refused, Unavailable
from tunnelstack.interfaces import IDiallingHandler
from tunnelstack.negotiation.endpoint import TIMEOUT, NegotiatingEndpoint, NegotiatingFactory
from tunnelstack.negotiation.errors import NegotiationRefused, NegotiationTimeout
from tunnelstack.negotiation.multistream import MultistreamFactory, multistreamEndpoint
from tunnelstack.stream.errors import SessionLost, StreamResetError
from tunnelstack.testing import sessionPair
from tunnelstack.wire.negotiation.base import KnownExchange, Negotiation, NegotiationSequence, Release
from tunnelstack.wire.negotiation.json_object import OK_OR_REASON, JSONInitiator, JSONResponder
from tunnelstack.wire.negotiation.multistream.initiator import MultistreamInitiator
from tunnelstack.wire.negotiation.multistream.names import NameTable
from tunnelstack.wire.negotiation.multistream.responder import KnownOpenings, MultistreamResponder
from tunnelstack.wire.negotiation.multistream.tokens import HEADER, token

NAME = b"/demo/shout/1.0.0"
OPENING = HEADER + token(NAME)
EVERY = (Release.AT_ONCE, Release.ON_REPLY)


class Shout(Collect):
    """
    Says everything again, louder.
    """

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.write(data.upper())


class Greeter(HalfCollect):
    """
    Speaks as soon as it can.
    """

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.write(b"hello from the near side")


class Failing(Protocol):
    """
    Raises where it is told to.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.lost: Any = None

    def connectionMade(self) -> None:
        if self.where == "made":
            raise ZeroDivisionError

    def dataReceived(self, data: bytes) -> None:
        raise ZeroDivisionError

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


class Building(Factory):
    """
    Keeps what it built, and for whom.
    """

    def __init__(self, build: Any) -> None:
        self.build = build
        self.built: list[Any] = []
        self.addresses: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        self.addresses.append(addr)
        protocol = self.build()
        if protocol is not None:
            protocol.factory = self
            self.built.append(protocol)
        return protocol


@implementer(IDiallingHandler)
class Dialling:
    """
    A handler whose outcome the test decides.
    """

    def __init__(self) -> None:
        self.addresses: list[Any] = []
        self.cancelled: list[Any] = []
        self.dialled: Deferred[IProtocol] = Deferred(self.cancelled.append)

    def connect(self, address: Any) -> Deferred[IProtocol]:
        self.addresses.append(address)
        return self.dialled


class NegotiationTestCase(SynchronousTestCase):
    """
    Two sessions; the far one negotiates.
    """

    cut: int | None = None

    def setUp(self) -> None:
        self.wire, self.near, self.far = sessionPair(cut=self.cut)
        self.clock = self.wire.clock
        self.handler = Building(Shout)

    def serve(self, handlers: dict[bytes, Any] | None = None, **options: Any) -> MultistreamFactory:
        factory = MultistreamFactory(handlers or {NAME: self.handler}, **options)
        self.far.listener.listen(factory)
        return factory

    def raw(self, build: Any = Collect) -> list[Any]:
        """
        @return: what is built for the streams that arrive, which nobody negotiates.
        """
        factory = Building(build)
        self.far.listener.listen(factory)
        return factory.built

    def connect(self, build: Any = Collect, name: Any = NAME, **options: Any) -> Deferred[IProtocol]:
        endpoint = multistreamEndpoint(self.near.connector, name, **options)
        self.ours = Building(build)
        return endpoint.connect(self.ours)

    def assertClean(self) -> None:
        """
        Nothing is left of the streams, and no timer of a negotiation.
        """
        self.wire.settle()
        self.assertEqual((self.near.transports(), self.far.transports()), ([], []))
        self.assertEqual((self.near.scheduler.sharedTimer.waiting, self.far.scheduler.sharedTimer.waiting), (0, 0))


class WholeTests(NegotiationTestCase):
    """
    Over a wire that delivers everything there is.
    """

    def test_partsProvideTheirInterfaces(self) -> None:
        verifyObject(IStreamClientEndpoint, multistreamEndpoint(self.near.connector, NAME))
        verifyObject(IProtocolFactory, self.serve())
        party = MultistreamFactory({}).buildProtocol(None)
        verifyObject(IProtocol, party)
        verifyObject(IHalfCloseableProtocol, party)

    def test_octetsPassThereAndBack(self) -> None:
        self.serve()
        for release in EVERY:
            connected = self.connect(Greeter, release=release)
            self.wire.settle()
            ours = self.successResultOf(connected)
            self.assertEqual(ours.got, b"HELLO FROM THE NEAR SIDE")
            theirs = self.handler.built.pop()
            self.assertIs(theirs.transport.protocol, theirs)
            self.assertIs(ours.transport.protocol, ours)
            ours.transport.write(b" again")
            self.wire.settle()
            self.assertEqual(theirs.got, b"hello from the near side again")
            ours.transport.loseConnection()
            self.assertClean()
            for end in (ours, theirs):
                self.assertEqual(end.told[0], "made")
                self.assertTrue(end.reason.check(ConnectionDone))

    def test_parametersTravelWithTheName(self) -> None:
        self.serve(follow=lambda name: JSONResponder())
        for release in (*EVERY, Release.ON_FIRST_OCTET):
            self.handler.build = Greeter
            connected = self.connect(Collect, release=release, parameters={"volume": 11})
            self.wire.settle()
            ours = self.successResultOf(connected)
            ours.transport.write(b"data")
            self.wire.settle()
            self.assertEqual(ours.got, b"hello from the near side")
            self.assertEqual(self.handler.built.pop().got, b"data")
            self.assertEqual(self.handler.addresses[-1].parameters, {"volume": 11})

    def test_bothSidesKnowTheName(self) -> None:
        self.serve({NAME: self.handler, b"/other": self.handler})
        for release in EVERY:
            self.connect(name=b"/other", release=release)
            self.wire.settle()
            for address in (self.ours.addresses[0], self.handler.addresses[-1]):
                self.assertEqual(address.protocol, b"/other")
            streamId = self.ours.built[0].transport.streamId
            self.assertEqual((self.ours.addresses[0].streamId, self.handler.addresses[-1].streamId), (streamId, streamId))
            self.assertEqual(self.ours.built[0].transport.getPeer().protocol, b"/other")

    def test_firstKnownNameIsTaken(self) -> None:
        self.serve()
        connected = self.connect(Greeter, name=[b"/x", b"/y", NAME])
        self.wire.settle()
        self.assertEqual(self.successResultOf(connected).got, b"HELLO FROM THE NEAR SIDE")
        self.assertEqual(self.ours.addresses[0].protocol, NAME)

    def test_aStreamThatEndsWithItsRequest(self) -> None:
        self.serve()
        connected = self.connect(Greeter, release=Release.AT_ONCE)
        ours = self.successResultOf(connected)
        ours.transport.loseWriteConnection()
        self.wire.settle()
        self.assertEqual(ours.got, b"HELLO FROM THE NEAR SIDE")
        self.assertIn("write ended", ours.told)
        self.assertIn("read ended", ours.told)

    def test_aNameWithoutAHandlerIsRefused(self) -> None:
        self.serve()
        connected = self.connect(name=[b"/x", b"/y"])
        self.wire.settle()
        error = self.failureResultOf(connected, NegotiationRefused).value
        self.assertIsInstance(error, Refused)
        self.assertIsInstance(error, ConnectionLost)
        self.assertEqual(self.ours.built, [])
        self.assertClean()

    def test_whoDidNotWaitHearsOfTheRefusal(self) -> None:
        self.serve()
        ours = self.successResultOf(self.connect(Greeter, name=b"/x", release=Release.AT_ONCE))
        self.wire.settle()
        self.assertTrue(ours.reason.check(NegotiationRefused))
        self.assertEqual(ours.told.count("made"), 1)
        self.assertClean()

    def test_strictResetsAtTheFirstUnknownName(self) -> None:
        """
        What follows an unknown name is not taken for another proposal.
        """
        self.serve(strict=True)
        ours = self.successResultOf(self.connect(name=b"/x", release=Release.AT_ONCE))
        ours.transport.write(token(NAME) + b"smuggled")
        self.wire.settle()
        self.assertTrue(ours.reason.check(StreamResetError))
        self.assertEqual(self.handler.addresses, [])
        self.assertClean()

    def test_withoutStrictTheNextNameIsTaken(self) -> None:
        """
        The twin of the above, which shows that it can fail.
        """
        self.serve()
        ours = self.successResultOf(self.connect(name=b"/x", release=Release.AT_ONCE))
        ours.transport.write(token(NAME) + b"smuggled")
        self.wire.settle()
        self.assertEqual(self.handler.built[0].got, b"smuggled")


class CutTests(WholeTests):
    """
    The same, an octet at a time.
    """

    cut = 1


class SevenTests(WholeTests):
    """
    The same, seven octets at a time.
    """

    cut = 7


class ReleaseTests(NegotiationTestCase):
    """
    When the application's octets may leave.
    """

    def setUp(self) -> None:
        super().setUp()
        self.made: list[Negotiation] = []

    def negotiation(self) -> Negotiation:
        self.made.append(MultistreamInitiator(NAME, release=Release.AT_ONCE))
        return self.made[-1]

    def sent(self) -> list[bytes]:
        """
        @return: what the far side has got of each stream.
        """
        self.wire.settle()
        return [end.got for end in self.accepted]

    def test_atOnceLeavesInOneFrame(self) -> None:
        self.accepted = self.raw()
        ours = self.successResultOf(self.connect(Greeter, release=Release.AT_ONCE, parameters={"a": 1}))
        self.wire.settle()
        self.assertEqual(self.accepted[0].pieces, [OPENING + b'{"a":1}\n' + b"hello from the near side"])
        self.accepted[0].transport.write(OPENING + b"an")
        self.wire.settle()
        self.accepted[0].transport.write(b"swer")
        self.wire.settle()
        self.assertEqual(ours.got, b"answer")

    def test_anAnswerThatIsKnownNeedsNoNegotiation(self) -> None:
        self.accepted = self.raw()
        endpoint = NegotiatingEndpoint(self.near.connector, self.negotiation, known=KnownExchange(NAME, OPENING, OPENING))
        for pieces, count in ([OPENING + b"answer"], 0), ([OPENING, b"answer"], 0), ([HEADER, token(NAME), b"answer"], 1):
            ours = self.successResultOf(endpoint.connect(Building(Collect)))
            self.wire.settle()
            for piece in pieces:
                self.accepted[-1].transport.write(piece)
                self.wire.settle()
            self.assertEqual((ours.got, len(self.made)), (b"answer", count))
            self.assertIs(ours.transport.protocol, ours)
        self.assertEqual([end.got for end in self.accepted], 3 * [OPENING])
        self.assertEqual(self.near.scheduler.sharedTimer.waiting, 0)

    def test_manyThatAreOpenedTogetherAreAnsweredInOneFrameEach(self) -> None:
        self.serve()
        endpoint = NegotiatingEndpoint(self.near.connector, self.negotiation, known=KnownExchange(NAME, OPENING, OPENING))
        opened = [self.successResultOf(endpoint.connect(Building(Greeter))) for _ in range(60)]
        self.wire.settle()
        self.assertEqual({ours.got for ours in opened}, {b"HELLO FROM THE NEAR SIDE"})
        self.assertEqual(self.made, [], "no answer came in pieces")

    def test_onReplyWaits(self) -> None:
        self.accepted = self.raw()
        connected = self.connect(Greeter)
        self.assertEqual(self.sent(), [OPENING])
        for piece in (HEADER, token(NAME)[:3], token(NAME)[3:] + b"more"):
            self.assertNoResult(connected)
            self.accepted[0].transport.write(piece)
            self.wire.settle()
        self.assertEqual(self.successResultOf(connected).got, b"more")
        self.assertEqual(self.sent(), [OPENING + b"hello from the near side"])

    def test_onFirstOctetWaitsForTheApplication(self) -> None:
        self.accepted = self.raw()
        connected = self.connect(Greeter, release=Release.ON_FIRST_OCTET, parameters={"id": "x"})
        self.assertEqual(self.sent(), [OPENING])
        self.accepted[0].transport.write(OPENING)
        self.assertEqual(self.sent(), [OPENING + b'{"id":"x"}\n'])
        self.assertNoResult(connected)
        self.accepted[0].transport.write(b"SSH-2.0-Go\r\n")
        self.wire.settle()
        self.assertEqual(self.successResultOf(connected).got, b"SSH-2.0-Go\r\n")
        self.assertEqual(self.sent(), [OPENING + b'{"id":"x"}\n' + b"hello from the near side"])

    def test_onFirstOctetEndsWithoutOne(self) -> None:
        self.accepted = self.raw()
        for end in ("ends", "is late"):
            connected = self.connect(release=Release.ON_FIRST_OCTET, parameters={})
            self.wire.settle()
            self.accepted[-1].transport.write(OPENING)
            self.wire.settle()
            if end == "ends":
                self.accepted[-1].transport.loseConnection()
                self.wire.settle()
                self.failureResultOf(connected, NegotiationRefused)
            else:
                self.clock.advance(TIMEOUT)
                self.failureResultOf(connected, NegotiationTimeout)
        self.assertClean()

    def test_aPurposeMayNeedNoAnswer(self) -> None:
        self.accepted = self.raw()
        endpoint = NegotiatingEndpoint(self.near.connector, lambda: JSONInitiator({"go": 1}))
        connected = endpoint.connect(Building(Greeter))
        self.assertEqual(self.sent(), [b'{"go":1}\n' + b"hello from the near side"])
        ours = self.successResultOf(connected)
        self.assertIs(ours.transport.protocol, ours)
        self.assertEqual((self.near.scheduler.sharedTimer.waiting, self.far.scheduler.sharedTimer.waiting), (0, 0))

    def test_answersInALine(self) -> None:
        no = b'{"ok":false,"reason":"no"}\n'
        for answer, error in ((b'{"ok":true,"n":1}\nmore', None), (no, NegotiationRefused), (b"{}\n", StreamResetError)):
            self.wire, self.near, self.far = sessionPair(clock=self.clock)
            self.accepted = self.raw()
            connected = self.connect(Collect, release=Release.AT_ONCE, parameters={}, answers=OK_OR_REASON)
            self.assertEqual(self.sent(), [OPENING + b"{}\n"])
            self.assertNoResult(connected)
            self.accepted[0].transport.write(OPENING + answer)
            self.wire.settle()
            if error is not None:
                self.failureResultOf(connected, error)
                continue
            self.assertEqual(self.successResultOf(connected).got, b"more")
            self.assertEqual(self.ours.addresses[0].parameters, {"ok": True, "n": 1})

    def test_anApplicationMayHandOnBeforeTheAnswer(self) -> None:
        self.accepted = self.raw()
        first = self.successResultOf(self.connect(release=Release.AT_ONCE))
        second = HalfCollect()
        first.transport.handOver(second)
        second.transport.write(b"go")
        self.wire.settle()
        self.accepted[0].transport.write(OPENING + b"for the second")
        self.wire.settle()
        self.assertEqual((first.got, second.got), (b"", b"for the second"))
        self.accepted[0].transport.write(b" alone")
        self.wire.settle()
        self.assertEqual(second.got, b"for the second alone")
        self.assertIs(second.transport.protocol, second)

    def test_anApplicationThatDoesNotReadIsNotLate(self) -> None:
        self.serve()
        ours = self.successResultOf(self.connect(Greeter, release=Release.AT_ONCE))
        ours.transport.pauseProducing()
        self.wire.settle()
        self.clock.advance(TIMEOUT + 1)
        self.assertIsNone(ours.reason)
        ours.transport.resumeProducing()
        self.wire.settle()
        self.assertEqual(ours.got, b"HELLO FROM THE NEAR SIDE")

    def test_anApplicationThatStartsPausedGetsItsLeftoverLater(self) -> None:
        class Reluctant(HalfCollect):
            def connectionMade(self) -> None:
                self.transport.pauseProducing()

        self.accepted = self.raw()
        for release in EVERY:
            connected = self.connect(Reluctant, release=release)
            self.wire.settle()
            far = self.accepted.pop().transport
            far.write(OPENING + b"left over")
            far.write(b", later")
            far.loseConnection()
            self.wire.settle()
            ours = self.successResultOf(connected)
            self.assertEqual(ours.told, [])
            ours.transport.resumeProducing()
            self.wire.settle()
            self.assertEqual((ours.got, ours.told), (b"left over, later", ["read ended"]))


class KnownOpeningsTests(NegotiationTestCase):
    """
    Streams that begin as nearly all do, and others.
    """

    def setUp(self) -> None:
        super().setUp()
        self.made: list[Negotiation] = []
        names = NameTable([NAME], asked=[b"/asked"])
        self.far.listener.listen(NegotiatingFactory(
            {NAME: self.handler, b"/asked": self.handler}, makeNegotiation=lambda: self.negotiation(names),
            known=KnownOpenings(names, self.follow),
        ))  # fmt: skip

    def follow(self, name: bytes) -> Negotiation | None:
        return JSONResponder() if name == NAME else None

    def negotiation(self, names: NameTable) -> Negotiation:
        self.made.append(NegotiationSequence(MultistreamResponder(names), self.follow))
        return self.made[-1]

    def answered(self, *pieces: bytes) -> bytes:
        """
        @return: what a stream gets that sends these.
        """
        near = Collect()
        self.near.connector.connect(Building(lambda: near))
        for piece in pieces:
            near.transport.write(piece)
            self.wire.settle()
        return near.got

    def test_whatIsKnownNeedsNoNegotiation(self) -> None:
        self.assertEqual(self.answered(OPENING + b'{"a":1}\n' + b"loud"), OPENING + b"LOUD")
        self.assertEqual(self.answered(OPENING + b"{}\n"), OPENING)
        self.assertEqual(self.made, [])
        self.assertEqual([(each.protocol, each.parameters) for each in self.handler.addresses], [(NAME, {"a": 1}), (NAME, {})])
        self.assertEqual(self.far.scheduler.sharedTimer.waiting, 0)

    def test_whatIsNotWholeOrNotKnownIsNegotiated(self) -> None:
        self.assertEqual(self.answered(HEADER, OPENING[len(HEADER):] + b'{"a":1}\nloud'), OPENING + b"LOUD")
        self.assertEqual(self.answered(OPENING, b'{"a":1}\nloud'), OPENING + b"LOUD")
        self.assertEqual(self.answered(OPENING + b'{"a"', b":1}\nloud"), OPENING + b"LOUD")
        self.assertEqual([each.parameters for each in self.handler.addresses], 3 * [{"a": 1}])
        self.assertEqual(self.answered(HEADER + token(b"/asked") + b"loud"), HEADER + token(b"/asked") + b"LOUD")
        self.assertEqual(self.answered(HEADER + token(b"/other")), HEADER + token(b"na"))
        self.assertEqual(len(self.made), 5)

    def test_whatCannotBeReadCostsItsStream(self) -> None:
        near = Collect()
        self.near.connector.connect(Building(lambda: near))
        near.transport.write(OPENING + b"no object\n")
        self.wire.settle()
        self.assertTrue(near.reason.check(StreamResetError))
        self.assertEqual((self.made, self.handler.built), ([], []))
        self.assertClean()

    def test_anEndInsteadOfAnOpeningIsAReset(self) -> None:
        near = Collect()
        self.near.connector.connect(Building(lambda: near))
        near.transport.loseWriteConnection()
        self.wire.settle()
        self.assertTrue(near.reason.check(StreamResetError))
        self.assertClean()


class FailureTests(NegotiationTestCase):
    """
    What may go wrong at the opening end.
    """

    def test_malformedAnswersFailTheOpening(self) -> None:
        accepted = self.raw()
        for release in EVERY:
            for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", HEADER + token(b"/other"), b"\xff\xff\xff"):
                connected = self.connect(HalfCollect, release=release)
                self.wire.settle()
                accepted.pop().transport.write(answer)
                self.wire.settle()
                if release is Release.AT_ONCE:
                    reason = self.successResultOf(connected).reason
                else:
                    reason = self.failureResultOf(connected)
                self.assertTrue(reason.check(StreamResetError))
                self.assertTrue(reason.check(PeerError))
                self.assertIsInstance(reason.value.__cause__, PeerError)
        self.assertClean()

    def test_anEndInsteadOfAnAnswerFailsTheOpening(self) -> None:
        accepted = self.raw()
        for release in EVERY:
            connected = self.connect(HalfCollect, release=release)
            self.wire.settle()
            accepted.pop().transport.loseConnection()
            self.wire.settle()
            if release is Release.AT_ONCE:
                self.assertTrue(self.successResultOf(connected).reason.check(StreamResetError))
            else:
                self.failureResultOf(connected, StreamResetError)
        self.assertClean()

    def test_aResetInsteadOfAnAnswerIsARefusal(self) -> None:
        accepted = self.raw()
        connected = self.connect()
        self.wire.settle()
        accepted[0].transport.abortConnection()
        self.wire.settle()
        self.failureResultOf(connected, StreamResetError)
        self.assertClean()

    def test_aLostSessionFailsWhatWaits(self) -> None:
        waiting = self.connect()
        atOnce = self.successResultOf(self.connect(release=Release.AT_ONCE))
        self.wire.drop()
        self.wire.settle()
        self.failureResultOf(waiting, SessionLost)
        self.assertTrue(atOnce.reason.check(SessionLost))
        self.failureResultOf(self.connect(), SessionLost)

    def test_anAnswerThatIsLateIsATimeout(self) -> None:
        self.raw()
        waiting = self.connect(timeout=10)
        self.wire.settle()
        atOnce = self.successResultOf(self.connect(release=Release.AT_ONCE, timeout=10))
        self.clock.advance(9.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.failureResultOf(waiting, NegotiationTimeout, Unavailable)
        self.wire.settle()
        self.assertTrue(atOnce.reason.check(NegotiationTimeout))
        self.assertClean()

    def test_aCancelledOpeningIsReset(self) -> None:
        accepted = self.raw()
        connected = self.connect()
        self.wire.settle()
        connected.cancel()
        self.failureResultOf(connected, CancelledError)
        self.wire.settle()
        self.assertTrue(accepted[0].reason.check(StreamResetError))
        self.assertEqual(self.ours.built, [])
        self.assertClean()

    def test_aFactoryThatDeclines(self) -> None:
        self.serve()
        for release in EVERY:
            connected = self.connect(lambda: None, release=release)
            self.wire.settle()
            self.failureResultOf(connected, NoProtocol)
        self.assertClean()

    def test_anApplicationThatFailsToStart(self) -> None:
        self.serve()
        for release in EVERY:
            connected = self.connect(lambda: Failing("made"), release=release)
            self.wire.settle()
            self.failureResultOf(connected, ZeroDivisionError)
            self.assertTrue(self.ours.built[0].lost.check(ZeroDivisionError))
        self.assertClean()

    def test_anApplicationThatFailsWithItsLeftover(self) -> None:
        accepted = self.raw()
        for release in EVERY:
            connected = self.connect(lambda: Failing("data"), release=release)
            self.wire.settle()
            accepted.pop().transport.write(OPENING + b"left over")
            self.wire.settle()
            self.assertTrue(self.successResultOf(connected).lost.check(ZeroDivisionError))
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertClean()

    def test_anApplicationThatClosesAtOnce(self) -> None:
        class Brief(Greeter):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.transport.loseConnection()

        self.serve()
        for release in EVERY:
            connected = self.connect(Brief, release=release)
            self.wire.settle()
            self.assertTrue(self.successResultOf(connected).reason.check(ConnectionDone))
            self.assertEqual(self.handler.built.pop().got, b"hello from the near side")
            self.assertClean()

    def test_anApplicationThatAbortsAtOnce(self) -> None:
        self.serve()
        ours = self.successResultOf(self.connect(release=Release.AT_ONCE))
        ours.transport.abortConnection()
        self.wire.settle()
        self.assertTrue(ours.reason.check(ConnectionAborted))
        self.assertClean()

    def test_aPurposeThatCannotBeSaid(self) -> None:
        self.failureResultOf(self.connect(name=b"na"))
        self.assertClean()


class HandlerTests(NegotiationTestCase):
    """
    What may go wrong at the accepting end, and what it costs.
    """

    def test_aHandlerThatFailsCostsItsStreamAlone(self) -> None:
        def explode() -> Any:
            raise ZeroDivisionError

        failing = {b"/f": explode, b"/m": lambda: Failing("made"), b"/d": lambda: Failing("data")}
        self.serve({NAME: self.handler, **{name: Building(build) for name, build in failing.items()}})
        fine = self.successResultOf(self.connect(release=Release.AT_ONCE))
        for name in (b"/f", b"/m", b"/d"):
            ours = self.successResultOf(self.connect(Greeter, name=name, release=Release.AT_ONCE))
            self.wire.settle()
            self.assertTrue(ours.reason.check(StreamResetError), name)
            (logged,) = self.flushLoggedErrors(ZeroDivisionError)
        fine.transport.write(b"still here")
        self.wire.settle()
        self.assertEqual(fine.got, b"STILL HERE")

    def test_whatFailedIsLoggedByName(self) -> None:
        seen: list[Any] = []
        globalLogPublisher.addObserver(seen.append)
        self.addCleanup(globalLogPublisher.removeObserver, seen.append)
        self.serve({NAME: Building(lambda: Failing("made"))})
        self.connect(release=Release.AT_ONCE)
        self.wire.settle()
        self.flushLoggedErrors(ZeroDivisionError)
        (event,) = [event for event in seen if event.get("log_failure") is not None]
        self.assertEqual((event["name"], event["key"]), (NAME, ""))

    def test_aHandlerThatTakesItNot(self) -> None:
        self.serve({NAME: Building(lambda: None)})
        ours = self.successResultOf(self.connect(release=Release.AT_ONCE))
        self.wire.settle()
        self.assertTrue(ours.reason.check(StreamResetError))
        self.assertClean()

    def test_whereThereIsAnAnswerItSaysNo(self) -> None:
        self.serve({NAME: Building(lambda: None)}, follow=lambda name: JSONResponder(answers=OK_OR_REASON))
        connected = self.connect(release=Release.AT_ONCE, parameters={}, answers=OK_OR_REASON)
        self.wire.settle()
        error = self.failureResultOf(connected, NegotiationRefused).value
        self.assertEqual(str(error), "the handler refused the stream")
        self.assertClean()

    def test_garbageCostsItsStreamAlone(self) -> None:
        self.serve()
        for octets in (
            b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 20, HEADER + b"\x00", token(b"/multistream/2.0.0"), HEADER + token(b"/x") * 64,
        ):  # fmt: skip
            ours = self.successResultOf(self.near.connector.connect(Building(HalfCollect)))
            ours.transport.write(octets)
            self.wire.settle()
            self.assertTrue(ours.reason.check(StreamResetError), octets)
        self.assertClean()

    def test_aPeerThatLeavesWithoutAWord(self) -> None:
        self.serve()
        for say in (b"", HEADER, OPENING[:-1]):
            ours = self.successResultOf(self.near.connector.connect(Building(HalfCollect)))
            ours.transport.write(say)
            ours.transport.loseConnection()
            self.assertClean()

    def test_aSilentPeerIsNotWaitedForForever(self) -> None:
        self.serve(timeout=10)
        ours = self.successResultOf(self.near.connector.connect(Building(Collect)))
        self.wire.settle()
        self.assertEqual(ours.got, HEADER)
        self.clock.advance(10)
        self.wire.settle()
        self.assertTrue(ours.reason.check(StreamResetError))
        self.assertClean()

    def test_handlersComeAndGo(self) -> None:
        factory = self.serve()
        factory.handle(b"/new", self.handler)
        connected = self.connect(name=b"/new")
        self.wire.settle()
        self.successResultOf(connected)
        factory.forget(b"/new")
        factory.forget(b"/never")
        connected = self.connect(name=b"/new")
        self.wire.settle()
        self.failureResultOf(connected, NegotiationRefused)

    def test_aNameWithoutAHandlerIsReset(self) -> None:
        """
        The negotiation may know names that nobody serves.
        """
        self.far.listener.listen(NegotiatingFactory({}, makeNegotiation=lambda: MultistreamResponder([NAME])))
        ours = self.successResultOf(self.connect(release=Release.AT_ONCE))
        self.wire.settle()
        self.assertTrue(ours.reason.check(StreamResetError))


class DiallingTests(NegotiationTestCase):
    """
    Handlers that reach something first.
    """

    def setUp(self) -> None:
        super().setUp()
        self.dialling = Dialling()

    def dial(self, follow: bool = True, strict: bool = True, release: Release = Release.AT_ONCE) -> Deferred[IProtocol]:
        """
        @param follow: parameters follow the name, and an answer them; else the name is the answer.
        """
        receiver: Any = (lambda name: JSONResponder(answers=OK_OR_REASON)) if follow else None
        self.serve({NAME: self.dialling, b"/other": self.handler}, follow=receiver, strict=strict)
        if follow:
            return self.connect(Greeter, release=release, parameters={"to": "db"}, answers=OK_OR_REASON)
        return self.connect(Greeter, release=release)

    def test_theAnswerWaitsForTheHandler(self) -> None:
        for follow in (True, False):
            self.wire, self.near, self.far = sessionPair(clock=self.clock)
            self.dialling = Dialling()
            connected = self.dial(follow, release=Release.ON_REPLY)
            self.wire.settle()
            self.assertNoResult(connected)
            (address,) = self.dialling.addresses
            self.assertEqual((address.protocol, address.parameters), (NAME, {"to": "db"} if follow else {}))
            shout = Shout()
            self.dialling.dialled.callback(shout)
            self.wire.settle()
            self.assertEqual(self.successResultOf(connected).got, b"HELLO FROM THE NEAR SIDE")
            self.assertIs(shout.transport.protocol, shout)

    def test_itMayKnowAtOnce(self) -> None:
        for follow in (True, False):
            self.wire, self.near, self.far = sessionPair(clock=self.clock)
            self.dialling = Dialling()
            self.dialling.dialled.callback(Shout())
            connected = self.dial(follow)
            self.wire.settle()
            self.assertEqual(self.successResultOf(connected).got, b"HELLO FROM THE NEAR SIDE")

    def test_whoDoesNotWaitFillsOneWindow(self) -> None:
        connected = self.dial(follow=False)
        ours = self.successResultOf(connected)
        self.wire.settle()
        ours.transport.write(b"x" * (2 * WINDOW))
        ours.transport.loseWriteConnection()
        self.wire.settle()
        self.assertGreater(ours.transport.queued, WINDOW // 2)
        collect = HalfCollect()
        self.dialling.dialled.callback(collect)
        self.wire.settle()
        self.assertEqual(collect.got, b"hello from the near side" + b"x" * (2 * WINDOW))
        self.assertEqual(collect.told, ["made", "read ended"])

    def test_refusalIsHeard(self) -> None:
        connected = self.dial()
        self.wire.settle()
        self.dialling.dialled.errback(Unavailable("the database is away", password="secret"))
        self.wire.settle()
        self.assertEqual(str(self.failureResultOf(connected, NegotiationRefused).value), "the database is away")
        self.assertClean()

    def test_whatIsNotReachedIsRefused(self) -> None:
        connected = self.dial()
        self.wire.settle()
        self.dialling.dialled.errback(ConnectionRefusedError())
        self.wire.settle()
        self.failureResultOf(connected, NegotiationRefused)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_aDefectIsLoggedAndNotTold(self) -> None:
        connected = self.dial()
        self.wire.settle()
        self.dialling.dialled.errback(ZeroDivisionError("with a path in it"))
        self.wire.settle()
        self.assertEqual(str(self.failureResultOf(connected, NegotiationRefused).value), "the handler failed")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertClean()

    def test_noProtocolIsARefusal(self) -> None:
        connected = self.dial()
        self.wire.settle()
        self.dialling.dialled.callback(None)  # type: ignore[arg-type]
        self.wire.settle()
        self.failureResultOf(connected, NegotiationRefused)

    def test_anotherNameMayFollowARefusal(self) -> None:
        self.serve({NAME: self.dialling, b"/other": self.handler})
        connected = self.connect(Greeter, name=[NAME, b"/other"])
        self.wire.settle()
        self.dialling.dialled.errback(Unavailable("not now"))
        self.wire.settle()
        self.assertEqual(self.successResultOf(connected).got, b"HELLO FROM THE NEAR SIDE")

    def test_strictRefusalIsAReset(self) -> None:
        connected = self.dial(follow=False, release=Release.ON_REPLY)
        self.wire.settle()
        self.dialling.dialled.errback(Unavailable("not now"))
        self.wire.settle()
        self.failureResultOf(connected, StreamResetError)
        self.assertClean()

    def test_aLostStreamStopsTheDialling(self) -> None:
        connected = self.dial()
        self.wire.settle()
        connected.cancel()
        self.failureResultOf(connected, CancelledError)
        self.wire.settle()
        self.assertEqual(self.dialling.cancelled, [self.dialling.dialled])
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertClean()

    def test_whatWasReachedForALostStreamIsToldSo(self) -> None:
        connected = self.dial()
        self.wire.settle()
        collect = Collect()
        self.far.transports()[0].abortConnection()
        self.dialling.dialled.callback(collect)        # in the same turn: the stream's loss is told on the next
        self.wire.settle()
        self.assertEqual(collect.told[0], "made")
        self.assertTrue(collect.reason.check(ConnectionAborted))
        self.failureResultOf(connected)

    def test_diallingHasItsTime(self) -> None:
        for follow, error in ((True, NegotiationRefused), (False, NegotiationRefused)):
            self.wire, self.near, self.far = sessionPair(clock=self.clock)
            self.dialling = Dialling()
            connected = self.dial(follow, strict=False, release=Release.ON_REPLY)
            self.wire.settle()
            stream = self.near.transports()[0]
            stream.protocol._deadline += 5                 # the near side is the more patient
            stream.protocol._updateDeadline()
            self.clock.advance(TIMEOUT)
            self.wire.settle()
            self.assertEqual(self.dialling.cancelled, [self.dialling.dialled])
            self.failureResultOf(connected, error)
            self.assertClean()

    def test_aStreamWaitsForItsHandlerToDial(self) -> None:
        """
        Where the negotiation asks nothing, the stream waits all the same.
        """
        for outcome in (True, False):
            self.wire, self.near, self.far = sessionPair(clock=self.clock)
            self.dialling = Dialling()
            self.serve({NAME: self.dialling}, follow=lambda name: JSONResponder())
            ours = self.successResultOf(self.connect(Greeter, release=Release.AT_ONCE, parameters={}))
            self.wire.settle()
            if outcome:
                self.dialling.dialled.callback(Shout())
                self.wire.settle()
                self.assertEqual(ours.got, b"HELLO FROM THE NEAR SIDE")
            else:
                self.dialling.dialled.errback(Unavailable("not now"))
                self.wire.settle()
                self.assertTrue(ours.reason.check(StreamResetError))


class OwnDeadlineTests(NegotiationTestCase):
    """
    A negotiation's own deadline, shorter than its owner's.
    """

    def test_itIsKept(self) -> None:
        self.raw()
        endpoint = NegotiatingEndpoint(self.near.connector, lambda: MultistreamInitiator(NAME, timeout=3))
        connected = endpoint.connect(Building(Collect))
        self.clock.advance(2.9)
        self.assertNoResult(connected)
        self.clock.advance(0.1)
        self.failureResultOf(connected, NegotiationTimeout)

    def test_itIsKeptWhereItIsRenewed(self) -> None:
        class Patient(JSONInitiator):
            """
            Is never late.
            """

            asked = 0

            def begin(self, now: float) -> float:
                return 2.0

            def next_deadline(self) -> float:
                return 2.0 * (self.asked + 1)

            def expire(self, now: float) -> list[Any]:
                Patient.asked += 1
                return []

        negotiation: Negotiation = Patient({}, answers=OK_OR_REASON)
        endpoint = NegotiatingEndpoint(self.near.connector, lambda: negotiation, timeout=10)
        connected = endpoint.connect(Building(Collect))
        for _ in range(9):
            self.clock.advance(1)
        self.assertNoResult(connected)
        self.assertGreaterEqual(Patient.asked, 3)
        self.clock.advance(1.5)
        self.failureResultOf(connected, NegotiationTimeout)
