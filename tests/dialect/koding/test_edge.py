"""
koding/tunnel at the edge: recorded conversations at every split, the bugs of its server, and what is refused.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any
from unittest import mock

from twisted.internet.address import IPv4Address

from tests.changed_settings import changes
from tests.dialect.koding.support import Client, KodingEdgeCase, host
from tests.wire.vectors_koding import (
    ANSWER,
    CLIENT,
    CONNECT,
    DISPLACED,
    HANDSHAKE,
    HOST,
    IDENTIFIER,
    LATE,
    REQUEST,
    RESPONSE,
    SERVER,
    SWITCHING,
    TRANSCRIPTS,
    UNAVAILABLE,
    UPGRADE,
)
from tunnelstack.control.config.records import Route
from tunnelstack.dialect.koding.settings import PortSettings
from tunnelstack.dialect.koding.states import ClientState, StateChange
from tunnelstack.dialect.koding.tunnel import portOf
from tunnelstack.errors import Denied, UsageError
from tunnelstack.exchange._server_exchange import ServerExchange
from tunnelstack.records import HTTPPurpose, Principal, SSHPurpose, TCPPurpose
from tunnelstack.stream.errors import UnsupportedPurpose
from tunnelstack.testing import Caller
from tunnelstack.wire.records.koding import ControlMessage, Transport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONNECTED, CLOSED, UNKNOWN = ClientState.CONNECTED, ClientState.CLOSED, ClientState.UNKNOWN


def octets(lines: list[tuple[str, str]], who: str) -> list[bytes]:
    """
    The frames of one side.
    """
    return [bytes.fromhex(frame) for side, frame in lines if side == who]


def split(data: bytes) -> list[bytes]:
    """
    Frames of yamux.
    """
    found = []
    while data:
        size = int.from_bytes(data[8:12], "big") if data[1] == 0 else 0
        found.append(data[: 12 + size])
        data = data[12 + size :]
    return found


class TranscriptTests(KodingEdgeCase):
    """
    What a genuine client sent, sent again; the frames that the server answers are those of the recording.  Requests are
    forwarded by this edge in its own form, with fields about the visitor.
    """

    def raw(self) -> Caller:
        caller = Caller()
        self.both.network.join(caller, self.both.network.ports[8080].factory, IPv4Address("TCP", "127.0.0.1", 8080))
        return caller

    def send(self, caller: Caller, data: bytes, cut: int) -> None:
        for piece in (data[:cut], data[cut:]):
            if piece:
                caller.transport.write(piece)
                self.both.settle()

    def shake(self, cut: int = 0) -> Caller:
        caller = self.raw()
        self.send(caller, CONNECT, cut)
        self.assertEqual(caller.got, ANSWER)
        self.send(caller, b"".join(octets(HANDSHAKE, CLIENT)), cut)
        self.assertEqual(split(caller.got[len(ANSWER) :]), octets(HANDSHAKE, SERVER))
        caller.got = b""
        return caller

    def test_theHandshakeIsReadAtEverySplit(self) -> None:
        self.begin()
        for cut in range(len(CONNECT) + 1):
            self.shake(cut)

    def test_nothingIsSentBeforeTheFirstFrameOfTheClient(self) -> None:
        self.begin()
        caller = self.visit(CONNECT)
        self.both.network.passTime(9)
        self.assertEqual(caller.got, ANSWER)
        self.both.network.passTime(30)
        self.assertIsNotNone(caller.lost)

    def ask(self, name: str) -> Caller:
        """
        The visitor of a transcript.
        """
        if name == "tcp":
            return self.visit(b"ping", 7005)
        if name == "websocket":
            return self.visit(UPGRADE)
        if name == "chunked":
            visitor = self.visit(
                b"POST /up HTTP/1.1\r\nHost: App.Test:8080\r\nUser-Agent: curl/8\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"3\r\nabc\r\n"
            )
            visitor.transport.write(b"0\r\n\r\n")
            self.both.settle()
            return visitor
        return self.visit(REQUEST)

    def answered(self, name: str, visitor: Caller) -> None:
        wanted = {
            "request": b"hello", "chunked": b"hello", "websocket": LATE, "tcp": b"ping", "no local server": b"no local server",
        }[name]
        self.assertTrue(visitor.got.endswith(wanted), (name, visitor.got))

    def test_transcriptsAreReadAtEverySplit(self) -> None:
        for name, lines in TRANSCRIPTS.items():
            turns = [b"".join(octets(list(turn), CLIENT)) for _, turn in groupby(lines, lambda line: line[0])]
            for cut in range(1, max(map(len, turns)) + 1):
                with self.subTest(name, cut=cut):
                    self.begin(ports=[PortSettings(port=7005, host=HOST)])
                    client = self.shake()
                    visitor = self.ask(name)
                    self.assertEqual(split(client.got), octets(lines, SERVER)[:1])
                    for turn in turns:
                        self.send(client, turn, cut)
                    self.answered(name, visitor)
                    self.compare(split(client.got), octets(lines, SERVER))
                    self.end()

    def compare(self, ours: list[bytes], recorded: list[bytes]) -> None:
        """
        The same frames, in the same order, but for the acknowledgement that genuine servers sometimes leave out, and for the
        octets of requests.
        """
        def shape(frames: list[bytes]) -> list[tuple[int, int]]:
            return [(frame[1], int.from_bytes(frame[2:4], "big")) for frame in frames if not (frame[1] == 1 and frame[3] == 2)]

        found, wanted = shape(ours), shape(recorded)
        while (0, 0) in found[2:]:
            found.remove((0, 0))                 # a body is in as many frames as it arrived in
        while (0, 0) in wanted[2:]:
            wanted.remove((0, 0))
        self.assertEqual(found[: len(wanted)], wanted)

    def test_theFirstOfTwoClientsIsAskedToLeave(self) -> None:
        self.begin()
        first = self.shake()
        self.shake()
        self.assertEqual(split(first.got), [bytes.fromhex(frame) for frame in DISPLACED])
        self.both.network.passTime(11)
        self.assertIsNotNone(first.lost)

    def test_aPingIsAnswered(self) -> None:
        self.begin()
        caller = self.shake()
        self.send(caller, bytes.fromhex("000200010000000000000000"), 5)
        self.assertEqual(caller.got, bytes.fromhex("000200020000000000000000"))


class EntryTests(KodingEdgeCase):
    """
    Who gets in, and what the others are told.
    """

    def refused(self, request: bytes) -> tuple[bytes, bytes]:
        """
        @return: the status line and the body.
        """
        caller = self.visit(request)
        head, _, body = caller.got.partition(b"\r\n\r\n")
        self.assertIn(b"Content-Type: text/plain; charset=utf-8", head)
        self.assertIn(b"X-Content-Type-Options: nosniff", head)
        self.assertIn(b"Content-Length: %d" % len(body), head)
        self.assertIsNone(caller.lost)                     # the connection is kept
        return head.partition(b"\r\n")[0], body

    def test_refusalsHaveTheWordsOfTheGenuineServer(self) -> None:
        self.begin()
        bad = b"HTTP/1.1 502 Bad Gateway"
        for method in (b"GET", b"POST"):
            self.assertEqual(
                self.refused(CONNECT.replace(b"CONNECT", method)), (b"HTTP/1.1 405 Method Not Allowed", b"405 must CONNECT\n\n")
            )
        self.assertEqual(
            self.refused(CONNECT.replace(b"1234", b"4321")),
            (bad, b"no host associated for identifier 4321. please use server.AddHost()\n"),
        )
        self.assertEqual(
            self.refused(b"CONNECT /_controlPath HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"),
            (bad, b"no host associated for identifier . please use server.AddHost()\n"),
        )
        long = b"x" * 2000
        status, body = self.refused(CONNECT.replace(b"1234", long))
        self.assertEqual((status, len(body)), (bad, 512 + 64))

    def test_anIdentifierIsNeverLoggedAndAPeerIsLoggedAsText(self) -> None:
        from twisted.logger import formatEvent, globalLogPublisher

        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.begin(host("app.test", "s3cr3t-identifier"))
        self.connect("s3cr3t-identifier")
        self.refused(CONNECT.replace(b"1234", b"w0rd-unknown"))
        said = json.dumps([{key: str(value) for key, value in event.items()} for event in events])
        self.assertIn("koding.app.test", said)
        self.assertIn("a client at 127.0.0.1:", " ".join(str(formatEvent(event)) for event in events))
        for secret in ("s3cr3t", "w0rd"):
            self.assertNotIn(secret, said)

    def test_aStoppingEdgeAcceptsNoClient(self) -> None:
        self.begin()
        self.both.edge.agents.stopping = True
        self.assertEqual(self.refused(CONNECT)[0], b"HTTP/1.1 503 Service Unavailable")
        self.both.edge.agents.stopping = False

    def test_aConnectionThatCannotBeTakenOverIsRefused(self) -> None:
        """
        Bug 7: as with HTTP/2.
        """
        self.begin()
        self.patch(ServerExchange, "onRequest", mock.Mock(side_effect=UsageError("no")))
        status, body = self.refused(CONNECT)
        self.assertEqual(status, b"HTTP/1.1 502 Bad Gateway")
        self.assertEqual(body, b"webserver doesn't support hijacking: ServerExchange\n")
        self.both.network.passTime(20)

    def test_theDoorIsClosedOnHostsOfClients(self) -> None:
        """
        A published site may have a path of this name.
        """
        self.begin()
        self.connect()
        client = self.connect()
        self.visit(CONNECT.replace(b"127.0.0.1:7002", b"app.test").replace(b"CONNECT", b"GET"))
        self.assertEqual([message.transport for message in client.messages], [Transport.HTTP])

    def test_aWrongHandshakeEndsTheSession(self) -> None:
        for handshake in (b"controlHandshakf", b"x", b'{"action":1}'):
            self.begin()
            client = Client(self.both, handshake=handshake)
            self.assertEqual(client.control.answer, b"")
            self.both.network.passTime(11)
            self.assertTrue(client.gone)
            self.assertFalse(self.both.edge.registry.hasAgent("koding.app.test"))
            self.end()

    @changes("edge [koding] open_seconds")
    def test_noHandshakeInTimeEndsTheSession(self) -> None:
        self.begin(openSeconds=3.0)
        client = Client(self.both, handshake=b"")
        self.both.network.passTime(2.5)
        self.assertFalse(client.gone)
        self.both.network.passTime(11)
        self.assertTrue(client.gone)

    def test_onlyTheFirstStreamIsTheControlStream(self) -> None:
        self.begin()
        client = self.connect()
        stray = client.answer()
        self.both.settle()
        self.assertIsNotNone(stray.reason)
        self.assertFalse(client.gone)

    def test_objectsOnTheControlStreamMeanNothing(self) -> None:
        self.begin()
        client = self.connect()
        client.control.transport.write(b'{"any":["thing"]}{}\n {"action":7}')
        self.both.settle()
        self.assertFalse(client.gone)

    def test_nonsenseOnTheControlStreamEndsOneSession(self) -> None:
        for nonsense in (b"[]", b"1", b"nonsense", b'"text"', b"{]", b'{"x":"' + b"y" * 5000):
            self.begin(host(), host("other.test", "5678"))
            client, other = self.connect(), self.connect("5678")
            client.control.transport.write(nonsense)
            self.both.network.passTime(11)
            self.assertTrue(client.gone, nonsense)
            self.assertFalse(other.gone)
            visitor = self.get("other.test")
            self.respond(other.streams[0], OK)
            self.assertTrue(visitor.got.endswith(b"ok"))
            self.end()

    def test_theEndOfTheControlStreamIsTheEndOfTheClient(self) -> None:
        self.begin()
        client = self.connect()
        client.control.transport.loseConnection()
        self.both.network.passTime(1)
        self.assertFalse(self.both.edge.registry.hasAgent("koding.app.test"))
        self.assertTrue(client.gone)


class RequestTests(KodingEdgeCase):
    """
    HTTP and WebSockets.
    """

    def test_eachRequestHasAStreamOfItsOwn(self) -> None:
        self.begin()
        client = self.connect()
        visitor = self.visit(REQUEST)
        (stream,) = client.streams
        self.assertTrue(stream.got.startswith(b"GET /hi?x=1 HTTP/1.1\r\nHost: app.test\r\n"), stream.got)
        self.respond(stream, RESPONSE)
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertTrue(visitor.got.endswith(b"\r\n\r\nhello"))
        self.assertIn(b"Set-Cookie: a=1\r\nSet-Cookie: b=2", visitor.got)
        self.assertIn("read ended", stream.told)
        visitor.transport.write(REQUEST)
        self.both.settle()
        self.assertEqual(len(client.streams), 2)

    def test_theClientIsToldThePortOfTheHost(self) -> None:
        self.begin()
        client = self.connect()
        for name in ("app.test", "APP.Test:8080", "app.test:0", "app.test:", "app.test:0080"):
            self.get(name)
        self.assertEqual([message.local_port for message in client.messages], [0, 8080, 0, 0, 80])
        self.assertIn(b"Host: APP.Test:8080\r\n", client.streams[1].got)

    def test_portsAsGoReadsThem(self) -> None:
        for name, port in (
            (b"", 0), (b"a", 0), (b"a:80", 80), (b"a:", 0), (b"a:x", 0), (b"a:99999", 0), (b"a:65535", 65535),
            (b"[::1]:80", 80), (b"[::1]", 0), (b"::1", 0), (b"::1:80", 0), (b":80", 80), (b"a:-1", 0),
        ):
            self.assertEqual(portOf(name), port, name)

    def test_aClientMayHaveManyHosts(self) -> None:
        self.begin(host(), host("b.test"), host("www.edge.test"), host("c.test", "5678"))
        one, other = self.connect(), self.connect("5678")
        for name in ("app.test", "b.test", "www.edge.test", "c.test"):
            self.get(name)
        self.assertEqual((len(one.streams), len(other.streams)), (3, 1))
        self.assertEqual({tunnel.key for tunnel in self.both.edge.registry}, {"koding.app.test", "koding.c.test"})

    def test_concurrentRequestsAreAnsweredInAnyOrder(self) -> None:
        self.begin()
        client = self.connect()
        visitors = [self.get(path=f"/{number}") for number in range(20)]
        for stream in reversed(client.streams):
            number = stream.got.split(b" ")[1]
            self.respond(stream, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(number), number))
        for number, visitor in enumerate(visitors):
            self.assertTrue(visitor.got.endswith(b"\r\n\r\n/%d" % number))

    def test_thePortOfARouteIsSentToTheClient(self) -> None:
        self.both = both = self.begin()
        both.edge.reload(both.edge.config.__class__(
            domain="edge.test", listen=("tcp:8080",), dialects=both.edge.config.dialects, tokens=both.edge.config.tokens,
            routes=(Route(host="third.test", to="koding.app.test:3000"),),
        ))  # fmt: skip
        client = self.connect()
        self.get("third.test:8080")
        self.assertEqual(client.messages, [ControlMessage(Transport.HTTP, 3000)])

    def test_withoutAClientOrAHostTheVisitorIsTold(self) -> None:
        self.begin()
        self.assertTrue(self.get().got.startswith(b"HTTP/1.1 503 "))
        self.assertTrue(self.get("unknown.test").got.startswith(b"HTTP/1.1 404 "))
        self.assertTrue(self.visit(UPGRADE).got.startswith(b"HTTP/1.1 503 "))

    def test_streamingIsNotHeldBack(self) -> None:
        """
        The genuine server flushes nothing until its buffer is full.
        """
        self.begin()
        client = self.connect()
        visitor = self.get()
        self.respond(
            client.streams[0],
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
        )
        self.assertIn(b"data: 1\n\n", visitor.got)
        self.respond(client.streams[0], b"9\r\ndata: 2\n\n\r\n")
        self.assertIn(b"data: 2\n\n", visitor.got)

    def test_interimResponsesAreNotFinal(self) -> None:
        self.begin()
        client = self.connect()
        visitor = self.get()
        self.respond(client.streams[0], b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        self.assertTrue(visitor.got.endswith(OK[-19:]), visitor.got)
        self.assertIn(b"HTTP/1.1 200 OK\r\n", visitor.got)

    def test_octetsAfterASwitchAreKept(self) -> None:
        self.begin()
        client = self.connect()
        visitor = self.visit(UPGRADE)
        self.assertEqual(client.messages, [ControlMessage(Transport.WEBSOCKET)])
        self.respond(client.streams[0], SWITCHING + LATE)
        self.assertTrue(visitor.got.endswith(LATE))
        visitor.transport.write(b"\x81\x00")
        self.both.settle()
        self.assertTrue(client.streams[0].got.endswith(b"\x81\x00"))

    def test_anUpgradeThatIsRefusedIsAnsweredWhole(self) -> None:
        self.begin()
        client = self.connect()
        visitor = self.visit(UPGRADE)
        self.respond(client.streams[0], b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        self.assertTrue(visitor.got.endswith(b"no"))
        self.assertIn("read ended", client.streams[0].told)

    def test_aBodyMayLastUntilTheEndOfTheStream(self) -> None:
        self.begin()
        client = self.connect()
        visitor = self.get()
        self.respond(client.streams[0], b"HTTP/1.0 200 OK\r\n\r\nall of it")
        client.streams[0].transport.loseConnection()  # type: ignore[union-attr]
        self.both.settle()
        self.assertIn(b"all of it", visitor.got)

    def test_theAnswerOfAClientWithoutAServerArrives(self) -> None:
        """
        It is sent before the request has arrived, and even before the stream is acknowledged.
        """
        self.begin()
        client = self.connect()
        client.held = []
        visitor = self.get()
        stream = client.answer()
        stream.transport.write(UNAVAILABLE)  # type: ignore[union-attr]
        stream.transport.loseConnection()  # type: ignore[union-attr]
        self.both.settle()
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 503 Service Unavailable\r\n"), visitor.got)
        self.assertTrue(visitor.got.endswith(b"no local server"))

    def test_aResponseThatIsNoneIsAnError(self) -> None:
        self.begin()
        client = self.connect()
        for answer in (b"nonsense\r\n\r\n", b""):
            visitor = self.get()
            stream = client.streams[-1]
            stream.transport.write(answer)  # type: ignore[union-attr]
            stream.transport.loseConnection()  # type: ignore[union-attr]
            self.both.settle()
            self.assertTrue(visitor.got.startswith(b"HTTP/1.1 502 "), visitor.got)


    def test_headsOfResponsesAreBounded(self) -> None:
        """
        Bug 6: the genuine server has no limits.
        """
        self.begin()
        client = self.connect()
        visitor = self.get()
        self.respond(client.streams[0], b"HTTP/1.1 200 OK\r\nX: " + b"y" * 3_000_000)
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 502 "), visitor.got[:80])
        self.assertFalse(client.gone)


class LateTests(KodingEdgeCase):
    """
    Streams that come late, or never.
    """

    def test_aStreamThatNeverComesPoisonsNothing(self) -> None:
        """
        Bug 1: after it every request to the genuine server fails until the client connects again.
        """
        self.begin()
        client = self.connect()
        client.skip = 1
        first = self.get()
        self.both.network.passTime(10)
        self.assertTrue(first.got.startswith(b"HTTP/1.1 503 "), first.got)
        for _ in range(3):
            visitor = self.get()
            self.respond(client.streams[-1], OK)
            self.assertTrue(visitor.got.endswith(b"ok"))

    def test_aWebSocketThatGetsNoStreamIsAnsweredAndClosed(self) -> None:
        self.begin()
        client = self.connect()
        client.skip = 1
        visitor = self.visit(UPGRADE)
        self.both.network.passTime(10)
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 503 "), visitor.got)

    def test_aLateStreamIsDiscarded(self) -> None:
        """
        Bug 3: streams are not given to a request of another kind.
        """
        self.begin(ports=[PortSettings(port=7005, host=HOST)])
        client = self.connect()
        client.held = []
        tcp = self.visit(b"raw", 7005)
        self.both.network.passTime(10)
        self.assertIsNotNone(tcp.lost)
        visitor = self.get()
        late, stream = client.answer(), client.answer()
        self.both.settle()
        self.assertIsNotNone(late.reason)
        self.assertTrue(stream.got.startswith(b"GET / "))
        self.respond(stream, OK)
        self.assertTrue(visitor.got.endswith(b"ok"))

    def test_aVisitorThatLeavesDoesNotShiftTheQueue(self) -> None:
        self.begin()
        client = self.connect()
        client.held = []
        self.get(path="/gone").transport.abortConnection()
        self.both.settle()
        visitor = self.get(path="/here")
        unused, stream = client.answer(), client.answer()
        self.both.settle()
        self.assertEqual((unused.got, "read ended" in unused.told), (b"", True))
        self.assertTrue(stream.got.startswith(b"GET /here "))
        self.respond(stream, OK)
        self.assertTrue(visitor.got.endswith(b"ok"))

    def test_aLateLossOfAnOldSessionTouchesNoNewOne(self) -> None:
        """
        Bug 5: the genuine server deletes by identifier.
        """
        self.begin()
        old = self.connect()
        new = self.connect()
        old.session.abort()
        self.both.settle()
        self.get()
        self.assertEqual((len(old.streams), len(new.streams)), (0, 1))
        self.assertIs(self.dialect.find("koding.app.test"), next(iter(self.both.edge.registry)))

    def test_requestsUnderWayOutliveAReplacement(self) -> None:
        self.begin()
        old = self.connect()
        visitor = self.get()
        self.connect()
        self.respond(old.streams[0], OK)
        self.assertTrue(visitor.got.endswith(b"ok"))
        self.both.network.passTime(11)
        self.assertTrue(old.gone)


class PortTests(KodingEdgeCase):
    """
    Raw TCP.
    """

    def test_octetsAndHalfClosesBothWays(self) -> None:
        """
        Bug 2: the genuine server sends no FIN.
        """
        self.begin(ports=[PortSettings(port=7005, host=HOST)])
        client = self.connect()
        visitor = self.visit(b"ping", 7005)
        self.assertEqual(client.messages, [ControlMessage(Transport.TCP, 7005)])
        (stream,) = client.streams
        self.assertEqual(stream.got, b"ping")
        visitor.transport.loseWriteConnection()
        self.both.settle()
        self.assertIn("read ended", stream.told)
        self.respond(stream, b"pong")
        stream.transport.loseConnection()  # type: ignore[union-attr]
        self.both.settle()
        self.assertEqual(visitor.got, b"pong")
        self.assertIsNotNone(visitor.lost)

    def test_aPortIsOpenWhileTheClientIsConnected(self) -> None:
        self.begin(ports=[PortSettings(port=7005, host=HOST), PortSettings(port=7006, host=HOST, address="127.0.0.1")])
        self.assertNotIn(7005, self.both.network.ports)
        client = self.connect()
        self.assertIn(7005, self.both.network.ports)
        self.assertIn(7006, self.both.network.ports)
        client.session.abort()
        self.both.settle()
        self.assertNotIn(7005, self.both.network.ports)
        self.connect()
        self.assertIn(7005, self.both.network.ports)

    def test_aVisitorThatGetsNoStreamIsClosed(self) -> None:
        self.begin(ports=[PortSettings(port=7005, host=HOST)])
        client = self.connect()
        client.skip = 1
        visitor = self.visit(b"ping", 7005)
        self.both.network.passTime(10)
        self.assertIsNotNone(visitor.lost)

    def test_aPortThatIsTakenIsLoggedAndNothingElse(self) -> None:
        self.begin(
            host(), host("b.test", "5678"), ports=[PortSettings(port=8080, host=HOST), PortSettings(port=7005, host=HOST)]
        )
        client = self.connect()
        self.visit(b"ping", 7005)
        self.assertEqual(len(client.streams), 1)

    def test_otherPurposesAreUnsupported(self) -> None:
        self.begin()
        self.connect()
        tunnel = self.dialect.find("koding.app.test")
        assert tunnel is not None
        for purpose in (SSHPurpose(), TCPPurpose(service="db"), TCPPurpose(host="10.0.0.1", port=80), HTTPPurpose(service="x")):
            self.assertRaises(UnsupportedPurpose, tunnel.endpointFor, purpose)
        self.assertRaises(UnsupportedPurpose, tunnel.exchange, HTTPPurpose(service="x"), None)
        to, purpose = self.both.edge.agents.reach(Principal(agent="x", allow=("dial:*",)), "koding.app.test:22", "")
        self.assertIs(to, tunnel)
        tunnel.endpointFor(purpose)
        self.assertEqual(tunnel.inFlight, 0)


class StateTests(KodingEdgeCase):
    """
    What developers are told.
    """

    def test_changesOfState(self) -> None:
        self.begin()
        changes: list[StateChange] = []
        states = self.dialect.states
        states.watch(changes.append)
        waiting = states.when("koding.app.test", CONNECTED)
        client = self.connect()
        self.assertEqual(self.successResultOf(waiting).current, CONNECTED)
        self.assertEqual(states.state("koding.app.test"), CONNECTED)
        gone = states.when("koding.app.test", CLOSED)
        client.session.abort()
        self.both.settle()
        self.successResultOf(gone)
        self.visit(CONNECT.replace(b"1234", b"unknown"))
        self.connect()
        self.assertEqual(
            [(change.client, change.previous, change.current) for change in changes],
            [
                ("koding.app.test", UNKNOWN, CONNECTED), ("koding.app.test", CONNECTED, CLOSED), ("", UNKNOWN, CLOSED),
                ("koding.app.test", CLOSED, CONNECTED),
            ],
        )
        self.assertEqual(str(changes[0]), "koding.app.test: ClientUnknown becomes ClientConnected")
        self.assertIn("no host has its identifier", str(changes[2]))

    def test_aCallbackThatFailsIsLoggedAndNothingElse(self) -> None:
        self.begin()
        self.dialect.states.watch(lambda change: 1 / 0)
        self.connect()
        self.end()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_drainingLetsRequestsFinish(self) -> None:
        self.begin()
        client = self.connect()
        visitor = self.get()
        stopped: Any = self.both.edge.stopService()
        self.both.settle()
        self.assertFalse(client.gone)
        self.respond(client.streams[0], OK)
        self.assertTrue(visitor.got.endswith(b"ok"))
        client.streams[0].transport.loseConnection()  # type: ignore[union-attr]
        self.both.settle()
        self.assertIsNotNone(client.control.lost)
        self.both.network.passTime(2)
        self.successResultOf(stopped)


class AdministrationTests(KodingEdgeCase):
    """
    Hosts and ports while the edge runs.
    """

    def post(self, path: bytes, **asked: Any) -> Any:
        return self.dialect.postHandlers[path](asked)

    def denied(self, path: bytes, **asked: Any) -> str:
        return self.assertRaises(Denied, self.post, path, **asked).code

    def listed(self) -> Any:
        return self.dialect.getHandlers[b"/koding/hosts"]()

    def test_aHostIsAddedAndRevoked(self) -> None:
        self.begin()
        self.assertTrue(self.get("new.test").got.startswith(b"HTTP/1.1 404 "))
        self.post(b"/koding/hosts/add", host="New.test", identifier="fresh")
        client = self.connect("fresh")
        self.get("new.test")
        self.assertEqual(len(client.streams), 1)
        self.assertEqual(
            [(each["host"], each["client"], each["configured"], each["connected"]) for each in self.listed()["hosts"]],
            [("app.test", "koding.app.test", True, False), ("new.test", "koding.new.test", False, True)],
        )
        self.post(b"/koding/hosts/revoke", host="new.test")
        self.both.settle()
        self.assertTrue(client.gone)
        self.assertTrue(self.get("new.test").got.startswith(b"HTTP/1.1 404 "))
        self.assertNotIn("new.test", json.dumps(self.listed()))

    def test_aClientKeepsItsSessionWhileItHasAHost(self) -> None:
        self.begin()
        client = self.connect()
        self.post(b"/koding/hosts/add", host="second.test", identifier=IDENTIFIER)
        self.get("second.test")
        self.assertEqual(len(client.streams), 1)
        self.post(b"/koding/hosts/revoke", host="second.test")
        self.both.settle()
        self.assertFalse(client.gone)

    def test_aPortIsOpenedAndClosed(self) -> None:
        self.begin()
        client = self.connect()
        self.post(b"/koding/ports/open", port=7005, host="app.test")
        self.both.settle()
        self.visit(b"ping", 7005)
        self.assertEqual(client.messages, [ControlMessage(Transport.TCP, 7005)])
        self.assertEqual(self.listed()["ports"], [
            {"port": 7005, "address": "", "host": "app.test", "client": "koding.app.test", "configured": False}
        ])
        self.post(b"/koding/ports/close", port=7005)
        self.both.settle()
        self.assertNotIn(7005, self.both.network.ports)

    def test_aPortGoesFromOneClientToAnother(self) -> None:
        from attrs import evolve

        from tests.dialect.koding.support import edgeTables

        hosts = host("b.test", "5678"), host("a.test")
        both = self.begin(*hosts, ports=[PortSettings(port=7005, host="a.test")])
        other, one = self.connect("5678"), self.connect()
        self.visit(b"ping", 7005)
        tables = edgeTables(*hosts, ports=[PortSettings(port=7005, host="b.test")])
        both.edge.reload(evolve(both.edge.config, dialects=tables))
        both.settle()
        self.visit(b"ping", 7005)
        self.assertEqual((len(one.streams), len(other.streams)), (1, 1))

    def test_invalidRequestsAreDenied(self) -> None:
        self.begin(ports=[PortSettings(port=7005, host=HOST)])
        for asked, code in (
            ({"host": "app.test", "identifier": "x"}, "taken"), ({"host": "a_b", "identifier": "x"}, "malformed"),
            ({"host": "a.test:80", "identifier": "x"}, "malformed"), ({"host": "192.0.2.1", "identifier": "x"}, "malformed"),
            ({"host": "a.test"}, "malformed"), ({"identifier": "x"}, "malformed"),
            ({"host": 5, "identifier": "x"}, "malformed"),
            ({"host": "a.test", "identifier": "x" * 513}, "malformed"),
        ):
            self.assertEqual(self.denied(b"/koding/hosts/add", **asked), code, asked)
        self.assertEqual(self.denied(b"/koding/hosts/revoke", host="app.test"), "not-allowed")
        self.assertEqual(self.denied(b"/koding/hosts/revoke", host="x.test"), "unknown")
        for asked, code in (
            ({"port": 7005, "host": "app.test"}, "taken"),
            ({"port": 7005, "host": "app.test", "address": "127.0.0.2"}, "taken"),
            ({"port": 0, "host": "app.test"}, "malformed"), ({"port": "7", "host": "app.test"}, "malformed"),
            ({"port": 7, "host": "x.test"}, "unknown"), ({"port": 7, "host": "app.test", "address": "here"}, "malformed"),
        ):
            self.assertEqual(self.denied(b"/koding/ports/open", **asked), code, asked)
        self.assertEqual(self.denied(b"/koding/ports/close", port=7005), "not-allowed")
        self.assertEqual(self.denied(b"/koding/ports/close", port=7), "unknown")

    def test_aChangedFileApplies(self) -> None:
        from attrs import evolve

        from tests.dialect.koding.support import edgeTables

        both = self.begin(host(), host("b.test", "5678"))
        one, other = self.connect(), self.connect("5678")
        self.post(b"/koding/hosts/add", host="kept.test", identifier=IDENTIFIER)
        tables = edgeTables(host(), host("c.test"), ports=[PortSettings(port=7005, host="c.test")])
        sentences = both.edge.reload(evolve(both.edge.config, dialects=tables))
        both.settle()
        self.assertEqual(sentences, ("[[koding.host]]: 1 added, 1 removed", "[[koding.port]]: 1 added"))
        self.assertTrue(other.gone)
        self.assertFalse(one.gone)
        for name in ("c.test", "kept.test"):
            self.get(name)
        self.visit(b"ping", 7005)
        self.assertEqual(len(one.streams), 3)
        self.assertTrue(self.get("b.test").got.startswith(b"HTTP/1.1 404 "))
