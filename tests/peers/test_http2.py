"""
HTTP/2 with the genuine programs of others: h2spec, Go's net/http in both roles, and curl.
"""

from __future__ import annotations

import json
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.peers._go import program
from tests.system.test_visitors import peer
from tests.transport.http2 import OK, Remember
from tunnelstack.transport.http2.endpoint import HTTP2ClientEndpoint, HTTP2ServerFactory
from tunnelstack.transport.http2.errors import HTTP2StreamFailed
from tunnelstack.wire.http2.limits import HTTP2Limits

KIB = 1024
MIB = 1024 * KIB
BULK = MIB * (1024 if os.environ.get("TUNNELSTACK_SOAK") == "1" else 64)

FAILURES: dict[str, str] = {}
"""What fails of h2spec, with the reason; nothing does."""


class Answering(Remember):
    """
    C{/echo} sends back what comes, as it comes, and a trailer with the number of octets; all else is answered when complete.
    """

    count = 0
    path = b""

    def headersReceived(self, fields: Any, ended: bool) -> None:
        self.path = dict(fields)[b":path"]
        if self.path == b"/echo":
            self.stream.sendHeaders([*OK, (b"trailer", b"x-octets")])

    def dataReceived(self, octets: bytes) -> None:
        self.count += len(octets)
        if self.path == b"/echo":
            self.stream.write(octets)

    def ended(self, trailers: Any) -> None:
        if self.path == b"/echo":
            self.stream.end([(b"x-octets", b"%d" % self.count)])
        else:
            self.stream.sendHeaders([*OK, (b"content-type", b"text/plain")])
            self.stream.write(b"%d octets\n" % self.count * 100)
            self.stream.end()


class ServerTests(TestCase):
    """
    Our server, and clients of others.
    """

    @inlineCallbacks
    def serve(self: Any, **limits: Any) -> Any:
        factory = HTTP2ServerFactory(reactor, Answering, HTTP2Limits(**limits))     # type: ignore[arg-type]
        port = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        return port.getHost().port

    @inlineCallbacks
    def test_h2specFindsNothing(self: Any) -> Any:
        executable = str(program("h2spec"))
        # h2spec takes a list of fields of 20 000 octets for one that is too large
        port = yield self.serve(max_frame=16 * KIB)
        report = Path(self.mktemp()).absolute()
        out, errors, _ = yield getProcessOutputAndValue(executable, [str(port), str(report)])
        cases = list(ElementTree.parse(report).iter("testcase"))
        self.assertGreaterEqual(len(cases), 146, out + errors)
        failed = {
            f"{case.get('package')}: {case.get('classname')}"
            for case in cases if list(case.iter("failure")) or list(case.iter("error"))
        }
        self.assertEqual(failed, set(FAILURES))

    @inlineCallbacks
    def test_goClientsGetAnswers(self: Any) -> Any:
        executable = str(program("http2"))
        port = yield self.serve()
        for count in (1, 100, 1000):
            out, errors, code = yield getProcessOutputAndValue(executable, ["drive", str(port), str(count)])
            self.assertEqual((code, errors), (0, b""))
            result = json.loads(out)
            cancelled = count // 10
            self.assertEqual(
                {name: result[name] for name in ("Good", "Trailers", "Cancelled", "Errors")},
                {"Good": count - cancelled, "Trailers": count - cancelled, "Cancelled": cancelled, "Errors": None},
            )

    @inlineCallbacks
    def test_curlGetsAnswers(self: Any) -> Any:
        curl = peer("curl")
        port = yield self.serve()
        body = Path(self.mktemp()).absolute()
        body.write_bytes(bytes(range(256)) * 4 * KIB)
        url = f"http://127.0.0.1:{port}"
        common = ["-sS", "--max-time", "30", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}"]
        out, _, code = yield getProcessOutputAndValue(curl, [*common, f"{url}/", "-o", "/dev/null"])
        self.assertEqual((out, code), (b"2 200", 0))
        echoed = Path(self.mktemp()).absolute()
        arguments = [*common, "--data-binary", f"@{body}", "-o", str(echoed), f"{url}/echo"]
        out, _, code = yield getProcessOutputAndValue(curl, arguments)
        self.assertEqual((out, code), (b"2 200", 0))
        self.assertEqual(sha256(echoed.read_bytes()).digest(), sha256(body.read_bytes()).digest())


class GoServer(ProcessProtocol):
    """
    A server of Go's net/http.

    @ivar port: fires with its port.
    @ivar gone: fires when it has ended.
    """

    transport: Any

    def __init__(self) -> None:
        self.port: Deferred[int] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        found = re.match(rb"port (\d+)", data)
        if found is not None:
            self.port.callback(int(found[1]))

    def processEnded(self, reason: Any) -> None:
        self.gone.callback(None)


