"""
The inspector of an agent: what it records of visitors' requests, and what its API answers.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.agent.inspected import PORT, InspectedTestCase, Received, respond
from tests.changed_settings import changes
from tests.wire.test_websocket_messages import BINARY, TEXT, Deflater, frame
from tunnelstack.agent.inspector.recorded_request import RecordedMessage
from tunnelstack.agent.inspector.recorder import MOST_MESSAGES
from tunnelstack.agent.inspector.replay import REPLAY_SECONDS
from tunnelstack.agent.inspector.request_events import MOST_WAITING
from tunnelstack.agent.options import Options
from tunnelstack.agent.validation import agentMistakes
from tunnelstack.control.config.reader import Mistakes, parseAgent
from tunnelstack.control.config.records import AgentConfig, InspectConfig, ServiceConfig
from tunnelstack.pages.event_stream import MOST_STREAMS, STALLED_SECONDS
from tunnelstack.testing import Caller, EdgeAndAgent
from tunnelstack.wire.http1.head import ResponseHead
from tunnelstack.wire.http1.redaction import REDACTED, is_secret


class RecordingTests(InspectedTestCase):
    """
    What is kept of requests.
    """

    def test_aRequestIsInTheListWithItsTimes(self) -> None:
        self.assertIn(b"hello", self.visit("/a?b=1").got)
        answer = self.json("/api/requests")
        [summary] = answer["requests"]
        self.assertEqual((answer["forgotten"], answer["redacted"]), (0, True))
        wanted = {
            "id": 1, "method": "GET", "host": "site.localhost", "target": "/a?b=1", "service": "site", "status": 200,
            "state": "ended", "kind": "http", "type": "text/plain", "sent": 5, "received": 0, "replayOf": None,
            "visitor": "127.0.0.1",
        }  # fmt: skip
        self.assertEqual({key: summary[key] for key in wanted}, wanted)
        self.assertTrue(summary["trace"])
        self.assertGreaterEqual(summary["seconds"], summary["first"])

    def test_theDetailHasHeadsAndBodies(self) -> None:
        self.visit("/form", "POST", "Content-Type: application/json\r\n", b'{"a": 1}')
        detail = self.json("/api/requests/1")
        self.assertEqual(detail["request"]["line"], "POST /form HTTP/1.1")
        self.assertEqual(detail["request"]["text"], '{"a": 1}')
        self.assertEqual(detail["request"]["type"], "application/json")
        self.assertEqual((detail["response"]["line"], detail["response"]["text"]), ("HTTP/1.1 200 OK", "hello"))
        self.assertEqual([name for name, _ in detail["steps"]][-1], "end")
        self.assertEqual(detail["failure"], "")

    def test_bodiesThatAreNoTextAreBase64(self) -> None:
        self.origin.answer = respond(b"\x89PNG\0", b"image/png")
        self.visit("/", "POST", body=b"\xff\xfe\0")
        detail = self.json("/api/requests/1")
        self.assertEqual((detail["response"]["text"], b64decode(detail["response"]["body64"])), (None, b"\x89PNG\0"))
        self.assertEqual(b64decode(detail["request"]["body64"]), b"\xff\xfe\0")

    def test_contentIsShownWithoutItsCoding(self) -> None:
        self.origin.answer = respond(gzip.compress(b"packed"), fields=[(b"Content-Encoding", b"gzip")])
        self.visit()
        self.assertEqual(self.json("/api/requests/1")["response"]["text"], "packed")
        self.origin.answer = respond(b"?", fields=[(b"Content-Encoding", b"br")])
        self.visit()
        response = self.json("/api/requests/2")["response"]
        self.assertEqual((response["text"], response["why"]), (None, "the coding br is not decoded"))

    def test_aBodyThatExpandsIsDecodedInPart(self) -> None:
        self.origin.answer = respond(gzip.compress(bytes(64 * 2**20)), fields=[(b"Content-Encoding", b"gzip")])
        self.visit()
        response = self.json("/api/requests/1")["response"]
        self.assertEqual((len(response["text"]), response["why"]), (4 * 2**20, ""))
        self.origin.answer = respond(b"not packed", fields=[(b"Content-Encoding", b"gzip")])
        self.visit()
        self.assertEqual(self.json("/api/requests/2")["response"]["why"], "the body is not gzip")

    def test_credentialsAreRedacted(self) -> None:
        self.origin.answer = respond(fields=[(b"Set-Cookie", b"id=secret")])
        self.visit(fields="Authorization: Basic secret\r\nCookie: a=secret\r\nX-Api-Key: secret\r\n")
        for path in ("/api/requests/1", "/api/requests/1/curl", "/api/har"):
            self.assertNotIn(b"secret", self.ask(path)[2], path)
        self.assertIn(["Authorization", REDACTED], self.json("/api/requests/1")["request"]["fields"])

    def test_aServerThatDoesNotListenIsAFailure(self) -> None:
        del self.both.network.ports[3000]
        self.visit()
        detail = self.json("/api/requests/1")
        self.assertEqual((detail["state"], detail["status"]), ("failed", 503))
        self.assertIn("Nothing listens on", detail["failure"])

    def test_anOpenRequestIsShown(self) -> None:
        self.origin.answer = lambda received: None
        visitor = self.visit("/slow")
        [summary] = self.json("/api/requests")["requests"]
        self.assertEqual((summary["state"], summary["status"], summary["seconds"]), ("open", 0, None))
        visitor.transport.abortConnection()
        self.both.settle()
        detail = self.json("/api/requests/1")
        self.assertEqual(detail["state"], "failed")
        self.assertTrue(detail["failure"])
        self.assertEqual(self.recorder.captures, {})

    def test_aStreamOfEventsHasMessages(self) -> None:
        def stream(received: Received) -> None:
            received.exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Type", b"text/event-stream")]))
            received.exchange.write(b"data: one\n\ndata: t")
            received.exchange.write(b"wo\n\n")

        self.origin.answer = stream
        self.visit()
        detail = self.json("/api/requests/1")
        self.assertEqual((detail["kind"], detail["state"]), ("events", "open"))
        self.assertEqual([each["text"] for each in detail["messages"]], ["data: one\n", "data: two\n"])

    def test_responsesToHEADHaveNoBody(self) -> None:
        self.origin.answer = respond(b"")
        self.visit(method="HEAD")
        self.assertEqual(self.json("/api/requests/1")["sent"], 0)

    def test_endedRequestsAreForgottenOnDemand(self) -> None:
        self.visit()
        self.assertEqual(self.json("/api/requests", "DELETE"), {})
        answer = self.json("/api/requests")
        self.assertEqual((answer["requests"], answer["forgotten"]), ([], 1))
        self.assertEqual(self.recorder.octets, 0)


class FolderTests(InspectedTestCase):
    """
    A folder that is served.
    """

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "a.txt").write_text("of a file" * 20_000)
        self.services = (ServiceConfig(name="site", kind="serve", target=str(folder)),)
        super().setUp()

    def test_filesAreRecordedAndReplayed(self) -> None:
        self.visit("/a.txt")
        self.assertEqual(self.json("/api/requests/1")["response"]["octets"], 180_000)
        again = self.json("/api/requests/1/replay", "POST", {})["id"]
        self.both.network.passTime(1, 0.01)
        detail = self.json(f"/api/requests/{again}")
        self.assertEqual((detail["state"], detail["status"], detail["sent"]), ("ended", 200, 180_000))


class WebSocketTests(InspectedTestCase):
    """
    An upgraded connection.
    """

    inspect = InspectConfig(enabled=True, bodyOctets=1024)

    def upgrade(self, extensions: bytes = b"") -> tuple[Caller, Received]:
        def switch(received: Received) -> None:
            if received.exchange.status:
                return
            fields = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
            if extensions:
                fields.append((b"Sec-WebSocket-Extensions", extensions))
            received.exchange.sendHead(ResponseHead(101, b"Switching Protocols", fields))

        self.origin.answer = switch
        visitor = self.visit(fields="Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
        self.assertIn(b" 101 ", visitor.got)
        return visitor, self.origin.received[0]

    def messages(self) -> list[tuple[str, str, str]]:
        return [(each["from"], each["kind"], each["text"]) for each in self.json("/api/requests/1")["messages"]]

    def test_messagesOfBothSidesAreShown(self) -> None:
        visitor, server = self.upgrade()
        visitor.transport.write(frame(TEXT, b"ping?", b"1234"))
        self.both.settle()
        server.exchange.write(frame(TEXT, b"pong!") + frame(8, b"\x03\xe8bye"))
        self.both.settle()
        self.assertEqual(self.messages(), [
            ("visitor", "text", "ping?"), ("server", "text", "pong!"), ("server", "close", "1000 bye"),
        ])  # fmt: skip
        self.assertEqual(self.json("/api/requests/1")["kind"], "websocket")
        self.assertEqual(server.octets, len(frame(TEXT, b"ping?", b"1234")))

    def test_compressedMessagesAreInflated(self) -> None:
        visitor, _ = self.upgrade(b"permessage-deflate")
        deflate = Deflater()
        for word in (b"again", b"again"):
            visitor.transport.write(frame(TEXT, deflate(word), b"1234", compressed=True))
        self.both.settle()
        self.assertEqual([text for *_, text in self.messages()], ["again", "again"])

    def test_whatIsNoFramePassesThrough(self) -> None:
        visitor, server = self.upgrade()
        visitor.transport.write(b"\xff" * 50)
        self.both.settle()
        self.assertEqual((server.octets, self.messages()), (50, []))

    def test_messagesOf64MebibytesPassAndLittleIsKept(self) -> None:
        visitor, server = self.upgrade()
        visitor.transport.write(bytes((0x82, 0xFF)) + (64 * 2**20).to_bytes(8, "big") + b"\0\0\0\0")
        for _ in range(64):
            visitor.transport.write(bytes(2**20))
            self.both.settle()
        [message] = self.json("/api/requests/1")["messages"]
        self.assertEqual((message["octets"], message["cut"], len(b64decode(message["body64"]))), (64 * 2**20, True, 1024))
        self.assertEqual(server.octets, 64 * 2**20 + 14)

    def test_theOldestMessagesAreForgotten(self) -> None:
        visitor, server = self.upgrade()
        for number in range(600):
            server.exchange.write(frame(BINARY, b"%d" % number))
        self.both.settle()
        detail = self.json("/api/requests/1")
        self.assertEqual(len(detail["messages"]) + detail["messagesForgotten"], 600)
        self.assertLess(len(detail["messages"]), MOST_MESSAGES + 1)
        self.assertEqual(b64decode(detail["messages"][-1]["body64"]), b"599")

    def test_itCannotBeReplayed(self) -> None:
        self.upgrade()
        self.assertIn("WebSocket", self.json("/api/requests/1/replay", "POST", {}, status=409)["error"])


class BoundTests(InspectedTestCase):
    """
    Bounds in octets and in number.
    """

    inspect = InspectConfig(enabled=True, requests=50, octets=2**20, bodyOctets=1000)

    @changes("agent [inspect] requests")
    def test_aFloodKeepsTheLastRequests(self) -> None:
        visitor = Caller()
        network = self.both.network
        visitor = self.visit()
        for _ in range(100):
            visitor.transport.write(b"GET / HTTP/1.1\r\nHost: site.localhost\r\n\r\n" * 100)
            network.settle()
        self.assertEqual(visitor.got.count(b"hello"), 10_001)
        answer = self.json("/api/requests")
        self.assertEqual((len(answer["requests"]), answer["forgotten"]), (50, 10_001 - 50))
        self.assertEqual(answer["requests"][0]["id"], 10_001)
        self.assertEqual(self.recorder.octets, sum(each.size for each in self.recorder.requests.values()))
        self.assertEqual(self.recorder.captures, {})
        self.assertLess(len(self.recorder._ended), 51)

    @changes("agent [inspect] body_octets")
    def test_bodiesAreKeptInPart(self) -> None:
        self.origin.answer = respond(b"y" * 5000)
        self.visit("/", "POST", body=b"x" * 3000)
        detail = self.json("/api/requests/1")
        for which, octets in (("request", 3000), ("response", 5000)):
            message = detail[which]
            self.assertEqual((message["octets"], message["kept"], message["cut"]), (octets, 1000, True))
            self.assertEqual((message["why"], len(message["text"])), ("", 1000))
        self.assertIn("body_octets", self.ask("/api/har")[2].decode())

    def test_aBodyOfAGibibyteIsNotHeld(self) -> None:
        """
        In virtual pieces: the recorder is given one object again and again.
        """
        self.origin.answer = lambda received: None
        self.visit()
        [request] = self.recorder.requests.values()
        piece = bytes(2**20)
        for _ in range(1024):
            self.recorder.bodyReceived(request, request.responseBody, piece)
        self.assertEqual((request.responseBody.octets, len(request.responseBody.kept)), (2**30, 1000))

    @changes("agent [inspect] octets")
    def test_bodiesOfAllRequestsAreBounded(self) -> None:
        self.origin.answer = respond(b"y" * 1000, fields=[(b"X-Long", b"z" * 20_000)] * 3)
        for _ in range(40):
            self.visit()
        answer = self.json("/api/requests")
        self.assertLess(len(answer["requests"]), 17)
        self.assertEqual(answer["forgotten"], 40 - len(answer["requests"]))

    def test_messagesOfOpenRequestsAreBounded(self) -> None:
        self.origin.answer = lambda received: None
        for _ in range(40):
            self.visit()
        for request in list(self.recorder.requests.values()):
            for _ in range(200):
                self.recorder.messageReceived(request, RecordedMessage("server", 0.0, "binary", 900, bytes(900), False))
        self.assertLess(self.recorder.octets, 2**20 + 1)
        self.assertEqual(self.recorder.octets, sum(each.size for each in self.recorder.requests.values()))
        request = self.recorder.last
        self.recorder.bodyReceived(request, request.responseBody, bytes(500))
        self.assertTrue(request.responseBody.cut or self.recorder.octets < 2**20)

    def test_openRequestsAreForgottenIfThereAreTooMany(self) -> None:
        self.origin.answer = lambda received: None
        for _ in range(60):
            self.visit()
        self.assertEqual(len(self.recorder.requests), 50)
        for received in self.origin.received:
            respond()(received)
        self.both.settle()
        self.assertEqual(len(self.recorder.requests), 50)
        self.assertEqual(self.recorder.captures, {})

    def test_pressureIsThatOfTheVisitor(self) -> None:
        """
        A visitor that does not read pauses the local server.
        """
        def stream(received: Received) -> None:
            received.exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Type", b"text/plain")]))
            received.exchange.registerProducer(producer, True)
            while not producer.paused and producer.written < 64 * 2**20:
                producer.written += 65_536
                received.exchange.write(bytes(65_536))
                self.both.settle()

        producer = _Producer()
        self.origin.answer = stream
        visitor = self.both.visit(b"")
        visitor.transport.pauseProducing()
        visitor.transport.write(b"GET / HTTP/1.1\r\nHost: site.localhost\r\n\r\n")
        self.both.settle()
        self.assertTrue(producer.paused)
        self.assertLess(producer.written, 16 * 2**20)


class _Producer:
    paused = False
    written = 0

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.paused = True


class WithoutBodiesTests(InspectedTestCase):
    """
    The setting C{bodies}.
    """

    inspect = InspectConfig(enabled=True, bodies=False)

    def test_bodiesAreNotKept(self) -> None:
        self.visit("/", "POST", body=b"x" * 3000)
        message = self.json("/api/requests/1")["request"]
        self.assertEqual((message["octets"], message["kept"]), (3000, 0))
        self.assertIn("not kept", message["why"])
        self.assertIn("not kept", self.json("/api/requests/1/replay", "POST", {}, status=409)["error"])


class RevealTests(InspectedTestCase):
    """
    The setting C{reveal}.
    """

    inspect = InspectConfig(enabled=True, reveal=True)

    def test_credentialsAreShown(self) -> None:
        self.visit(fields="Authorization: Basic secret\r\n")
        self.assertIn(["Authorization", "Basic secret"], self.json("/api/requests/1")["request"]["fields"])
        self.assertFalse(self.json("/api/requests")["redacted"])


class ReplayTests(InspectedTestCase):
    """
    Replay, and edit-and-replay.
    """

    def setUp(self) -> None:
        super().setUp()
        self.visit("/a", "POST", "Authorization: Basic c2VjcmV0\r\nX-Word: one\r\n", b"body")

    def replay(self, edited: object = None, status: int = 200) -> Any:
        return self.json("/api/requests/1/replay", "POST", {} if edited is None else edited, status)

    def test_aReplayIsANewRequest(self) -> None:
        again = self.replay()["id"]
        self.both.settle()
        detail = self.json(f"/api/requests/{again}")
        self.assertEqual((detail["replayOf"], detail["state"], detail["status"]), (1, "ended", 200))
        received = self.origin.received[1]
        self.assertEqual((received.head.method, received.head.target, received.body), (b"POST", b"/a", b"body"))
        self.assertEqual(received.head.field(b"authorization"), b"Basic c2VjcmV0")
        self.assertNotEqual(detail["trace"], self.json("/api/requests/1")["trace"])

    def test_aReplayCanBeEdited(self) -> None:
        fields = self.json("/api/requests/1")["request"]["fields"]
        edited = [[name, "two" if name == "X-Word" else value] for name, value in fields]
        self.replay({"method": "PUT", "target": "/b?c", "fields": edited, "body": "gr\u00fc\u00dfe", "body64": None})
        self.both.settle()
        received = self.origin.received[1]
        self.assertEqual((received.head.method, received.head.target), (b"PUT", b"/b?c"))
        self.assertEqual((received.head.field(b"x-word"), received.body.decode()), (b"two", "gr\u00fc\u00dfe"))
        self.assertEqual(received.head.field(b"authorization"), b"Basic c2VjcmV0")

    def test_aBodyCanBeOctets(self) -> None:
        self.replay({"body64": b64encode(b"\0\xff").decode()})
        self.both.settle()
        self.assertEqual(self.origin.received[1].body, b"\0\xff")

    def test_aBodyThatIsAsShownIsSentAsItWasReceived(self) -> None:
        for number, (fields, body) in enumerate((
            ("Content-Type: text/plain\r\n", b"two\r\nlines"), ("Content-Encoding: br\r\n", b"\x0b\x02"),
            ("Content-Encoding: gzip\r\nContent-Type: text/plain\r\n", gzip.compress(b"packed\r\n")),
        ), 2):  # fmt: skip
            self.visit("/", "POST", fields, body)
            shown = self.json(f"/api/requests/{2 * number - 2}")["request"]
            text = None if shown["text"] is None else shown["text"].replace("\r\n", "\n")
            edited = {"fields": shown["fields"], "body": text, "body64": shown["body64"]}
            self.json(f"/api/requests/{2 * number - 2}/replay", "POST", edited)
            self.both.settle()
            received, wanted = self.origin.received[-1].head, self.origin.received[-2].head
            self.assertEqual(self.origin.received[-1].body, body)
            self.assertEqual(received.field(b"content-encoding"), wanted.field(b"content-encoding"))

    def test_whatIsMalformedIsRejected(self) -> None:
        for edited in (
            [], {"method": "G T"}, {"method": 1}, {"target": "/a b"}, {"target": "/a\r\nX: y"}, {"fields": {}},
            {"fields": [["a"]]}, {"fields": [["a", 1]]}, {"fields": [["X-New", "\ud800"]], "body": "x"},
            {"body": "a", "body64": "YQ=="}, {"body64": "!"}, {"body64": "YQ="}, {"body64": "\u00fc"}, {"body": 1},
            {"other": 1},
        ):  # fmt: skip
            status, _, answer = self.ask("/api/requests/1/replay", "POST", json.dumps(edited).encode())
            self.assertIn(status, (400, 409), (edited, answer))
            self.assertIn("error", json.loads(answer))
        for field in (["X", "a\r\nb"], ["X y", "b"], ["Cookie", REDACTED]):
            self.replay({"fields": [["Host", "a"], field]}, 409)
        self.replay({"fields": []}, 409)
        self.assertEqual(self.ask("/api/requests/1/replay", "POST", b"{")[0], 400)
        self.assertEqual(self.ask("/api/requests/1/replay", "POST", b"[" * 100_000)[0], 400)
        self.both.settle()
        self.assertEqual(len(self.origin.received), 1)

    def test_aReplayThatDoesNotEndIsStopped(self) -> None:
        self.origin.answer = lambda received: None
        again = self.replay()["id"]
        self.both.network.passTime(REPLAY_SECONDS + 1)
        self.assertEqual(self.json(f"/api/requests/{again}")["state"], "failed")
        self.assertIsNone(self.inspector._replayer._running or None)

    def test_aBodyThatIsNotWholeIsNotReplayed(self) -> None:
        self.both.visit(b"POST / HTTP/1.1\r\nHost: site.localhost\r\nContent-Length: 10\r\n\r\nhalf")
        self.assertIn("whole", self.json("/api/requests/2/replay", "POST", {}, status=409)["error"])
        self.json("/api/requests/2/replay", "POST", {"body": "another"})
        self.both.settle()
        self.assertEqual(self.origin.received[-1].body, b"another")

    def test_anOpenRequestIsReplayedIfItsBodyIsThere(self) -> None:
        self.origin.answer = lambda received: None
        self.visit("/slow", "POST", body=b"whole")
        self.json("/api/requests/2/replay", "POST", {})
        self.both.settle()
        self.assertEqual(self.origin.received[-1].body, b"whole")

    def test_replaysAreBounded(self) -> None:
        self.origin.answer = lambda received: None
        for _ in range(16):
            self.replay()
        self.assertIn("too many", self.replay(status=409)["error"])

    def test_aServiceThatIsNotPublishedIsNotReplayed(self) -> None:
        self.both.agent._configured.update([])
        self.both.settle()
        self.assertIn("not published", self.replay(status=409)["error"])

    def test_aReplayIsSentToTheNewServerOfTheService(self) -> None:
        self.both.agent._configured.update([ServiceConfig(name="site", target="3000", rewriteHost="other")])
        self.both.settle()
        self.replay()
        self.both.settle()
        self.assertEqual(self.origin.received[1].head.field(b"host"), b"other")


class ExportTests(InspectedTestCase):
    """
    What is copied and saved.
    """

    def test_curlSendsTheSameRequest(self) -> None:
        shell = shutil.which("sh")
        assert shell is not None
        body = "it's $HOME `id` \"x\" \\ !\n@/etc/passwd;"
        self.visit("/a'b?c=$(id)&d", "POST", "X-Quote: it's $(id)\r\nX-Empty:\r\n", body.encode())
        command = self.ask("/api/requests/1/curl")[2].decode()
        script = 'curl() { for each in "$@"; do printf "%s\\0" "$each"; done; }\n' + command
        words = subprocess.run([shell, "-c", script], capture_output=True, check=True, timeout=60).stdout.split(b"\0")
        self.assertIn(b"http://site.localhost/a'b?c=$(id)&d", words)
        self.assertIn(b"X-Quote: it's $(id)", words)
        self.assertIn(b"X-Empty;", words)
        self.assertEqual(words[words.index(b"--data-raw") + 1].decode(), body)

    def test_curlReadsOctetsFromPrintf(self) -> None:
        self.visit("/", "POST", body=b"\0\xff%d\\'\x1b")
        command = self.ask("/api/requests/1/curl")[2].decode()
        self.assertNotIn("\x1b", command)
        script = "curl() { cat; }\n" + command
        self.assertEqual(subprocess.run(["sh", "-c", script], capture_output=True, timeout=60).stdout, b"\0\xff%d\\'\x1b")

    def test_anArchiveHasAllRequestsOrSome(self) -> None:
        self.origin.answer = respond(b"\0\1", b"image/png")
        for _ in range(3):
            self.visit("/x?a=1&a=2", "POST", body=b"text")
        archive = json.loads(self.ask("/api/har")[2])["log"]
        self.assertEqual((archive["version"], len(archive["entries"])), ("1.2", 3))
        entry = archive["entries"][0]
        self.assertEqual(entry["request"]["url"], "http://site.localhost/x?a=1&a=2")
        self.assertEqual(entry["request"]["queryString"], [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}])
        self.assertEqual(entry["request"]["postData"]["text"], "text")
        self.assertEqual(entry["response"]["content"], {
            "size": 2, "mimeType": "image/png", "text": "AAE=", "encoding": "base64",
        })  # fmt: skip
        self.assertEqual(set(entry["timings"]), {"blocked", "dns", "ssl", "connect", "send", "wait", "receive"})
        self.assertEqual(len(json.loads(self.ask("/api/har?id=1&id=3")[2])["log"]["entries"]), 2)
        self.assertEqual(self.ask("/api/har?id=9")[0], 404)

    def test_bodiesOfOtherSitesAreSandboxed(self) -> None:
        self.origin.answer = respond(b"<script>alert(1)</script>", b"text/html")
        self.visit()
        _, head, body = self.ask("/api/requests/1/response")
        self.assertEqual(body, b"<script>alert(1)</script>")
        for wanted in ("application/octet-stream", "attachment", "nosniff", "Content-Security-Policy: sandbox"):
            self.assertIn(wanted, head)
        self.origin.answer = respond(b"<svg/>", b"image/svg+xml")
        self.visit()
        _, head, body = self.ask("/api/requests/2/response")
        self.assertIn("Content-Type: image/svg+xml", head)
        self.assertIn("Content-Security-Policy: sandbox", head)
        self.assertEqual(self.ask("/api/requests/2/request")[2], b"")


class ResourceTests(InspectedTestCase):
    """
    Paths, methods and numbers.
    """

    def test_unknownNumbersAndPathsAreNotFound(self) -> None:
        self.visit()
        for path in (
            "/api/requests/2", "/api/requests/x", "/api/requests/-1", "/api/requests/", "/api/requests/1/other",
            "/api/requests/" + "9" * 5000, "/api/requests/%31", "/api", "/../service.py", "/%2e%2e/service.py", "/x.py",
            "/static/inspector.js",
        ):  # fmt: skip
            status, _, body = self.ask(path)
            self.assertEqual(status, 404, path)
            self.assertIn("error", json.loads(body))

    def test_otherMethodsAreRejected(self) -> None:
        self.visit()
        for path, method in (("/api/requests", "POST"), ("/api/har", "POST"), ("/", "POST"), ("/api/requests/1", "DELETE")):
            self.assertEqual(self.ask(path, method)[0], 405, path)
        self.assertEqual(self.ask("/api/requests/1/replay")[0], 405)

    def test_everyAnswerHasThePolicy(self) -> None:
        for path in ("/api/requests", "/nothing", "/api/har"):
            head = self.ask(path)[1]
            for wanted in ("Content-Security-Policy: default-src 'none'", "nosniff", "X-Frame-Options: DENY", "no-store"):
                self.assertIn(wanted, head, path)

    def test_filesOfThePageAreServed(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "index.html").write_text("<!DOCTYPE html>")
        (folder / "inspector.js").write_text("1")
        self.patch(self.inspector._resources._files, "folders", (folder,))
        self.assertEqual(self.ask("/")[2], b"<!DOCTYPE html>")
        self.assertIn("text/javascript", self.ask("/inspector.js")[1])

    def test_aLongBodyIsRejected(self) -> None:
        status, _, _ = self.ask("/api/requests/1/replay", "POST", fields="Content-Length: 99999999\r\n")
        self.assertEqual(status, 413)

    def test_itListensNoMoreWhenItHasStopped(self) -> None:
        self.assertIn(PORT, self.both.network.ports)
        self.end()
        self.assertNotIn(PORT, self.both.network.ports)


class EventTests(InspectedTestCase):
    """
    The stream that a page follows.
    """

    def follow(self) -> Caller:
        return self.both.visit(b"GET /api/events HTTP/1.1\r\nHost: localhost:4747\r\n\r\n", PORT)

    def test_changesAreSent(self) -> None:
        page = self.follow()
        self.assertIn(b"text/event-stream", page.got)
        self.visit("/new")
        self.both.network.passTime(0.2, 0.1)
        self.assertIn(b'event: request\ndata: {"id":1,', page.got)
        self.json("/api/requests", "DELETE")
        self.both.network.passTime(0.2, 0.1)
        self.assertIn(b"event: forgotten", page.got)

    def test_aReaderThatNeverReadsIsReset(self) -> None:
        page = self.follow()
        [stream] = self.inspector._resources._streams._open
        page.transport.pauseProducing()
        stream.pauseProducing()
        [changed] = self.recorder.onChange
        for number in range(MOST_WAITING + 500):
            self.recorder.requests.clear()
            self.visit(f"/{number}") if number < 20 else changed(_numbered(self.recorder, number))
        self.assertLess(len(stream._events), MOST_WAITING + 1)      # type: ignore[arg-type]
        self.both.network.passTime(STALLED_SECONDS + 1)
        self.assertEqual(len(self.inspector._resources._streams), 0)
        self.assertEqual((self.recorder.onChange, self.recorder.onForget), ([], []))

    def test_aReaderThatLeavesIsForgotten(self) -> None:
        page = self.follow()
        page.transport.abortConnection()
        self.both.settle()
        self.assertEqual(len(self.inspector._resources._streams), 0)

    def test_aQuietStreamIsKeptAlive(self) -> None:
        page = self.follow()
        self.both.network.passTime(40)
        self.assertGreaterEqual(page.got.count(b":\n\n"), 3)

    def test_streamsAreBounded(self) -> None:
        for _ in range(MOST_STREAMS):
            self.follow()
        self.assertIn(b" 503 ", self.follow().got)
        self.assertEqual(self.ask("/api/requests")[0], 200)

    def test_streamsEndWithTheAgent(self) -> None:
        page = self.follow()
        self.inspector.stopService()
        self.both.settle()
        self.assertTrue(page.got.endswith(b"0\r\n\r\n"))


def _numbered(recorder: Any, number: int) -> Any:
    from copy import copy

    request = copy(recorder.last)
    request.id = number + 1000
    return request


class AccessTests(InspectedTestCase):
    """
    Pages of other sites, and names that lead to this machine.
    """

    def test_aNameOfAnotherSiteIsRejected(self) -> None:
        for host in ("evil.example", "evil.example:4747", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1"):
            self.assertEqual(self.ask("/api/requests", host=host)[0], 421, host)
        for host in ("[", "a:b:c", "localhost, evil.example"):
            self.assertIn(self.ask("/api/requests", host=host)[0], (400, 421), host)

    def test_localNamesAreAllowed(self) -> None:
        for host in ("localhost:4747", "127.0.0.1:4747", "[::1]:4747", "127.0.0.2", "LOCALHOST"):
            self.assertEqual(self.ask("/api/requests", host=host)[0], 200, host)

    def test_pagesOfOtherSitesAreRejected(self) -> None:
        for origin in ("https://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:4747"):
            self.assertEqual(self.ask("/api/requests", fields=f"Origin: {origin}\r\n")[0], 403, origin)
        self.assertEqual(self.ask("/api/requests", fields="Origin: http://127.0.0.1:4747\r\n")[0], 200)
        self.assertEqual(self.ask("/api/har", fields="Sec-Fetch-Site: cross-site\r\n")[0], 403)
        self.assertEqual(self.ask("/api/har", fields="Sec-Fetch-Site: same-origin\r\n")[0], 200)

    def test_changesNeedTheField(self) -> None:
        self.visit()
        request = b"DELETE /api/requests HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        self.assertIn(b" 403 ", self.both.visit(request, PORT).got)
        self.assertEqual(len(self.recorder.requests), 1)

    def test_refusedRequestsAreRefusedBeforeTheirBodies(self) -> None:
        request = b"POST /api/requests/1/replay HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1000\r\n\r\n"
        self.assertIn(b" 421 ", self.both.visit(request, PORT).got)


class TokenTests(InspectedTestCase):
    """
    An inspector that can be reached from other machines.
    """

    def setUp(self) -> None:
        path = Path(self.mktemp())
        path.write_text("correct-token\n")
        path.chmod(0o600)
        self.inspect = InspectConfig(enabled=True, listen="tcp:4747", tokenFile=str(path))
        super().setUp()

    def test_theTokenIsNeeded(self) -> None:
        for fields in ("", "Authorization: Bearer wrong\r\n", "Authorization: Basic correct-token\r\n", "Cookie: a=b\r\n"):
            self.assertEqual(self.ask("/api/requests", fields=fields, host="laptop:4747")[0], 401, fields)
        self.assertEqual(self.ask("/api/requests?token=correct-token")[0], 401)
        self.assertEqual(self.ask("/", fields="")[0], 401)

    def test_aProgramSendsIt(self) -> None:
        self.assertEqual(self.ask("/api/requests", fields="Authorization: Bearer correct-token\r\n")[0], 200)

    def test_aBrowserGetsACookie(self) -> None:
        status, head, _ = self.ask("/?token=correct-token", host="laptop:4747")
        self.assertEqual(status, 303)
        cookie = next(line for line in head.split("\r\n") if line.startswith("Set-Cookie: ")).removeprefix("Set-Cookie: ")
        self.assertNotIn("correct-token", cookie)
        for attribute in ("HttpOnly", "SameSite=Strict"):
            self.assertIn(attribute, cookie)
        fields = f"Cookie: other=1; {cookie.partition(';')[0]}\r\n"
        self.assertEqual(self.ask("/api/requests", fields=fields, host="laptop:4747")[0], 200)
        self.assertEqual(self.ask("/?token=wrong")[0], 401)


class ConfigurationTests(SynchronousTestCase):
    """
    How the inspector is requested.
    """

    def test_theOptionEnablesIt(self) -> None:
        options = Options({"TUNNELSTACK_TOKEN": "x"})
        options.parseOptions(["http", "3000", "--edge", "http://localhost:1", "--inspect"])
        self.assertEqual(options.config.inspect, InspectConfig(enabled=True))

    def test_theTableHasItsSettings(self) -> None:
        text = '[inspect]\nenabled = true\nlisten = "5000"\nbody_octets = 10\nbodies = false\n'
        config = parseAgent(text, "agent.toml").inspect
        self.assertEqual((config.listen, config.bodyOctets, config.bodies), ("tcp:5000:interface=127.0.0.1", 10, False))
        with self.assertRaises(Mistakes):
            parseAgent("[inspect]\nrequests = 0\n", "agent.toml")

    def test_withoutItThereIsNothing(self) -> None:
        both = EdgeAndAgent(ServiceConfig(name="site", target="3000"))
        self.assertIsNone(both.agent.inspector)

    def test_mistakesAreReported(self) -> None:
        network: Any = EdgeAndAgent().network
        for settings, sentence in (({"listen": "nowhere"}, "[inspect] listen"), ({"tokenFile": "/nowhere"}, "/nowhere")):
            [mistake] = agentMistakes(network, AgentConfig(inspect=InspectConfig(enabled=True, **settings)))
            self.assertIn(sentence, mistake)

    def test_aTokenIsMadeInTheStateFolder(self) -> None:
        from tunnelstack.agent.inspector.service import inspectorToken

        state = Path(self.mktemp())
        environ = {"STATE_DIRECTORY": str(state)}
        token = inspectorToken(InspectConfig(listen="tcp:4747"), environ)
        assert token is not None
        self.assertEqual((state / "inspector.token").read_text().strip(), token())
        self.assertEqual((state / "inspector.token").stat().st_mode & 0o777, 0o600)
        again = inspectorToken(InspectConfig(listen="tcp:4747:interface=0.0.0.0"), environ)
        assert again is not None
        self.assertEqual(again(), token())
        self.assertIsNone(inspectorToken(InspectConfig(), environ))
        self.assertIsNotNone(inspectorToken(InspectConfig(listen="unix:/tmp/x"), environ))

    def test_fieldsWithCredentialsAreRecognized(self) -> None:
        for name in (
            b"Authorization", b"Cookie", b"SET-COOKIE", b"Proxy-Authorization", b"Tunnel-Authorization", b"X-Api-Key",
            b"apikey", b"X-Auth-Token", b"X-CSRF-Token",
            b"X-Amz-Security-Token", b"X-Goog-IAP-JWT-Assertion", b"X-Hub-Signature-256",
            b"X-Vault-Token", b"X-Access-Key", b"Private-Token", b"X-Client-Secret",
        ):  # fmt: skip
            self.assertTrue(is_secret(name), name)
        for name in (b"Host", b"Content-Type", b"WWW-Authenticate", b"Accept", b"Sec-WebSocket-Key", b"Author", b"ETag"):
            self.assertFalse(is_secret(name), name)
