"""
Sessions over HTTP/2 with the genuine gRPC: streams of both directions that its client opens are lanes of our server.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from typing import Any
from unittest import SkipTest

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tunnelstack.session.http2 import HTTP2Session, StreamHeads
from tunnelstack.session.lanes import LaneSession

HEADS = StreamHeads(
    response=lambda fields: [(b":status", b"200"), (b"content-type", b"application/grpc")] if IS_LANE in fields else None,
    trailers=[(b"grpc-status", b"0")],
)
IS_LANE = (b":path", b"/tunnel.Lanes/Open")


def message(octets: bytes) -> bytes:
    """
    @return: octets as a message of gRPC.
    """
    return b"\0" + len(octets).to_bytes(4, "big") + octets


class Messages(Protocol):
    """
    Collects messages of gRPC.
    """

    transport: Any

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.lost: Deferred[Any] = Deferred()
        self._rest = b""
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) >= 5 and len(self._rest) >= (size := 5 + int.from_bytes(self._rest[1:5], "big")):
            self.messages.append(self._rest[5:size])
            self._rest = self._rest[size:]
        for count, waiting in self._waiting:
            if len(self.messages) >= count and not waiting.called:
                waiting.callback(None)

    def whenCount(self, count: int) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        if len(self.messages) >= count:
            waiting.callback(None)
        self._waiting.append((count, waiting))
        return waiting

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(reason.value)


class Client:
    """
    A client of gRPC whose streams send back what they receive, in upper case.

    @ivar statuses: how they ended.
    """

    def __init__(self, port: int) -> None:
        import grpc

        self.statuses: list[Any] = []
        self.calls: list[Any] = []
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._open = self._channel.stream_stream("/tunnel.Lanes/Open")

    def lane(self) -> None:
        """
        Open a lane, and serve it until it ends.
        """
        import grpc

        answers: queue.Queue[bytes | None] = queue.Queue()

        def requests() -> Iterator[bytes]:
            while (answer := answers.get()) is not None:
                yield answer

        call = self._open(requests())
        self.calls.append(call)
        try:
            for received in call:
                answers.put(received.upper())
        except grpc.RpcError:
            pass
        answers.put(None)
        self.statuses.append(call.code().name)

    def close(self) -> None:
        self._channel.close()


class LaneTests(TestCase):
    """
    grpcio opens streams, and our server uses them.
    """

    timeout = 120

    @inlineCallbacks
    def serve(self: Any) -> Any:
        try:
            import grpc  # noqa: F401
        except ImportError as absent:
            if os.environ.get("TUNNELSTACK_REQUIRE_PEERS") == "1":
                raise
            raise SkipTest("grpcio is not installed") from absent
        self.connected: Deferred[LaneSession] = Deferred()

        def build(address: Any) -> HTTP2Session:
            session = HTTP2Session(False, clock=reactor, heads=HEADS)     # type: ignore[arg-type]
            self.connected.callback(LaneSession(session, reactor, seconds=30))     # type: ignore[arg-type]
            return session

        factory = Factory()
        factory.buildProtocol = build         # type: ignore[assignment,method-assign]
        port = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        client = Client(port.getHost().port)
        self.addCleanup(client.close)         # ends its threads, whatever happened
        return client

    @inlineCallbacks
    def test_aLaneOfGRPCIsUsedAndEnded(self: Any) -> Any:
        client = yield self.serve()
        served = [deferToThread(client.lane) for _ in range(3)]
        lanes = yield self.connected
        self.addCleanup(lambda: lanes.session.abort() or lanes.session.whenLost())
        users = []
        for number in range(3):
            users.append((yield lanes.connector.connect(Factory.forProtocol(Messages))))
            users[-1].transport.write(message(b"first of %d" % number))
        for number, user in enumerate(users):
            yield user.whenCount(1)
            self.assertEqual(user.messages, [b"FIRST OF %d" % number])
        large = bytes(range(65, 91)) * 100_000
        users[0].transport.write(message(large))
        yield users[0].whenCount(2)
        self.assertEqual(users[0].messages[1], large)
        for user in users:
            user.transport.loseConnection()
            yield user.lost
        yield gatherResults(served)
        self.assertEqual(client.statuses, ["OK"] * 3)

    @inlineCallbacks
    def test_aLaneOfGRPCIsReset(self: Any) -> Any:
        client = yield self.serve()
        served = [deferToThread(client.lane) for _ in range(2)]
        lanes = yield self.connected
        self.addCleanup(lambda: lanes.session.abort() or lanes.session.whenLost())
        for _ in range(2):
            user = yield lanes.connector.connect(Factory.forProtocol(Messages))
            user.transport.write(message(b"hello"))
            yield user.whenCount(1)
            user.transport.abortConnection()
            yield user.lost
        yield gatherResults(served)
        self.assertEqual(client.statuses, ["CANCELLED"] * 2)

    @inlineCallbacks
    def test_aLaneThatGRPCCancelsIsLost(self: Any) -> Any:
        client = yield self.serve()
        served = deferToThread(client.lane)
        lanes = yield self.connected
        self.addCleanup(lambda: lanes.session.abort() or lanes.session.whenLost())
        user = yield lanes.connector.connect(Factory.forProtocol(Messages))
        user.transport.write(message(b"hello"))
        yield user.whenCount(1)
        client.calls[0].cancel()
        reason = yield user.lost
        self.assertIn("CANCEL", str(reason))
        yield served
