"""
Our multistream-select with the genuine go-multistream, as initiator and as responder, on streams of a genuine yamux.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, fail, gatherResults, inlineCallbacks, succeed
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.peers._go import GoError
from tests.peers._ours import Collect, Echo, MeetsGo, Upper, factoryOf
from tunnelstack.errors import PeerError, Refused
from tunnelstack.interfaces import IDiallingHandler
from tunnelstack.negotiation.errors import NegotiationRefused, NegotiationTimeout
from tunnelstack.negotiation.multistream import MultistreamFactory, multistreamEndpoint
from tunnelstack.stream.errors import StreamResetError
from tunnelstack.wire.negotiation.base import Release
from tunnelstack.wire.negotiation.multistream.tokens import HEADER, token

LONGEST = b"/" + b"n" * 1022
HANDLERS = {"/echo": "echo", "/upper": "upper", "/source": "source", LONGEST.decode(): "echo"}


@implementer(IDiallingHandler)
class Dialling:
    """
    Answers when the test says so.
    """

    def __init__(self) -> None:
        self.asked: Deferred[Any] = Deferred()
        self.answer: Deferred[Any] = Deferred()

    def connect(self, address: Any) -> Deferred[Any]:
        self.asked.callback(address)
        return self.answer


class MultistreamWithGo(MeetsGo):
    """
    What holds between a genuine multistream and ours, whoever proposes.
    """

    # We propose

    def propose(self: Any, protocol: Any, *names: bytes, **options: Any) -> Any:
        """
        Open a stream and agree on a name.
        """
        endpoint = multistreamEndpoint(self.session.connector, list(names), **options)
        return endpoint.connect(factoryOf(protocol))

    @inlineCallbacks
    def test_multistreamGoAcceptsOurProposal(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", protocols=HANDLERS)
        for name in b"/echo", LONGEST:
            stream = yield self.propose(Collect(b"hello"), name)
            self.assertEqual(stream.transport.address.protocol, name)
            yield stream.whenCount(5)
            stream.transport.loseWriteConnection()
            yield stream.whenLost()
            self.assertEqual(stream.octets, b"hello")
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamGoAcceptsOurThirdProposal(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", protocols=HANDLERS)
        stream = yield self.propose(Collect(b"hello"), b"/newer", b"ls", b"/upper")
        self.assertEqual(stream.transport.address.protocol, b"/upper")
        stream.transport.loseWriteConnection()
        yield stream.whenLost()
        self.assertEqual(stream.octets, b"HELLO")
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamGoRefusesAllOurProposals(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", protocols=HANDLERS)
        yield self.assertFailure(self.propose(Collect(), b"/newer", b"/older"), NegotiationRefused)
        handled = (yield self.ask("handled", count=1))["handled"]
        self.assertEqual(handled[0]["end"], "ConnectionReset")
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamEverythingMayComeInOneWrite(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", protocols=HANDLERS)
        stream = yield self.propose(Collect(b"question"), b"/upper", release=Release.AT_ONCE)
        stream.transport.loseWriteConnection()  # the end leaves with all the rest
        yield stream.whenLost()
        self.assertEqual(stream.octets, b"QUESTION")
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamAnswerMayCarryMuchData(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", protocols=HANDLERS)
        stream = yield self.propose(Collect(b"3000000\n"), b"/source", release=Release.AT_ONCE)
        yield stream.whenReadEnded()
        stream.transport.loseConnection()
        handled = (yield self.ask("handled", count=1))["handled"]
        self.assertEqual((stream.count, stream.sum.hexdigest()), (3_000_000, handled[0]["sha256_out"]))
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamRefusalOfWhatLeftAtOnceIsTold(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", protocols=HANDLERS)
        stream = yield self.propose(Collect(b"octets for a protocol that is not there"), b"/newer", release=Release.AT_ONCE)
        reason = yield stream.whenLost()
        self.assertIsInstance(reason.error, NegotiationRefused)
        self.assertEqual(stream.count, 0)
        yield self.session.ping()

    @inlineCallbacks
    def test_multistreamManyOfOursArriveAtOnce(self: Any) -> Any:
        yield self.meet()
        yield self.ask("serve", protocols=HANDLERS)
        blocks = [os.urandom(2_000) for _ in range(600)]
        releases = (Release.ON_REPLY, Release.AT_ONCE)
        streams = yield gatherResults([
            self.propose(Collect(block), b"/echo", release=releases[number % 2]) for number, block in enumerate(blocks)
        ])
        yield gatherResults([stream.whenCount(2_000) for stream in streams])
        self.assertEqual([bytes(stream.octets) for stream in streams], blocks)
        for stream in streams:
            stream.transport.loseWriteConnection()
        yield gatherResults([stream.whenLost() for stream in streams])
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamParametersFollowTheName(self: Any) -> Any:
        yield self.meet()
        connecting = self.propose(Collect(b"and octets"), b"/http", parameters={"host": "a", "port": 80})
        taken = (yield self.ask("accept"))["stream"]
        yield self.peer.call("respond", stream=taken, protocols=["/http"])
        line = b'{"host":"a","port":80}\n'
        seen = yield self.peer.call("read", stream=taken, count=len(line) + 10)
        self.assertEqual(seen["data"], line + b"and octets")
        stream = yield connecting
        stream.transport.loseConnection()
        yield self.peer.call("close", stream=taken)

    @inlineCallbacks
    def test_multistreamGoThatNeverAnswersIsGivenUp(self: Any) -> Any:
        yield self.meet()
        yield self.assertFailure(self.propose(Collect(), b"/echo", timeout=0.3), NegotiationTimeout)
        taken = (yield self.ask("accept"))["stream"]
        ended = yield self.peer.call("read", stream=taken)
        self.assertEqual(ended["end"], "ConnectionReset")

    @inlineCallbacks
    def test_multistreamGarbageForAnAnswerCostsTheStream(self: Any) -> Any:
        yield self.meet()
        neighbour = yield self.connect(Collect())
        yield self.ask("accept")
        http = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nBad Request"
        for garbage in http, HEADER + token(b"/other"), b"\x81\x08", HEADER + b"\x06/echo\r":
            connecting = self.assertFailure(self.propose(Collect(), b"/echo"), StreamResetError)
            taken = (yield self.ask("accept"))["stream"]
            yield self.peer.call("write", stream=taken, data=garbage)
            reset = yield connecting
            self.assertIsInstance(reset.__cause__, PeerError)
            ended = yield self.peer.call("read", stream=taken)
            self.assertEqual(ended["end"], "ConnectionReset")
        self.assertIsNone(neighbour.reason)

    # Go proposes

    def respond(self: Any, handlers: dict[bytes, Any], **options: Any) -> Any:
        """
        Take streams by name.
        """
        factories = {
            name: Factory.forProtocol(handler) if isinstance(handler, type) else handler
            for name, handler in handlers.items()
        }
        for factory in factories.values():
            factory.noisy = False
        return self.session.listener.listen(MultistreamFactory(factories, **options))

    @inlineCallbacks
    def proposed(self: Any, how: str, *protocols: str) -> Any:
        """
        Let Go open a stream and propose.
        """
        opened = (yield self.ask("open"))["stream"]
        agreed = yield self.peer.call("negotiate", stream=opened, how=how, protocols=protocols)
        return opened, agreed["protocol"]

    @inlineCallbacks
    def refused(self: Any, how: str, *protocols: str) -> Any:
        """
        The same, in vain.

        @return: the stream, and the kind of the error.
        """
        opened = (yield self.ask("open"))["stream"]
        proposing = self.peer.call("negotiate", stream=opened, how=how, protocols=protocols)
        error = yield self.assertFailure(proposing, GoError)
        return opened, error.kind

    @inlineCallbacks
    def answers(self: Any, stream: int, question: bytes, answer: bytes) -> Any:
        """
        Go asks on a stream that is agreed on, and hears the answer and the end.
        """
        yield self.peer.call("write", stream=stream, data=question)
        yield self.peer.call("close", stream=stream)
        heard = yield self.peer.call("read", stream=stream)
        self.assertEqual((heard["data"], heard["end"]), (answer, "EOF"))

    @inlineCallbacks
    def test_multistreamWeAcceptGoesProposal(self: Any) -> Any:
        yield self.meet()
        yield self.respond({b"/echo": Echo, LONGEST: Upper})
        stream, _ = yield self.proposed("fail", "/echo")
        yield self.answers(stream, b"hello", b"hello")
        stream, _ = yield self.proposed("fail", LONGEST.decode())
        yield self.answers(stream, b"hello", b"HELLO")
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamWeAcceptGoesThirdProposal(self: Any) -> Any:
        yield self.meet()
        yield self.respond({b"/echo": Echo, b"/upper": Upper})
        stream, name = yield self.proposed("one-of", "/newer", "ls", "/upper", "/echo")
        self.assertEqual(name, "/upper")
        yield self.answers(stream, b"hello", b"HELLO")
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamAfterOurRefusalGoMayProposeAgain(self: Any) -> Any:
        yield self.meet()
        yield self.respond({b"/echo": Echo})
        stream, why = yield self.refused("fail", "/newer")
        self.assertEqual(why, "NotSupported")
        yield self.peer.call("write", stream=stream, data=token(b"/echo"))
        echoed = yield self.peer.call("read", stream=stream, count=len(token(b"/echo")))
        self.assertEqual(echoed["data"], token(b"/echo"))
        yield self.answers(stream, b"hello", b"hello")
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamStrictRefusalResets(self: Any) -> Any:
        yield self.meet()
        yield self.respond({b"/echo": Echo}, strict=True)
        _, why = yield self.refused("fail", "/newer")
        self.assertEqual(why, "ConnectionReset")
        stream, _ = yield self.proposed("fail", "/echo")
        yield self.answers(stream, b"hello", b"hello")
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamLazyGoIsServed(self: Any) -> Any:
        yield self.meet()
        yield self.respond({b"/upper": Upper})
        for question in b"hello", b"a" * 10_000:  # with the proposal in one write, and in more than one
            stream, _ = yield self.proposed("lazy", "/upper")
            yield self.answers(stream, question, question.upper())
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamLazyGoMayCloseAtOnce(self: Any) -> Any:
        yield self.meet()
        yield self.respond({b"/echo": Echo})
        stream, _ = yield self.proposed("lazy", "/echo")
        yield self.peer.call("close", stream=stream)  # it waits for both our tokens
        yield self.session.ping()
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamLazyGoHearsOfARefusal(self: Any) -> Any:
        yield self.meet()
        yield self.respond({b"/echo": Echo})
        stream, _ = yield self.proposed("lazy", "/newer")
        heard = yield self.peer.call("read", stream=stream)
        self.assertEqual(heard["end"], "NotSupported")

    @inlineCallbacks
    def test_multistreamManyOfGoesAtOnce(self: Any) -> Any:
        yield self.meet()
        yield self.respond({b"/echo": Echo})
        report = yield self.ask("drive", streams=600, octets=2_000, protocol="/echo", together=True, timeout=60)
        self.assertEqual((report["good"], report["errors"]), (600, {}))
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamProposalMayComeInSingleOctets(self: Any) -> Any:
        yield self.meet()
        yield self.respond({b"/echo": Echo})
        stream = (yield self.ask("open"))["stream"]
        for octet in HEADER + token(b"/echo"):
            yield self.peer.call("write", stream=stream, data=bytes([octet]))
        answer = yield self.peer.call("read", stream=stream, count=len(HEADER + token(b"/echo")))
        self.assertEqual(answer["data"], HEADER + token(b"/echo"))
        yield self.answers(stream, b"hello", b"hello")

    @inlineCallbacks
    def test_multistreamGoWaitsForAHandlerThatDials(self: Any) -> Any:
        yield self.meet()
        dialling = Dialling()
        yield self.respond({b"/db": dialling})
        opened = (yield self.ask("open"))["stream"]
        agreeing = self.peer.call("negotiate", stream=opened, how="fail", protocols=["/db"])
        address = yield dialling.asked
        self.assertEqual(address.protocol, b"/db")
        yield self.session.ping()
        self.assertFalse(agreeing.called)
        dialling.answer.callback(Upper())
        yield agreeing
        yield self.answers(opened, b"hello", b"HELLO")
        yield self.isContent()

    @inlineCallbacks
    def test_multistreamHandlerThatCannotDialIsARefusal(self: Any) -> Any:
        yield self.meet()
        dialling = Dialling()
        dialling.answer = fail(Refused("nobody there"))
        yield self.respond({b"/db": dialling})
        _, why = yield self.refused("fail", "/db")
        self.assertEqual(why, "NotSupported")
        yield self.session.ping()
        dialling.asked = Deferred()
        dialling.answer = succeed(Upper())
        stream, _ = yield self.proposed("fail", "/db")
        yield self.answers(stream, b"hello", b"HELLO")

    @inlineCallbacks
    def test_multistreamGarbageForAProposalCostsTheStream(self: Any) -> Any:
        yield self.meet()
        yield self.respond({b"/echo": Echo})
        for garbage in (
            b"GET / HTTP/1.1\r\nHost: myapp.example.org\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
            token(b"/multistream/2.0.0"),
            HEADER + b"\x81\x08",  # a token of 1025 octets
            HEADER + b"\x03abc",
        ):
            stream = (yield self.ask("open"))["stream"]
            yield self.peer.call("write", stream=stream, data=garbage)
            ended = yield self.peer.call("read", stream=stream)
            self.assertEqual(ended["end"], "ConnectionReset")
        stream, _ = yield self.proposed("fail", "/echo")
        yield self.answers(stream, b"hello", b"hello")

    @inlineCallbacks
    def test_multistreamEndlessProposalsAreCutOff(self: Any) -> Any:
        yield self.meet()
        yield self.respond({b"/echo": Echo})
        _, why = yield self.refused("one-of", *[f"/newer/{number}" for number in range(100)])
        self.assertEqual(why, "ConnectionReset")
        yield self.session.ping()


class MultistreamOverTCPTests(MultistreamWithGo, TestCase):
    """
    We dial and are the yamux client.
    """

    carrier, client, weDial = "tcp", True, True


class MultistreamOverWebSocketTests(MultistreamWithGo, TestCase):
    """
    We dial a WebSocket and are the yamux server: an agent.
    """

    carrier, client, weDial = "ws", False, True
