"""
HTTP as a visitor sees it through whole programs: each feature with HTTP and HTTPS in front of the edge, and with an origin that
keeps its connections and one that closes them.  One test a row.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from websockets.sync.client import connect as connectWebSocket

from tests.system.house import DOMAIN, House, house
from tests.system.origin import Head, Origin, Talk
from tests.system.stage import until

LARGE = 20 * 1024 * 1024
PIECE = 32 * 1024


class Rows:
    """
    The features; each subclass is a column.
    """

    scheme = "http"
    keeps = True
    house: House
    origin: Origin

    def setUp(self: Any) -> None:
        self.house = house()
        self.origin = self.house.origins[self.keeps]
        self.host = f"{'keeps' if self.keeps else 'closes'}.{DOMAIN}"
        self.origin.heads.clear()
        self.origin.steps.queue.clear()
        self.origin.happened.queue.clear()

    def visit(self) -> Talk:
        return self.house.connect(self.scheme, self.host)

    def request(self, path: str, *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
        return "\r\n".join((f"{method} {path} HTTP/{version}", f"Host: {self.host}", *fields, "", "")).encode()

    def ask(self, talk: Talk, path: str, *fields: str, body: bytes = b"", method: str = "GET") -> tuple[Head, bytes]:
        """
        One request and its answer.
        """
        if body:
            fields, method = (*fields, f"Content-Length: {len(body)}"), "POST" if method == "GET" else method
        talk.say(self.request(path, *fields, method=method), body)
        head = talk.head()
        return head, b"" if method == "HEAD" else talk.body(head)

    # Connections

    def test_connectionsAreKeptAlive(self: Any) -> None:
        with self.visit() as talk:
            for _ in range(3):
                head, body = self.ask(talk, "/length")
                self.assertEqual((head.status, body, head.field("connection")), (200, b"hello", None))

    def test_theVisitorCloses(self: Any) -> None:
        with self.visit() as talk:
            head, body = self.ask(talk, "/length", "Connection: close")
            self.assertEqual((body, head.field("connection")), (b"hello", "close"))
            self.assertTrue(talk.ended())

    def test_pipelinedRequestsAreAnsweredInOrder(self: Any) -> None:
        with self.visit() as talk:
            post = self.request("/echo", "Content-Length: 3", method="POST") + b"two"
            talk.say(self.request("/length") + post + self.request("/chunked") + self.request("/length"))
            bodies = [talk.body(talk.head()) for _ in range(4)]
            self.assertEqual(bodies, [b"hello", b"two", b"hello world", b"hello"])

    def test_aVisitorOfHTTP10IsServed(self: Any) -> None:
        with self.visit() as talk:
            talk.say(self.request("/chunked", version="1.0"))
            head = talk.head()
            self.assertEqual((head.field("transfer-encoding"), head.field("content-length")), (None, None))
            self.assertEqual(talk.rest(), b"hello world")

    # Bodies

    def test_bodiesOfKnownLengthArrive(self: Any) -> None:
        body = bytes(range(256)) * 4096
        with self.visit() as talk:
            for part in (body, body[:1], body[:70_000]):
                self.assertEqual(self.ask(talk, "/echo", body=part)[1], part)

    def test_chunksPassBothWaysAtOnce(self: Any) -> None:
        """
        Each chunk comes back before the next is sent: nothing waits for the end.
        """
        with self.visit() as talk:
            talk.say(self.request("/through", "Transfer-Encoding: chunked", method="POST"))
            talk.say(b"3\r\none\r\n")
            self.assertEqual(talk.head().field("transfer-encoding"), "chunked")
            chunks = talk.chunks()
            self.assertEqual(next(chunks), b"one")
            for piece in (b"two", b"three" * 20_000):
                talk.say(b"%x\r\n%b\r\n" % (len(piece), piece))
                got = b""
                while len(got) < len(piece):
                    got += next(chunks)
                self.assertEqual(got, piece)
            talk.say(b"0\r\n\r\n")
            self.assertEqual(list(chunks), [])

    def test_aBodyUntilTheCloseArrives(self: Any) -> None:
        with self.visit() as talk:
            self.assertEqual(self.ask(talk, "/close")[1], b"until the end")
            self.assertEqual(self.ask(talk, "/length")[1], b"hello")

    def test_trailersArrive(self: Any) -> None:
        with self.visit() as talk:
            fields = "Transfer-Encoding: chunked", "TE: trailers", "Trailer: X-One"
            talk.say(self.request("/trailers", *fields, method="POST"), b"1\r\na\r\n0\r\nX-One: 1\r\n\r\n")
            self.assertEqual(talk.body(talk.head()), b"X-One: 1\r\n")
            self.assertEqual(talk.trailers, [b"X-Sum: 42"])

    def test_largeBodiesArrive(self: Any) -> None:
        with self.visit() as talk:
            talk.say(self.request(f"/large?{LARGE}"))
            digest, left = hashlib.sha256(), int(talk.head().field("content-length") or 0)
            while left:
                data = talk.exactly(min(left, 65536))
                digest.update(data)
                left -= len(data)
            self.assertEqual(digest.digest(), hashlib.sha256(bytes(range(256)) * (LARGE // 256)).digest())
            body = bytes(range(255, -1, -1)) * (LARGE // 256)
            self.assertEqual(self.ask(talk, "/swallow", body=body)[1].decode(), hashlib.sha256(body).hexdigest())

    # Heads

    def test_aResponseToHEADHasNoBody(self: Any) -> None:
        with self.visit() as talk:
            head, _ = self.ask(talk, "/head", method="HEAD")
            self.assertEqual((head.status, head.field("content-length")), (200, "1000"))
            self.assertEqual(self.ask(talk, "/length")[1], b"hello")

    def test_answersWithoutBody(self: Any) -> None:
        with self.visit() as talk:
            for path, status in (("/none", 204), ("/same", 304)):
                talk.say(self.request(path))
                head = talk.head()
                self.assertEqual((head.status, head.field("transfer-encoding")), (status, None))
                self.assertEqual(self.ask(talk, "/length")[1], b"hello")

    def test_earlyHintsArrive(self: Any) -> None:
        with self.visit() as talk:
            talk.say(self.request("/hints"))
            heads = [talk.head() for _ in range(3)]
            self.assertEqual([head.status for head in heads], [103, 103, 200])
            self.assertEqual(heads[0].field("link"), "</a.css>; rel=preload")
            self.assertEqual(talk.body(heads[2]), b"hello")

    def test_aBodyWaitsFor100Continue(self: Any) -> None:
        with self.visit() as talk:
            talk.say(self.request("/expect", "Expect: 100-continue", "Content-Length: 4", method="PUT"))
            self.assertEqual(talk.head().status, 100)
            self.assertEqual(self.origin.happened.get(timeout=30), "head")
            talk.say(b"body")
            self.assertEqual(talk.body(talk.head()), b"body")

    def test_anExpectationMayBeRefused(self: Any) -> None:
        with self.visit() as talk:
            talk.say(self.request("/refuse", "Expect: 100-continue", "Content-Length: 4", method="PUT"))
            self.assertEqual(talk.head().status, 417)

    def test_hopByHopFieldsAreRemoved(self: Any) -> None:
        with self.visit() as talk:
            head, body = self.ask(
                talk, "/fields", "Connection: keep-alive, X-Mine", "X-Mine: 1", "Keep-Alive: 5", "Proxy-Connection: x",
                "TE: gzip", "Upgrade-Insecure-Requests: 1", "X-Kept: 1", "Proxy-Authorization: Basic eDp5",
            )
            asked = Head(body)
            for name in ("x-mine", "keep-alive", "proxy-connection", "te", "upgrade", "proxy-authorization"):
                self.assertIsNone(asked.field(name), name)
            self.assertEqual((asked.field("x-kept"), asked.field("upgrade-insecure-requests")), ("1", "1"))
            self.assertEqual((head.field("x-kept"), head.field("keep-alive")), ("yes", None))

    def test_forwardedFieldsAreReplaced(self: Any) -> None:
        with self.visit() as talk:
            lies = "X-Forwarded-For: 6.6.6.6", "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6"
            asked = Head(self.ask(talk, "/fields", *lies)[1])
            self.assertEqual(
                (asked.field("x-forwarded-for"), asked.field("x-forwarded-proto"), asked.field("x-forwarded-host")),
                ("127.0.0.1", self.scheme, self.host),
            )
            self.assertEqual(asked.field("forwarded"), f"for=127.0.0.1;host={self.host};proto={self.scheme}")
            self.assertIsNone(asked.field("x-real-ip"))
            self.assertTrue(asked.field("x-request-id"))

    # Upgrades and streams of events

    def test_anUpgradedConnectionPassesBothWays(self: Any) -> None:
        with self.visit() as talk:
            talk.say(self.request("/upgrade", "Connection: Upgrade", "Upgrade: raw"), b"early")
            head = talk.head()
            self.assertEqual((head.status, head.field("upgrade")), (101, "raw"))
            self.assertEqual(talk.exactly(15), b"here I am.EARLY")
            talk.say(b"a" * PIECE)
            for _ in range(32):               # one is always on its way there while another comes back
                talk.say(b"a" * PIECE)
                self.assertEqual(talk.exactly(PIECE), b"A" * PIECE)
            talk.exactly(PIECE)
            if self.scheme == "http":         # TLS has no half-close
                talk.socket.shutdown(socket.SHUT_WR)
                self.assertEqual(talk.rest(), b"!bye")

    def test_anUpgradeMayBeRefused(self: Any) -> None:
        with self.visit() as talk:
            self.assertEqual(self.ask(talk, "/upgrade", "Connection: Upgrade", "Upgrade: other")[1], b"no")
            self.assertEqual(self.ask(talk, "/length")[1], b"hello")

    def test_aWebSocketIsForwarded(self: Any) -> None:
        uri = f"{'ws' if self.scheme == 'http' else 'wss'}://{self.host}/websocket"
        talk = self.visit()
        talk.socket.settimeout(None)
        plain = talk.socket.detach() if self.scheme == "http" else None
        connection = talk.socket if plain is None else socket.socket(fileno=plain)
        uri = uri.replace("wss:", "ws:")      # the socket is TLS already
        with connectWebSocket(uri, sock=connection, open_timeout=30) as peer:
            for said in ("hello", "x" * 60_000):
                peer.send(said)
                self.assertEqual(peer.recv(20), said)

    def test_eventsArriveOneByOne(self: Any) -> None:
        """
        Event n is there before event n + 1 is made, and nothing is cut off between them, however long that takes.
        """
        with self.visit() as talk:
            talk.say(self.request("/events"))
            self.assertEqual(talk.head().status, 200)
            read = talk.chunks()
            for number in range(5):
                self.origin.steps.put(b"%d" % number)
                event = b"data: %d\n\n" % number
                got = b""
                while len(got) < len(event):
                    got += next(read)
                self.assertEqual(got, event)
            self.origin.steps.put(b"")
            self.assertEqual(b"".join(read), b"")

    def test_aLongPollIsAnswered(self: Any) -> None:
        with self.visit() as talk:
            talk.say(self.request("/poll"))
            self.assertEqual(self.origin.happened.get(timeout=30), "polled")
            self.origin.steps.put(b"news")
            self.assertEqual(talk.body(talk.head()), b"news")

    # What goes wrong

    def test_smugglingIsRefused(self: Any) -> None:
        wrongs = (
            "Content-Length: 4\r\nTransfer-Encoding: chunked", "Content-Length: 4\r\nContent-Length: 5",
            "Content-Length: 4, 4", "Content-Length: +4", "Content-Length: 0x4", "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: xchunked", "Transfer-Encoding : chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "X: a\r\n b: c", "X: a\rb",
            "X: a\nContent-Length: 4", "X: \0", f"Host: {self.host}", "X Y: z",
        )  # fmt: skip
        with contextlib.ExitStack() as talks:             # together: the end of TLS comes some seconds after the answer
            visits = [(wrong, talks.enter_context(self.visit())) for wrong in wrongs]
            for wrong, talk in visits:
                talk.say(self.request("/length", wrong, method="POST"), b"GET /stolen HTTP/1.1\r\n\r\n")
            for wrong, talk in visits:
                self.assertEqual(talk.head().status, 400, wrong)
            for _, talk in visits:
                talk.rest()
        with self.visit() as talk:
            talk.say(self.request("/echo", "Transfer-Encoding: chunked", method="POST"), b"3;\r\nabc\r\n0x1\r\n")
            self.assertEqual(talk.head().status, 400)
        self.assertEqual([head.first[1] for head in self.origin.heads if head.first[1] != "/echo"], [])

    def test_aSlowHeadIsAnswered408(self: Any) -> None:
        with self.visit() as talk:
            talk.say(self.request("/length")[:30])
            self.assertEqual(talk.head().status, 408)
            self.assertTrue(talk.rest() is not None and talk.ended())

    def test_aSlowBodyIsAnswered408(self: Any) -> None:
        with self.visit() as talk:
            talk.say(self.request("/echo", "Content-Length: 10", method="POST"), b"123")
            self.assertEqual(talk.head().status, 408)

    def test_pagesHaveIdentifiersThatAreInBothLogs(self: Any) -> None:
        for path in ("/break", "/nonsense"):
            with self.visit() as talk:
                head, body = self.ask(talk, path)
                trace = head.field("x-request-id") or ""
                self.assertEqual(head.status, 502, path)
                self.assertIn(trace.encode(), body)
                for program in (self.house.edge, self.house.agent):
                    until(lambda program=program: any(trace in line for line in program.err), program.said)
                self.assertEqual(self.ask(talk, "/length")[1], b"hello")

    def test_anAnswerThatBreaksOff(self: Any) -> None:
        with self.visit() as talk:
            talk.say(self.request("/half"))
            with contextlib.suppress(ConnectionError):
                head = talk.head()
                if head.status == 200:        # the break may overtake the beginning
                    self.assertEqual(head.field("content-length"), "10")
                    with self.assertRaises((AssertionError, OSError)):
                        talk.exactly(10)
                else:
                    self.assertIn(head.status, (0, 502))

    def test_theVisitorGoesAway(self: Any) -> None:
        with self.visit() as talk:
            talk.say(self.request("/silent"))
            self.assertEqual(self.origin.happened.get(timeout=30), "asked")
            if self.scheme == "http":         # a mere end could be that of one direction only
                talk.reset()
        self.assertEqual(self.origin.happened.get(timeout=30), "gone")

    def test_anUnknownNameIsAnswered404(self: Any) -> None:
        self.host = f"nobody.{DOMAIN}"
        with self.visit() as talk:
            self.assertEqual(self.ask(talk, "/")[0].status, 404)

    def test_doorsAreNoPathsOfASite(self: Any) -> None:
        with self.visit() as talk:
            self.assertEqual(self.ask(talk, "/_tunnel/1")[1], b"nothing here")


class HTTPKeepsTests(Rows, SynchronousTestCase):
    """
    HTTP, and an origin that keeps its connections.
    """


class HTTPClosesTests(Rows, SynchronousTestCase):
    """
    HTTP, and an origin that closes them.
    """

    keeps = False


class HTTPSKeepsTests(Rows, SynchronousTestCase):
    """
    HTTPS, and an origin that keeps its connections.
    """

    scheme = "https"


class HTTPSClosesTests(Rows, SynchronousTestCase):
    """
    HTTPS, and an origin that closes them.
    """

    scheme = "https"
    keeps = False
