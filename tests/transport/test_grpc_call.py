"""
Calls of gRPC over HTTP/2 in memory: both sides of ours, and peers that break rules.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.promises.streams import Producer
from tests.transport.http2 import Remember
from tunnelstack.interfaces import ICallReceiver, IHTTP2Receiver
from tunnelstack.testing import Wire
from tunnelstack.transport.grpc_call import GRPCCall, openCall
from tunnelstack.transport.grpc_server import GRPCServer, Method
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.wire.grpc import CallResult, Status, encode_prefixed
from tunnelstack.wire.http2.codes import ErrorCode

PATH = b"/test.Service/Talk"
LIMIT = 1000
HEAD = [
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", PATH), (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
]  # fmt: skip


@implementer(ICallReceiver)
@define(eq=False)
class Talker:
    """
    Remembers what a call said.
    """

    call: Any = None
    head: Any = None
    messages: list[bytes] = field(factory=list)
    halves: int = 0
    result: CallResult | None = None
    reason: Exception | None = None
    pauseAt: bytes | None = None

    def answered(self, fields: Any) -> None:
        assert self.head is None and self.result is None
        self.head = dict(fields)

    def messageReceived(self, message: bytes) -> None:
        assert self.result is None and not self.halves
        self.messages.append(message)
        if message == self.pauseAt:
            self.call.pauseProducing()

    def halfClosed(self) -> None:
        self.halves += 1

    def ended(self, result: CallResult, reason: Exception | None) -> None:
        assert self.result is None
        self.result, self.reason = result, reason


class Calls(SynchronousTestCase):
    """
    A client and a server.
    """

    cut: int | None = None

    def setUp(self) -> None:
        self.wire = Wire(cut=self.cut)
        self.begun: list[Talker] = []
        self.accepts = True
        server = GRPCServer(self.wire.clock, {PATH: Method(begin=self.begin, limit=LIMIT)})
        self.client = HTTP2Connection(True, clock=self.wire.clock)
        self.server = HTTP2Connection(False, clock=self.wire.clock, accept=server.accept)
        self.wire.connect(self.client, self.server)
        self.wire.settle()

    def begin(self, call: GRPCCall, fields: Any) -> Talker:
        talker = Talker(call, dict(fields))
        self.begun.append(talker)
        if self.accepts:
            call.accept([(b"x-edge", b"a")])
        return talker

    def open(self, path: bytes = PATH, *metadata: tuple[bytes, bytes]) -> Talker:
        talker = Talker()
        talker.call = openCall(self.client, path, talker, metadata=metadata)
        self.wire.settle()
        return talker

    def pair(self) -> tuple[Talker, Talker]:
        near = self.open()
        return near, self.begun[-1]

    def raw(self, *fields: tuple[bytes, bytes]) -> Any:
        """
        A request whose head the test chooses.
        """
        receiver: Any = Remember()
        receiver.stream = self.client.openStream(list(fields or HEAD), receiver)
        self.wire.settle()
        return receiver


class CallTests(Calls):
    """
    Calls between two of ours.
    """

    def test_aCallProvidesItsInterfaces(self) -> None:
        for talker in self.pair():
            for interface in (IHTTP2Receiver, IConsumer, IPushProducer):
                verifyObject(interface, talker.call)

    def test_messagesGoBothWaysUntilTheStatus(self) -> None:
        near, far = self.pair()
        self.assertEqual(near.head[b"x-edge"], b"a")
        self.assertEqual((far.head[b"te"], far.head[b"content-type"]), (b"trailers", b"application/grpc"))
        for number in range(3):
            near.call.send(b"question %d" % number)
            far.call.send(b"answer %d" % number)
        near.call.send(b"")
        near.call.halfClose()
        self.wire.settle()
        self.assertEqual((len(near.messages), far.messages[2:], far.halves), (3, [b"question 2", b""], 1))
        far.call.send(b"last")
        far.call.finish(CallResult(Status.NOT_FOUND, "é%"))
        self.wire.settle()
        self.assertEqual((near.messages[-1], near.result, near.reason), (b"last", CallResult(Status.NOT_FOUND, "é%"), None))
        self.assertIsNone(far.result)
        self.assertEqual((self.client.streams, self.server.streams), (0, 0))

    def test_aServerMayEndFirst(self) -> None:
        near, far = self.pair()
        far.call.finish()
        self.wire.settle()
        self.assertEqual((near.result, near.reason), (CallResult(Status.OK), None))
        near.call.send(b"late")
        near.call.halfClose()
        self.wire.settle()
        self.assertEqual((self.client.streams, self.server.streams), (0, 0))

    def test_aCallMayBeRefusedAtOnce(self) -> None:
        self.accepts = False
        near, far = self.pair()
        self.assertIsNone(near.head)
        far.call.finish(CallResult(Status.UNAUTHENTICATED, "no"))
        self.wire.settle()
        self.assertEqual((near.head, near.result), (None, CallResult(Status.UNAUTHENTICATED, "no")))
        self.assertEqual((self.client.streams, self.server.streams), (0, 0))

    def test_eitherSideMayReset(self) -> None:
        near, far = self.pair()
        near.call.reset()
        self.wire.settle()
        assert far.result is not None
        self.assertEqual((far.result.status, near.result), (Status.CANCELLED, None))
        near, far = self.pair()
        far.call.reset(ErrorCode.REFUSED_STREAM)
        self.wire.settle()
        assert near.result is not None
        self.assertEqual((near.result.status, far.result), (Status.UNAVAILABLE, None))

    def test_aLostConnectionEndsCalls(self) -> None:
        near, far = self.pair()
        self.wire.drop()
        self.wire.settle()
        assert near.result is not None and far.result is not None
        self.assertEqual((near.result.status, far.result.status), (Status.UNAVAILABLE, Status.CANCELLED))

    def test_aPausedReceiverHearsNothing(self) -> None:
        near, far = self.pair()
        far.pauseAt = b"1"
        for number in range(4):
            near.call.send(b"%d" % number)
        near.call.halfClose()
        self.wire.settle()
        self.assertEqual((far.messages, far.halves), ([b"0", b"1"], 0))
        far.pauseAt = b"2"
        far.call.resumeProducing()
        self.assertEqual(len(far.messages), 2)     # not from inside the call
        self.wire.settle()
        self.assertEqual((far.messages, far.halves), ([b"0", b"1", b"2"], 0))
        far.call.resumeProducing()
        far.call.pauseProducing()
        self.wire.settle()
        self.assertEqual(len(far.messages), 3)
        far.call.resumeProducing()
        self.wire.settle()
        self.assertEqual((len(far.messages), far.halves), (4, 1))

    def test_aReceiverThatPausesStopsTheSender(self) -> None:
        near, far = self.pair()
        far.call.pauseProducing()
        producer = Producer()
        near.call.registerProducer(producer, True)
        for _ in range(500):
            near.call.send(bytes(LIMIT))
        self.wire.settle()
        self.assertEqual((producer.asked, far.messages), (["pause"], []))
        self.assertGreater(near.call.queued, 0)
        far.call.resumeProducing()
        self.wire.settle()
        self.assertEqual((producer.asked, len(far.messages), near.call.queued), (["pause", "resume"], 500, 0))

    def test_aDefectOfAReceiverEndsItsCallOnly(self) -> None:
        near, far = self.pair()
        other, _ = self.pair()
        far.pauseAt = b"x"
        far.call = None
        near.call.send(b"x")
        self.wire.settle()
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        assert near.result is not None
        self.assertEqual((near.result.status, other.result), (Status.INTERNAL, None))

    def test_aDeadlineEndsACall(self) -> None:
        near = self.open(PATH, (b"grpc-timeout", b"1500m"))
        far = self.begun[-1]
        self.wire.clock.advance(1.4)
        self.wire.settle()
        self.assertIsNone(near.result)
        self.wire.clock.advance(0.2)
        self.wire.settle()
        assert near.result is not None and far.result is not None
        self.assertEqual((near.result.status, far.result.status), (Status.CANCELLED, Status.DEADLINE_EXCEEDED))

    def test_aDeadlineIsForgottenWithItsCall(self) -> None:
        self.open(PATH, (b"grpc-timeout", b"99999999S"))
        self.open(PATH, (b"grpc-timeout", b"60S"))
        before = len(self.wire.clock.getDelayedCalls())
        self.begun[-1].call.finish()
        self.wire.settle()
        self.assertEqual(len(self.wire.clock.getDelayedCalls()), before - 1)


class CutCallTests(CallTests):
    cut = 7


def headOf(receiver: Any) -> dict[bytes, bytes]:
    return dict(next(each[1] for each in receiver.told if each[0] == "head"))


def trailersOf(receiver: Any) -> dict[bytes, bytes]:
    return dict(next(each[1] for each in receiver.told if each[0] == "ended"))


class BadCallTests(Calls):
    """
    Peers that break the rules of gRPC.
    """

    def test_unknownMethodsAreUnimplemented(self) -> None:
        near = self.open(b"/test.Service/Other")
        assert near.result is not None
        self.assertEqual((near.result.status, near.head), (Status.UNIMPLEMENTED, None))

    def test_whatIsNoCallIsAnsweredByHTTP(self) -> None:
        answer = self.raw(*HEAD[1:4], (b":method", b"GET"))
        self.assertEqual((headOf(answer)[b":status"], headOf(answer)[b"allow"]), (b"405", b"POST"))
        for kind in (b"text/plain", b"application/grpcx", b""):
            answer = self.raw(*HEAD[:4], (b"content-type", kind))
            self.assertEqual(headOf(answer)[b":status"], b"415")
        answer = self.raw(*HEAD[:4])
        self.assertEqual(headOf(answer)[b":status"], b"415")
        self.assertEqual(self.begun, [])
        for kind in (b"application/grpc+proto", b"application/grpc;x=y"):
            self.raw(*HEAD[:4], (b"content-type", kind))
        self.assertEqual(len(self.begun), 2)

    def test_aMalformedDeadlineIsAnError(self) -> None:
        near = self.open(PATH, (b"grpc-timeout", b"soon"))
        assert near.result is not None
        self.assertEqual((near.result.status, self.begun), (Status.INTERNAL, []))

    def break_(self, octets: bytes, *fields: tuple[bytes, bytes]) -> Any:
        """
        @return: the trailers, and the server's receiver.
        """
        near = self.raw(*HEAD, *fields)
        near.stream.write(octets)
        self.wire.settle()
        return trailersOf(near), self.begun[-1]

    def test_messagesThatAreCompressedEndACall(self) -> None:
        trailers, far = self.break_(b"\1\0\0\0\1x")
        self.assertEqual((trailers[b"grpc-status"], far.result.status), (b"13", Status.INTERNAL))
        trailers, far = self.break_(b"\1\0\0\0\1x", (b"grpc-encoding", b"gzip"))
        self.assertEqual((trailers[b"grpc-status"], far.result.status), (b"12", Status.UNIMPLEMENTED))
        trailers, far = self.break_(b"\2\0\0\0\0")
        self.assertEqual(trailers[b"grpc-status"], b"13")

    def test_messagesThatAreTooLongAreNotHeld(self) -> None:
        trailers, far = self.break_(b"\0" + (LIMIT + 1).to_bytes(4, "big"))
        self.assertEqual((trailers[b"grpc-status"], far.messages), (b"8", []))
        self.assertEqual(self.server.streams, 0)

    def test_aMessageBeforeABadOneArrives(self) -> None:
        _, far = self.break_(encode_prefixed(b"good") + b"\1\0\0\0\0" + encode_prefixed(b"never"))
        self.assertEqual(far.messages, [b"good"])

    def test_anEndInsideAMessageIsAnError(self) -> None:
        near = self.raw()
        near.stream.write(encode_prefixed(b"cut")[:-1])
        near.stream.end()
        self.wire.settle()
        self.assertEqual((trailersOf(near)[b"grpc-status"], self.begun[-1].halves), (b"13", 0))


class BadServerTests(SynchronousTestCase):
    """
    Servers that speak something else.
    """

    def call(self, head: list[tuple[bytes, bytes]], ended: bool, octets: bytes = b"", *trailers: Any) -> Talker:
        wire = Wire()

        def accept(stream: Any) -> Any:
            receiver: Any = Remember()
            stream.sendHeaders(head, ended)
            if octets:
                stream.write(octets)
            if not ended:
                stream.end(list(trailers))
            return receiver

        client = HTTP2Connection(True, clock=wire.clock)
        wire.connect(client, HTTP2Connection(False, clock=wire.clock, accept=accept))
        wire.settle()
        talker = Talker()
        talker.call = openCall(client, PATH, talker)
        wire.settle()
        self.assertEqual(client.streams, 0)
        return talker

    def status(self, *arguments: Any) -> Status:
        talker = self.call(*arguments)
        assert talker.result is not None
        return talker.result.status

    def test_errorsOfHTTPHaveAStatus(self) -> None:
        for code, status in ((b"404", Status.UNIMPLEMENTED), (b"503", Status.UNAVAILABLE), (b"418", Status.UNKNOWN)):
            self.assertEqual(self.status([(b":status", code)], True), status)
            self.assertEqual(self.status([(b":status", code)], False, b"a page"), status)
        self.assertEqual(self.status([(b":status", b"200"), (b"content-type", b"text/html")], False, b"a page"), Status.UNKNOWN)

    def test_anEndWithoutAStatusIsUnknown(self) -> None:
        head = [(b":status", b"200"), (b"content-type", b"application/grpc")]
        self.assertEqual(self.status(head, False, encode_prefixed(b"x")), Status.UNKNOWN)

    def test_aCompressedMessageEndsTheCall(self) -> None:
        head = [(b":status", b"200"), (b"content-type", b"application/grpc")]
        self.assertEqual(self.status(head, False, b"\1\0\0\0\1x", (b"grpc-status", b"0")), Status.INTERNAL)
        self.assertEqual(self.status(head, False, b"\0\xff\xff\xff\xff", (b"grpc-status", b"0")), Status.RESOURCE_EXHAUSTED)
