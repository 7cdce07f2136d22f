"""
A lane octet by octet, as frames of h2 4.4.1 have it: our edge, and our agent.
"""

from __future__ import annotations

from typing import Any

from hpack.hpack import Decoder
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.jetty.grpc_support import PORT, Pair, Sessions
from tests.exchange.doubles import Recorder, Server
from tests.wire.vectors_jetty import LANE_REQUEST, LANE_RESPONSE, VECTORS
from tunnelstack.records import HTTPPurpose, Visitor
from tunnelstack.testing import Network
from tunnelstack.wire.http1.head import RequestHead, ResponseHead
from tunnelstack.wire.http2.preface import PREFACE
from tunnelstack.wire.records.jetty_grpc import RegisterResponse

SETTINGS, SETTINGS_ACK = "000000040000000000", "000000040100000000"
WINDOW_UPDATE = "00000408000000000000ff0001"
OPEN_LANE = (
    "00006d010400000001838644282f6a657474792e74756e6e656c2e76312e54756e6e656c4167656e742f466f7277617264485454504109656467653a3830"
    "39314002746508747261696c6572735f106170706c69636174696f6e2f67727063"
    "40106a657474792d73657373696f6e2d69640435653535"
)
ANSWER = "00001d000000000001" + LANE_RESPONSE
END_LANE = "000000000100000001"
PING, PONG = "0000080600000000000000000000000007", "0000080601000000000000000000000007"
OPEN_ANOTHER = "0000070104000000038386c2c1c0bfbe"
CANCEL = "00000403000000000300000008"

DATA, HEADERS, RST_STREAM = 0, 1, 3


class Frames(Protocol):
    """
    A peer that sends octets, and reads frames.

    @ivar frames: type, flags, stream and payload of each that has arrived since the last look.
    """

    transport: Any

    def __init__(self) -> None:
        self._rest = b""
        self._decoder = Decoder()
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.preface = b""

    def dataReceived(self, data: bytes) -> None:
        self._rest += data
        if not self.frames and self._rest.startswith(PREFACE):
            self._rest = self._rest[len(PREFACE):]
        while len(self._rest) >= 9 and len(self._rest) >= (end := 9 + int.from_bytes(self._rest[:3], "big")):
            head, payload, self._rest = self._rest[:9], self._rest[9:end], self._rest[end:]
            self.frames.append((head[3], head[4], int.from_bytes(head[5:9], "big"), payload))

    def send(self, text: str) -> None:
        self.transport.write(bytes.fromhex(text))

    def take(self, *types: int) -> list[tuple[int, int, int, bytes]]:
        taken, self.frames = [frame for frame in self.frames if frame[0] in types], []
        return taken

    def fields(self, payload: bytes) -> dict[bytes, bytes]:
        return {bytes(name): bytes(value) for name, value in self._decoder.decode(payload, raw=True)}


class EdgeTranscriptTests(Sessions):
    """
    The agent's octets of the transcript, to our edge.
    """

    def test_theTranscriptIsUnderstood(self) -> None:
        self.agent.register()
        peer: Frames = self.pair.join(Frames())
        peer.send(PREFACE.hex() + SETTINGS)
        self.network.settle()
        peer.send(SETTINGS_ACK + WINDOW_UPDATE + OPEN_LANE)
        self.network.settle()
        (accepted,) = peer.take(HEADERS)
        fields = peer.fields(accepted[3])
        self.assertEqual((accepted[1:3], fields[b":status"], fields[b"content-type"]), ((4, 1), b"200", b"application/grpc"))
        receiver = Recorder()
        exchange = self.pair.tunnel.exchange(HTTPPurpose(), receiver, Visitor(trace="r1"))
        exchange.sendHead(RequestHead(b"GET", b"/hello", [(b"Host", b"demo.tunnels.example")]))
        exchange.end()
        self.network.settle()
        (asked,) = peer.take(DATA)
        self.assertIn(bytes.fromhex(LANE_REQUEST)[13:-2], asked[3])
        peer.send(ANSWER)
        self.network.settle()
        self.assertEqual((receiver.heads[0].status, receiver.body, receiver.trailers), (200, b"hi", []))
        self.assertEqual(peer.take(RST_STREAM), [])
        peer.send(END_LANE)
        self.network.settle()
        (trailers,) = peer.take(HEADERS)
        self.assertEqual((trailers[1:3], peer.fields(trailers[3])), ((5, 1), {b"grpc-status": b"0"}))
        peer.send(PING)
        self.network.settle()
        self.assertEqual([frame[3].hex() for frame in peer.take(6)], ["0000000000000007"])
        peer.send(OPEN_ANOTHER)
        self.network.settle()
        self.assertEqual(peer.take(HEADERS)[0][2], 3)
        self.assertEqual(len(self.pair.tunnel._lanes), 1)
        peer.send(CANCEL)
        self.network.settle()
        self.assertEqual(len(self.pair.tunnel._lanes), 0)


class AgentTranscriptTests(SynchronousTestCase):
    """
    The edge's octets of the transcript, to our agent.
    """

    def test_theTranscriptIsUnderstood(self) -> None:
        network = Network()
        edge = Frames()
        factory = Factory()
        factory.buildProtocol = lambda address: edge     # type: ignore[method-assign,assignment]
        network.listenTCP(PORT, factory)
        server = Server()
        connecting = Pair(network, listens=False).connect(server)
        network.settle()
        edge.send(SETTINGS + SETTINGS_ACK)
        network.settle()
        register = next(frame for frame in edge.take(HEADERS, DATA) if frame[0] == HEADERS)
        fields = edge.fields(register[3])
        self.assertEqual((register[2], fields[b":path"]), (1, b"/jetty.tunnel.v1.TunnelAgent/Register"))
        registered = next(text for record, text in VECTORS if isinstance(record, RegisterResponse) and record.session_id)
        edge.send("000013010400000001885f106170706c69636174696f6e2f67727063")
        edge.send(f"{len(registered) // 2:06x}000000000001{registered}")
        network.settle()
        link = self.successResultOf(connecting)
        self.addCleanup(link.abort, "the test is over")
        lanes = edge.take(HEADERS)
        self.assertEqual([frame[2] for frame in lanes], [3 + 2 * number for number in range(8)])
        fields = edge.fields(lanes[0][3])
        self.assertEqual(list(fields)[:6], [b":method", b":scheme", b":path", b":authority", b"te", b"content-type"])
        self.assertEqual(
            (fields[b":path"], fields[b"jetty-session-id"]), (b"/jetty.tunnel.v1.TunnelAgent/ForwardHTTP", b"5e55")
        )
        edge.send("00000201040000000388be")                 # the head of the response, from the table
        edge.send("00003a000000000003" + LANE_REQUEST)
        network.settle()
        head, exchange, _ = server.asked[0]
        self.assertEqual((head.target, head.field(b"host")), (b"/hello", b"demo.tunnels.example"))
        exchange.sendHead(ResponseHead(200, b"OK", []))
        exchange.write(b"hi")
        exchange.end()
        network.settle()
        octets = b"".join(frame[3] for frame in edge.take(DATA))
        self.assertEqual(octets.hex(), LANE_RESPONSE[:32] + "0000000006" + "10022a026869" + "0000000004" + "10023801")