class Waiting(Remember):
    """
    A receiver with a Deferred of its end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.over: Deferred[Waiting] = Deferred()

    def closed(self) -> None:
        super().closed()
        self.over.callback(self)

    def failed(self, reason: Any) -> None:
        super().failed(reason)
        self.over.errback(reason)


class Zeros:
    """
    Writes octets while it is not paused, then ends the request.
    """

    def __init__(self, stream: Any, octets: int) -> None:
        self._stream = stream
        self._left = octets
        self._going = True
        stream.registerProducer(self, True)
        self._work()

    def _work(self) -> None:
        while self._going and self._left:
            piece = min(self._left, 64 * KIB)
            self._left -= piece
            self._stream.write(bytes(piece))
        if not self._left and self._going:
            self._going = False
            self._stream.unregisterProducer()
            self._stream.end()

    def pauseProducing(self) -> None:
        self._going = False

    def resumeProducing(self) -> None:
        self._going = True
        self._work()

    def stopProducing(self) -> None:
        self._going = False


class ClientTests(TestCase):
    """
    Our client, and a server of Go's.
    """

    @inlineCallbacks
    def connect(self: Any) -> Any:
        executable = str(program("http2"))
        server = GoServer()
        reactor.spawnProcess(server, executable, [executable, "serve"], env={})     # type: ignore[attr-defined]
        self.addCleanup(lambda: server.transport.closeStdin() or server.gone)
        port = yield server.port
        connection = yield HTTP2ClientEndpoint(reactor, TCP4ClientEndpoint(reactor, "127.0.0.1", port)).connect()
        self.addCleanup(lambda: connection.abort() or connection.whenLost())
        return connection

    def request(self, connection: Any, path: bytes, body: bytes | None = None) -> Waiting:
        receiver = Waiting()
        method = b"GET" if body is None else b"POST"
        head = [(b":method", method), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", path)]
        receiver.stream = connection.openStream(head, receiver, body is None)
        if body is not None:
            receiver.stream.write(body)
            receiver.stream.end()
        return receiver

    @inlineCallbacks
    def test_goServerAnswers(self: Any) -> Any:
        connection = yield self.connect()
        self.assertTrue(connection.openSlots >= 100)
        bodies = [bytes((number,)) * (1000 * number + 1) for number in range(100)]
        receivers = yield gatherResults([self.request(connection, b"/echo", body).over for body in bodies])
        for receiver, body in zip(receivers, bodies, strict=True):
            self.assertEqual(receiver.body, body)
            self.assertEqual(receiver.told[-2], ("ended", [(b"x-sum", sha256(body).hexdigest().encode())]))
        self.assertGreater((yield connection.ping()), 0)

    @inlineCallbacks
    def test_goServerSendsInterimHeads(self: Any) -> Any:
        connection = yield self.connect()
        receiver = yield self.request(connection, b"/hints").over
        self.assertEqual(receiver.told[0][0], "informational")
        self.assertIn((b":status", b"103"), receiver.told[0][1])
        self.assertEqual(receiver.body, b"hinted")

    @inlineCallbacks
    def test_goServerTakesAndSendsBulk(self: Any) -> Any:
        connection = yield self.connect()
        receiver = Waiting()
        head = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", b"/sum")]
        receiver.stream = connection.openStream(head, receiver)
        Zeros(receiver.stream, BULK)
        yield receiver.over
        self.assertIn((b"x-octets", b"%d" % BULK), receiver.told[0][1])
        receiver = Waiting()
        head[0], head[3] = (b":method", b"GET"), (b":path", b"/bytes?n=%d" % BULK)
        receiver.dataReceived = lambda octets: receiver.pieces.append(b"") or counted.append(len(octets))  # type: ignore[method-assign]
        counted: list[int] = []
        receiver.stream = connection.openStream(head, receiver, True)
        yield receiver.over
        self.assertEqual(sum(counted), BULK)

    @inlineCallbacks
    def test_goServerHearsOfAReset(self: Any) -> Any:
        connection = yield self.connect()
        receivers = [self.request(connection, b"/hang") for _ in range(50)]
        yield connection.ping()
        for receiver in receivers:
            receiver.stream.reset()
        receiver = yield self.request(connection, b"/bytes?n=10").over
        self.assertEqual(receiver.body, bytes(10))
        self.assertEqual(connection.streams, 0)

    @inlineCallbacks
    def test_goServerThatShutsDownLetsRequestsEnd(self: Any) -> Any:
        connection = yield self.connect()
        receiver = Waiting()
        head = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", b"/echo")]
        receiver.stream = connection.openStream(head, receiver)
        receiver.stream.write(b"before")
        yield connection.ping()
        drained = connection.drain()
        receiver.stream.write(b" and after")
        receiver.stream.end()
        yield receiver.over
        self.assertEqual(receiver.body, b"before and after")
        yield drained
        self.assertRaises(HTTP2StreamFailed, connection.openStream, head, Waiting())
