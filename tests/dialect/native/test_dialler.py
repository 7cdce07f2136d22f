"""
The agent's half of the native dialect, with edges that do what they must not.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.strangers import Stream, quiet
from tunnelstack.dialect.native.control_client import RESPONSE_SECONDS, ControlLost
from tunnelstack.dialect.native.control_messages import ControlProtocolError
from tunnelstack.dialect.native.dialler import EdgeBusy, NativeDialler, NotAnEdge, TokenRefused
from tunnelstack.dialect.native.protocol import MAX_LINE_OCTETS, SUBPROTOCOL, TCP, decodeVisitor
from tunnelstack.errors import Denied, UsageError
from tunnelstack.negotiation.endpoint import NegotiatingEndpoint
from tunnelstack.records import Service
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.errors import StreamResetError
from tunnelstack.testing import Network
from tunnelstack.transport.websocket.server import WebSocketServerFactory
from tunnelstack.wire.negotiation.multistream.tokens import HEADER, token

CONTROL = b"/tunnelstack/control/1.0.0"
AGREED = HEADER + token(CONTROL)
WELCOME = {"event": "welcome", "agent": "laptop", "session": "1", "limits": {}}


class Dialled(SynchronousTestCase):
    """
    What these tests begin with: one attempt, toward an edge of the test's making.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.edge = YamuxSession(True, clock=self.network)
        self.control = Stream()
        self.edge.listener.listen(quiet(lambda: self.control))
        self.told: list[tuple[str, Any]] = []
        self.handlers: dict[bytes, Any] = {}
        self.addCleanup(self.end)

    def end(self) -> None:
        if self.edge.transport is not None and self.edge.lostReason() is None:
            self.edge.abort()
        self.network.passTime(11)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def listen(self, subprotocols: tuple[str, ...] = (SUBPROTOCOL,)) -> None:
        self.network.listenTCP(
            80, WebSocketServerFactory(quiet(lambda: self.edge), clock=self.network, subprotocols=subprotocols)
        )

    def answer(self, octets: bytes) -> None:
        """
        Listen, and say this to whoever asks.
        """

        class Other(Protocol):
            transport: Any

            def dataReceived(self, data: bytes) -> None:
                self.transport.write(octets)
                self.transport.loseConnection()

        self.network.listenTCP(80, quiet(Other))

    def dial(self) -> Any:
        dialler = NativeDialler(self.network, "http://localhost", "secret", self.handlers, instance="me", version="test")
        dialled = dialler.dial(lambda event, members: self.told.append((event, members)))
        self.network.settle()
        return dialled

    def say(self, *messages: Any) -> None:
        """
        Say something on the control stream.
        """
        lines = [message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n" for message in messages]
        self.control.transport.write(b"".join(lines))
        self.network.settle()

    def linked(self) -> Any:
        """
        A session that is up.
        """
        self.listen()
        dialled = self.dial()
        self.say(AGREED, WELCOME)
        return self.successResultOf(dialled)


class DialTests(Dialled):
    """
    What an attempt comes to.
    """

    def test_theFirstMessagesAreExchanged(self) -> None:
        self.listen()
        dialled = self.dial()
        self.assertEqual(self.control.got, AGREED + b'{"version":"test","instance":"me"}\n')
        self.assertNoResult(dialled)
        self.say(AGREED, {**WELCOME, "later": {"than": "this"}})
        self.assertEqual(self.successResultOf(dialled).agent, "laptop")

    def test_theReasonOfARefusalIsShownAsOneLineOfPlainText(self) -> None:
        for kind, body, shown in (
            (b"text/plain; charset=utf-8", b"The token is expired since 2026.\n", ": The token is expired since"),
            (b"text/plain", b"\x1b[2Jfirst\nsite   forged", r": \x1b[2Jfirst"), (b"text/html", b"<h1>Forbidden</h1>", ""),
            (b"text/plain", b" \n ", ""), (b"text/plain", b"x" * 1000, ": " + "x" * 256 + "\u2026"),
        ):
            self.answer(b"HTTP/1.1 401 No\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(body), body))
            told = str(self.failureResultOf(self.dial(), TokenRefused).value)
            self.assertTrue(told.startswith(f"the edge at http://localhost refuses the token{shown}"), told)
            self.assertTrue(told.isprintable() and "forged" not in told and "Forbidden" not in told, told)
            self.network.ports[80].stopListening()

    def test_theTokenIsAskedForBeforeEachAttempt(self) -> None:
        heads: list[bytes] = []

        class Edge(Protocol):
            transport: Any

            def dataReceived(self, data: bytes) -> None:
                heads.append(data)
                self.transport.write(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")

        self.network.listenTCP(80, quiet(Edge))
        tokens = iter(["old", "new", ""])
        dialler = NativeDialler(self.network, "http://localhost", lambda: next(tokens), {})
        for expected in (b"Authorization: Bearer old\r\n", b"Authorization: Bearer new\r\n", b""):
            dialled = dialler.dial()
            self.network.settle()
            self.failureResultOf(dialled, TokenRefused)
            self.assertIn(expected, heads[-1])
        self.assertNotIn(b"Authorization", heads[-1])

    def test_nobodyIsThere(self) -> None:
        self.failureResultOf(self.dial(), ConnectionRefusedError)

    def test_eachStatusHasItsError(self) -> None:
        for status, kind in (
            (401, TokenRefused), (403, TokenRefused), (404, NotAnEdge), (200, NotAnEdge), (301, NotAnEdge),
            (400, NotAnEdge), (426, NotAnEdge), (429, EdgeBusy), (502, EdgeBusy), (503, EdgeBusy), (504, EdgeBusy),
        ):  # fmt: skip
            self.answer(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status)
            failure = self.failureResultOf(self.dial(), kind)
            self.assertNotIn("secret", str(failure.value))
            self.network.ports[80].stopListening()

    def test_aServerWithoutHTTPIsNoEdge(self) -> None:
        self.answer(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.failureResultOf(self.dial(), NotAnEdge)

    def test_aWebSocketThatIsNoEdge(self) -> None:
        self.listen(())
        self.failureResultOf(self.dial(), NotAnEdge)
        self.assertIsNotNone(self.edge.lostReason())

    def test_anEdgeThatSaysNothing(self) -> None:
        self.listen()
        dialled = self.dial()
        self.network.passTime(11)
        self.failureResultOf(dialled, EdgeBusy)
        self.network.passTime(6)
        self.assertIsNotNone(self.edge.lostReason())

    def test_anEdgeThatSaysNo(self) -> None:
        self.listen()
        dialled = self.dial()
        self.say(AGREED, {"event": "ended", "code": "stopping", "reason": "not now"})
        error: Any = self.failureResultOf(dialled, Denied).value
        self.assertEqual((error.code, error.sentence), ("stopping", "not now"))

    def test_anEdgeThatSpeaksOfSomethingElse(self) -> None:
        for said in (
            [AGREED, {"event": "drain"}], [AGREED, b"nonsense\n"], [AGREED, {"id": "x"}], [b"HTTP/1.1 200 OK\r\n\r\n"],
            [HEADER + token(b"na")], [AGREED, b"x" * 20_000],
        ):  # fmt: skip
            self.network = Network()
            self.edge, self.control = YamuxSession(True, clock=self.network), Stream()
            self.edge.listener.listen(quiet(lambda: self.control))
            self.listen()
            dialled = self.dial()
            self.say(*said)
            self.failureResultOf(dialled)
            self.network.passTime(6)
            self.assertIsNotNone(self.edge.lostReason(), said)

    def test_anEdgeThatGoes(self) -> None:
        self.listen()
        dialled = self.dial()
        self.edge.abort()
        self.network.settle()
        self.failureResultOf(dialled)


class ControlTests(Dialled):
    """
    Requests, answers and events.
    """

    def test_answersFindTheirRequests(self) -> None:
        link = self.linked()
        first, second = link.announce(Service(name="a")), link.announce(Service(name="b", kind="tcp", port=7))
        withdrawn = link.withdraw(Service(name="a"))
        self.network.settle()
        asked = [json.loads(line) for line in self.control.got[len(AGREED):].splitlines()[1:]]
        self.assertEqual(
            asked,
            [
                {"id": 1, "do": "announce", "service": {"name": "a", "kind": "http"}},
                {"id": 2, "do": "announce", "service": {"name": "b", "kind": "tcp", "port": 7}},
                {"id": 3, "do": "withdraw", "service": {"name": "a", "kind": "http"}},
            ],
        )
        self.say(
            {"id": 3, "ok": True}, {"id": 2, "ok": True, "grant": {"url": "", "host": "b.x", "port": 7, "more": 1}},
            {"id": 1, "ok": False, "code": "taken", "reason": "by\x1b[31m somebody"},
        )
        self.successResultOf(withdrawn)
        self.assertEqual(self.successResultOf(second).port, 7)
        error: Any = self.failureResultOf(first, Denied).value
        self.assertEqual((error.code, error.sentence), ("taken", r"by\x1b[31m somebody"))

    def test_whatIsNotKnownIsOverlooked(self) -> None:
        link = self.linked()
        self.say({"event": "party", "at": 8}, {"id": 77, "ok": True}, {"event": "drain"})
        self.assertEqual([event for event, _ in self.told], ["party", "drain"])
        self.assertIsNone(link.session.lostReason())

    def test_whatCannotBeUnderstoodEndsTheSession(self) -> None:
        for said in (
            b"nonsense\n", b"{}\n", b'{"id":-1}\n', b'{"id":1.5,"ok":true}\n', b"x" * 20_000, b"[1]\n", b'{"id":1,"ok":1}\n',
        ):  # fmt: skip
            self.network = Network()
            self.edge, self.control = YamuxSession(True, clock=self.network), Stream()
            self.edge.listener.listen(quiet(lambda: self.control))
            link = self.linked()
            asked = link.announce(Service(name="a"))
            self.say(said)
            self.network.passTime(6)
            self.failureResultOf(asked)
            self.assertIsNotNone(link.session.lostReason(), said)

    def test_aGrantThatCannotBeUnderstood(self) -> None:
        link = self.linked()
        asked = link.announce(Service(name="a"))
        self.say({"id": 1, "ok": True, "grant": {"url": 1}})
        self.failureResultOf(asked, ControlProtocolError)

    def test_anAnswerThatDoesNotCome(self) -> None:
        link = self.linked()
        asked = link.announce(Service(name="a"))
        self.network.passTime(RESPONSE_SECONDS + 1)
        self.failureResultOf(asked, ControlLost)
        self.say({"id": 1, "ok": True, "grant": {"url": "", "host": "", "port": 0}})      # too late, and no harm
        self.assertIsNone(link.session.lostReason())


class StreamTests(Dialled):
    """
    Streams that the edge opens.
    """

    def open(self, name: bytes, octets: bytes = b"") -> Any:
        stream = Stream()
        self.edge.connector.connect(quiet(lambda: stream))
        stream.transport.write(HEADER + token(name) + octets)
        self.network.settle()
        return stream

    def test_unknownNamesAreReset(self) -> None:
        self.linked()
        for name in (b"/unknown", TCP, CONTROL):
            stream = self.open(name, b"{}\n" + token(b"/other") + b"{}\n")
            self.assertTrue(stream.reason.check(StreamResetError))
            self.assertEqual(stream.got, b"")

    def test_handlersMayComeLater(self) -> None:
        link = self.linked()
        heard: list[Any] = []

        class Listener(Protocol):
            def dataReceived(self, data: bytes) -> None:
                heard.append(data)

        link.handle(b"/later", quiet(Listener))
        stream = self.open(b"/later", b"{}\nhello")
        self.assertEqual((stream.got, heard), (HEADER + token(b"/later"), [b"hello"]))

    def test_parametersThatAreNone(self) -> None:
        link = self.linked()
        link.handle(b"/mine", quiet(Protocol))
        for line in (b"nonsense\n", b"[]\n", b"x" * 17_000, b"[" * 9000 + b"\n"):
            stream = self.open(b"/mine", line)
            self.assertTrue(stream.reason.check(StreamResetError), line[:20])
        self.assertIsNone(link.session.lostReason())

    def test_moreParametersThanALineHolds(self) -> None:
        link = self.linked()
        self.assertRaises(UsageError, link.dial, "x" * MAX_LINE_OCTETS)
        self.assertIsInstance(link.dial("x"), NegotiatingEndpoint)


class VisitorTests(SynchronousTestCase):
    """
    Visitors as a line of parameters has them.
    """

    def test_theAddressOfAVisitorIsDecoded(self) -> None:
        for said, address in (
            ({"host": "203.0.113.7", "port": 5}, IPv4Address("TCP", "203.0.113.7", 5)),
            ({"host": "2001:db8::7", "port": 5}, IPv6Address("TCP", "2001:db8::7", 5)),
            ({"host": "fe80::1%eth0", "port": 5}, IPv6Address("TCP", "fe80::1", 5)),
            ({"host": "::ffff:203.0.113.7", "port": 5}, IPv4Address("TCP", "203.0.113.7", 5)),
            ({"host": "example.net", "port": 5}, None), ({"host": "1.2.3.4"}, None), ({"host": "1.2.3.4", "port": -1}, None),
            ({"host": "1.2.3.4", "port": 99999}, None), ({"host": "1.2.3.4", "port": "5"}, None), ({}, None), ("x", None),
            (None, None),
        ):  # fmt: skip
            self.assertEqual(decodeVisitor({"visitor": said}), address)
        self.assertIsNone(decodeVisitor({}))
