"""
Requests on connections that were picked up, and what may stand behind an answer.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.promises.streams import Collect, HalfCollect
from tests.session.doors import House
from tunnelstack.interfaces import IDiallingHandler
from tunnelstack.negotiation.endpoint import NegotiatingEndpoint, NegotiatingFactory
from tunnelstack.negotiation.errors import NegotiationRefused, NegotiationTimeout
from tunnelstack.negotiation.http_request import HTTPRequestFactory, requestEndpoint
from tunnelstack.testing import sessionPair
from tunnelstack.wire.http1.head import RequestHead, ResponseHead
from tunnelstack.wire.negotiation.base import Release
from tunnelstack.wire.negotiation.http_request import StreamRequest
from tunnelstack.wire.negotiation.json_object import (
    OK_OR_REASON,
    JSONInitiator,
    JSONResponder,
    ObjectCodec,
    _JSONLineReader,
)

YES = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NO = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\ngone"
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def read(head: RequestHead) -> StreamRequest:
    if head.target == b"/talk":
        return StreamRequest(b"/talk")
    if head.target == b"/proxy":
        return StreamRequest(b"/proxy", yes=YES, no=lambda reason: NO)
    return StreamRequest(b"", no=lambda reason: MISSING)


def refusal(head: ResponseHead) -> str | None:
    return None if head.status == 200 else str(head.status)


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: \r\n\r\n".encode()


@implementer(IDiallingHandler)
class Dialling:
    def __init__(self) -> None:
        self.dialled: list[Deferred[Any]] = []

    def connect(self, address: Any) -> Deferred[Any]:
        self.dialled.append(Deferred())
        return self.dialled[-1]


class RequestLineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.house = House(self.cut).joined()
        self.accepted: list[Any] = []
        self.dialling = Dialling()
        test = self

        class Talking(Factory):
            def buildProtocol(self, address: Any) -> Any:
                test.accepted.append(Collect())
                return test.accepted[-1]

        handlers = {b"/talk": Talking(), b"/proxy": self.dialling}
        self.house.listener.listener.listen(HTTPRequestFactory(handlers, read))

    cut: int | None = None

    def connect(self, name: bytes, answered: bool = True) -> Deferred[Any]:
        endpoint = requestEndpoint(
            self.house.dialler.connector, name, request(name.decode()), refusal=refusal if answered else None,
        )
        opening = endpoint.connect(Factory.forProtocol(Collect))
        self.house.settle()
        return opening

    def test_withoutAnAnswerItIsThereAtOnce(self) -> None:
        near = self.successResultOf(self.connect(b"/talk", answered=False))
        near.transport.write(b"hello")
        self.house.settle()
        self.assertEqual(self.accepted[0].got, b"hello")
        self.assertEqual(near.transport.address.protocol, b"/talk")
        self.assertEqual(self.accepted[0].transport.address.protocol, b"/talk")
        self.accepted[0].transport.write(b"SSH-2.0-Go\r\n")
        self.house.settle()
        self.assertEqual(near.got, b"SSH-2.0-Go\r\n")

    def test_whatFollowsAYesIsPayload(self) -> None:
        opening = self.connect(b"/proxy")
        self.assertNoResult(opening)
        served = Collect()
        self.dialling.dialled[0].callback(served)
        served.transport.write(b"server first")  # type: ignore[union-attr]
        self.house.settle()
        near = self.successResultOf(opening)
        self.house.settle()
        self.assertEqual(near.got, b"server first")
        near.transport.write(b"then client")
        self.house.settle()
        self.assertEqual(served.got, b"then client")

    def test_aTargetThatCannotBeHadIsRefusedWithItsReason(self) -> None:
        opening = self.connect(b"/proxy")
        self.dialling.dialled[0].errback(ConnectionRefusedError())
        self.house.settle()
        self.assertEqual(str(self.failureResultOf(opening, NegotiationRefused).value), "500: gone")
        self.assertEqual((self.house.dialler.streams, self.house.listener.streams), (0, 0))

    def test_whatIsNotKnownIsRefused(self) -> None:
        self.assertEqual(str(self.failureResultOf(self.connect(b"/other"), NegotiationRefused).value), "404")
        self.assertEqual(self.house.listener.streams, 0)

    def test_anAnswerThatIsLateIsATimeout(self) -> None:
        opening = self.connect(b"/proxy")
        self.house.pass_(31)
        self.failureResultOf(opening, NegotiationTimeout)


class CutTests(RequestLineTests):
    cut = 3


class BoundaryTests(SynchronousTestCase):
    def test_theRequestIsAMessageOfItsOwn(self) -> None:
        house = House().joined()
        messages: list[bytes] = []

        class Raw(Collect):
            def connectionMade(self) -> None:
                transport: Any = self.transport
                transport.records = True

            def recordReceived(self, octets: bytes, text: bool) -> None:
                messages.append(octets)

        house.listener.listener.listen(Factory.forProtocol(Raw))
        endpoint = requestEndpoint(house.dialler.connector, b"/talk", request("/talk"))
        opening = endpoint.connect(Factory.forProtocol(Speaking))
        house.settle()
        self.successResultOf(opening)
        self.assertEqual(messages, [request("/talk"), b"SSH-2.0-Us\r\n"])


class Speaking(Collect):
    def connectionMade(self) -> None:
        self.transport.write(b"SSH-2.0-Us\r\n")  # type: ignore[union-attr]


def leftover_filter(octets: bytes) -> bytes:
    return octets.removeprefix(b"\n")


CODEC = ObjectCodec(lambda members: b"{}\n", _JSONLineReader, leftover_filter, own_frame=True)


class BehindTests(SynchronousTestCase):
    """
    A line feed that ends an object may come with the next octets; it is nobody's.
    """

    def meet(self, far: Any = HalfCollect) -> None:
        self.wire, self.near, self.far = sessionPair()
        self.raw = Collect()
        self.far.listener.listen(_one(self.raw))
        ask = NegotiatingEndpoint(self.near.connector, lambda: JSONInitiator({}, answers=OK_OR_REASON, codec=CODEC))
        self.opening = ask.connect(Factory.forProtocol(far))
        self.wire.settle()
        self.say(b'{"ok":true}\n')
        self.ours = self.successResultOf(self.opening)

    def say(self, octets: bytes) -> None:
        self.raw.transport.write(octets)  # type: ignore[union-attr]
        self.wire.settle()

    def test_onlyTheFirstOctetsAreLookedAt(self) -> None:
        for then, got in (([b"\n", b"\nx"], b"\nx"), ([b"\nx", b"\n"], b"x\n"), ([b"x", b"\n"], b"x\n")):
            self.meet()
            for octets in then:
                self.say(octets)
            self.assertEqual(self.ours.got, got)
            self.assertIs(self.ours.transport.protocol, self.ours, "nothing is left on the path")

    def test_theApplicationHandsOnBeforeThey(self) -> None:
        self.meet()
        successor = HalfCollect()
        self.ours.transport.handOver(successor)
        self.say(b"\nfirst")
        self.assertEqual((successor.got, self.ours.got), (b"first", b""))

    def test_endsAreTold(self) -> None:
        for kind, told in ((HalfCollect, ["made", "read ended"]), (Collect, ["made"])):
            self.meet(kind)
            self.raw.transport.loseConnection()  # type: ignore[union-attr]
            self.wire.settle()
            self.assertEqual(self.ours.told[: len(told)], told)
            self.ours.transport.loseConnection()
            self.wire.settle()
            self.assertIsNotNone(self.ours.reason)

    def test_ourHalfCloseIsTold(self) -> None:
        self.meet()
        self.ours.transport.loseWriteConnection()
        self.wire.settle()
        self.assertEqual(self.ours.told[:2], ["made", "write ended"])

    def test_lossIsTold(self) -> None:
        self.meet()
        self.wire.drop()
        self.wire.settle()
        self.assertIsNotNone(self.ours.reason)

    def test_aResponderLooksToo(self) -> None:
        for then, got in ((b"\nhello", b"hello"), (b"hello", b"hello")):
            wire, near, far = sessionPair()
            served, raw = HalfCollect(), Collect()
            far.listener.listen(NegotiatingFactory({b"": _one(served)}, makeNegotiation=lambda: JSONResponder(codec=BARE)))
            near.connector.connect(_one(raw))
            raw.transport.write(b"{}")  # type: ignore[union-attr]
            wire.settle()
            raw.transport.write(then)  # type: ignore[union-attr]
            wire.settle()
            self.assertEqual(served.got, got)

    def test_anObjectTravelsAlone(self) -> None:
        frames: list[bytes] = []

        class Raw(Collect):
            def dataReceived(self, data: bytes) -> None:
                frames.append(data)

        wire, near, far = sessionPair()
        far.listener.listen(Factory.forProtocol(Raw))
        ask = NegotiatingEndpoint(near.connector, lambda: JSONInitiator({}, codec=CODEC, release=Release.AT_ONCE))
        ask.connect(Factory.forProtocol(Speaking))
        wire.settle()
        self.assertEqual(frames, [b"{}\n", b"SSH-2.0-Us\r\n"])


class _Braces:
    """
    Reads C{{}}, and needs no line feed.
    """

    def __init__(self, limit: int) -> None:
        self.octets = b""

    def feed(self, octets: bytes) -> None:
        self.octets += octets

    def next_object(self) -> dict[str, Any] | None:
        if len(self.octets) < 2:
            return None
        self.octets = self.octets[2:]
        return {}

    def take_leftover(self) -> bytes:
        return self.octets


BARE = ObjectCodec(lambda members: b"{}", _Braces, leftover_filter)


def _one(protocol: Any) -> Any:
    factory = Factory()
    factory.buildProtocol = lambda address: protocol      # type: ignore[method-assign]
    return factory
