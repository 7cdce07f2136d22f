"""
What the pure machine of HTTP/2 does without a transport: windows that grow, scanning at every split, and the end of octets.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.http2 import conversations, frame
from tests.transport.http2 import OK, POST
from tunnelstack.errors import UsageError
from tunnelstack.wire.http2 import frames
from tunnelstack.wire.http2.codes import ErrorCode, code_text
from tunnelstack.wire.http2.connection import HTTP2Machine
from tunnelstack.wire.http2.errors import HTTP2Error, NoMoreStreams, StreamLimitUsedUp
from tunnelstack.wire.http2.events import (
    BodyArrived,
    HeadArrived,
    HTTP2Event,
    StreamSlotsChanged,
    WindowOpened,
)
from tunnelstack.wire.http2.limits import HTTP2Limits
from tunnelstack.wire.http2.preface import PREFACE

KIB = 1024
WINDOW = 256 * KIB


class SplitTests(SynchronousTestCase):
    """
    What the peer sends means the same, wherever it is cut.
    """

    def heard(self, client: bool, data: bytes, cut: int) -> list[object]:
        """
        @return: what happened: bodies are joined, and free streams, which are reported once for a read, are left out.
        """
        ours = HTTP2Machine(client)
        ours.expire(0.0)
        if client:
            ours.send_head(ours.open_stream(0.0), POST)
        events: list[object] = []
        try:
            for start in range(0, len(data), cut):
                for event in ours.receive_data(data[start:start + cut]):
                    if isinstance(event, BodyArrived) and events and isinstance(events[-1], BodyArrived):
                        event = BodyArrived(event.stream_id, events.pop().data + event.data)     # type: ignore[attr-defined]
                    events.append(event)
        except HTTP2Error as error:
            events += [*error.events, (type(error), error.code)]
        return [*(event for event in events if not isinstance(event, StreamSlotsChanged)), b"".join(ours.data_to_send())]

    def test_cutsChangeNothing(self) -> None:
        for client in (False, True):
            for conversation in conversations():
                data = (b"" if client else PREFACE) + frame(frames.SETTINGS) + conversation
                whole = self.heard(client, data, len(data))
                for cut in range(1, min(len(data), 60)):
                    self.assertEqual(self.heard(client, data, cut), whole)


class WindowTests(SynchronousTestCase):
    """
    Two machines on a long way.
    """

    def setUp(self) -> None:
        self.client, self.server = HTTP2Machine(True), HTTP2Machine(False)
        self.now = 0.0
        for machine in (self.client, self.server):
            machine.expire(0.0)

    def move(self, seconds: float = 0.0) -> list[HTTP2Event]:
        """
        Carry what both have to send, which takes some time in each direction.

        @return: what happened at the client, then at the server.
        """
        self.now += seconds
        self.client.now = self.server.now = self.now
        toServer, toClient = (b"".join(machine.data_to_send()) for machine in (self.client, self.server))
        happened = self.client.receive_data(toClient) if toClient else []
        arrived = self.server.receive_data(toServer) if toServer else []
        for event in arrived:
            if isinstance(event, BodyArrived):
                self.server.acknowledge(event.stream_id, len(event.data))
        return [*happened, *arrived]

    def upload(self, seconds: float, rounds: int) -> int:
        """
        @return: octets that were sent in so many rounds of that time.
        """
        stream_id = self.client.open_stream(self.now)
        self.client.send_head(stream_id, POST)
        self.move(seconds)
        before = self.client.octets_out
        for _ in range(rounds):
            while credit := self.client.credit(stream_id):
                self.client.send_data(stream_id, bytes(min(credit, self.client.max_frame)))
            self.move(seconds)
        return self.client.octets_out - before

    def test_windowsGrowWhereTheWayIsLong(self) -> None:
        sent = self.upload(0.1, 60)
        self.assertGreater(self.server.growth, WINDOW)
        self.assertGreater(sent, 60 // 2 * WINDOW * 2)

    def test_growthIsTakenBack(self) -> None:
        self.upload(0.1, 60)
        self.server.share_growth(0)
        self.upload(0.1, 60)
        self.assertLess(self.server.growth_limit, 1)

    def test_theConnectionGetsNoCreditWhileMuchIsHeld(self) -> None:
        limits = HTTP2Limits(connection_window=512 * KIB, held_octets=512 * KIB)
        self.server = HTTP2Machine(False, limits)
        self.server.expire(0.0)
        for _ in range(8):
            self.client.send_head(self.client.open_stream(0.0), POST)
        self.move()
        self.move()
        delivered = 0
        self.patch(self.server, "acknowledge", lambda stream_id, octets: None)
        for _ in range(20):
            for stream_id in range(1, 17, 2):
                credit = min(self.client.credit(stream_id), self.client.max_frame)
                if credit:
                    self.client.send_data(stream_id, bytes(credit))
            delivered += sum(len(event.data) for event in self.move() if isinstance(event, BodyArrived))
        self.assertEqual(delivered, self.server.held)
        self.assertLessEqual(delivered, 2 * 512 * KIB)
        self.assertGreater(delivered, 512 * KIB)


class MachineTests(SynchronousTestCase):
    """
    Calls, and their errors.
    """

    def test_streamsAreCounted(self) -> None:
        client = HTTP2Machine(True, HTTP2Limits(opened_streams=2))
        client.expire(0.0)
        self.assertEqual([client.open_stream(0.0), client.open_stream(0.0)], [1, 3])
        self.assertRaises(StreamLimitUsedUp, client.open_stream, 0.0)
        client.reset_stream(1)
        self.assertEqual((client.open_slots, client.open_stream(0.0)), (1, 5))
        client.go_away()
        self.assertRaises(NoMoreStreams, client.open_stream, 0.0)
        self.assertRaises(UsageError, HTTP2Machine(False).open_stream, 0.0)

    def test_acknowledgementsAreChecked(self) -> None:
        server = HTTP2Machine(False)
        server.expire(0.0)
        client = HTTP2Machine(True)
        client.expire(0.0)
        client.send_head(client.open_stream(0.0), POST)
        client.send_data(1, b"body")
        server.receive_data(b"".join(client.data_to_send()))
        self.assertRaises(UsageError, server.acknowledge, 1, 5)
        self.assertRaises(UsageError, server.acknowledge, 1, -1)
        server.acknowledge(1, 4)
        server.acknowledge(99, 4)
        self.assertEqual(server.held, 0)

    def test_octetsThatEndInsideAFrameAreReported(self) -> None:
        server = HTTP2Machine(False)
        server.expire(0.0)
        server.receive_data(PREFACE + frame(frames.SETTINGS))
        self.assertEqual(server.receive_eof(), [])
        server.receive_data(frame(frames.PING, 0, 0, bytes(8))[:10])
        self.assertRaises(HTTP2Error, server.receive_eof)
        self.assertRaises(HTTP2Error, server.receive_data, b"more")

    def test_secretsAreNotIndexed(self) -> None:
        client = HTTP2Machine(True)
        client.expire(0.0)
        client.data_to_send()
        for _ in range(2):
            client.send_head(client.open_stream(0.0), [*POST, (b"authorization", b"Bearer secret"), (b"x-other", b"value")])
        first, second = client.data_to_send()
        self.assertEqual(first.count(b"\x1f\x08"), 1)      # never indexed, name 23
        self.assertEqual(second.count(b"\x1f\x08"), 1)
        self.assertLess(len(second), len(first))

    def test_creditThatComesIsReportedOnce(self) -> None:
        client, server = HTTP2Machine(True), HTTP2Machine(False)
        for machine in (client, server):
            machine.expire(0.0)
        client.send_head(client.open_stream(0.0), POST, True)
        events = server.receive_data(b"".join(client.data_to_send()))
        self.assertTrue(any(isinstance(event, HeadArrived) for event in events))
        server.send_head(1, OK)
        while credit := server.credit(1):
            server.send_data(1, bytes(min(credit, server.max_frame)))
        opened = server.receive_data(frames.pack_window_update(1, 10))
        self.assertEqual([event for event in opened if isinstance(event, WindowOpened)], [WindowOpened(1)])
        self.assertEqual(server.receive_data(frames.pack_window_update(1, 10)), [])

    def test_codesHaveNames(self) -> None:
        self.assertEqual(
            [code_text(code) for code in (ErrorCode.CANCEL, 11, 99)], ["CANCEL", "ENHANCE_YOUR_CALM", "code 99"]
        )
