"""
koding/tunnel on the wire: recorded octets, every split, and what is refused.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.vectors_koding import ANSWER, CONNECT, CONTROL_HTTP, UNAVAILABLE
from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.http1.head import find_end_untrusted, read_request_untrusted
from tunnelstack.wire.records import koding
from tunnelstack.wire.records.koding import (
    Accepted,
    AnswerReader,
    BadAnswer,
    BadControlMessage,
    BadHandshake,
    ControlMessage,
    ControlReader,
    HandshakeReader,
    Rejected,
    Transport,
    encode_connect,
    encode_control,
    identifier_of,
    is_control_path,
)

MESSAGE = b'{"action":1,"transportProtocol":1,"localPort":0}\n'


class MessageTests(SynchronousTestCase):
    """
    Control messages.
    """

    def read(self, octets: bytes, size: int = 0) -> list[ControlMessage]:
        reader, size = ControlReader(), size or len(octets)
        return [
            message for start in range(0, len(octets), size) for message in reader.receive_data(octets[start : start + size])
        ]

    def test_theRecordedMessageIsReadAndWritten(self) -> None:
        self.assertEqual(bytes.fromhex(CONTROL_HTTP)[12:], MESSAGE)
        self.assertEqual(encode_control(ControlMessage(Transport.HTTP)), MESSAGE)
        self.assertEqual(self.read(MESSAGE), [ControlMessage(1, 0, 1)])

    def test_messagesAreReadAtEverySplit(self) -> None:
        octets = encode_control(ControlMessage(2, 7005)) + encode_control(ControlMessage(3, 8080))[:-1] + MESSAGE
        wanted = [ControlMessage(2, 7005), ControlMessage(3, 8080), ControlMessage(1)]
        for cut in range(len(octets) + 1):
            reader = ControlReader()
            self.assertEqual(reader.receive_data(octets[:cut]) + reader.receive_data(octets[cut:]), wanted, cut)
        self.assertEqual(self.read(octets, 1), wanted)

    def test_messagesThatGoAcceptsAreAccepted(self) -> None:
        for octets, message in (
            (b"{}", ControlMessage(0, 0, 0)),
            (b'{"unknown":[{}],"localPort":null}', ControlMessage(0, 0, 0)),
            (b'{"LOCALPORT":5,"TransportProtocol":2}', ControlMessage(2, 5, 0)),
            (b'{"action":99,"transportProtocol":-7,"localPort":99999}', ControlMessage(-7, 99999, 99)),
        ):
            self.assertEqual(self.read(octets), [message])

    def test_messagesThatGoRejectsAreRejected(self) -> None:
        for value in (b'"80"', b"1.0", b"1e2", b"true", b"[]", b"{}", b"9223372036854775808"):
            self.assertRaises(BadControlMessage, self.read, b'{"localPort":%b}' % value)
        for octets in (b"[]", b"1", b"null", b"nonsense", b'{"action":1]'):
            self.assertRaises(PeerError, self.read, octets)
        self.assertRaises(PeerError, self.read, b'{"x":"' + b"y" * 5000)

    def test_aMessageThatWouldEndAGenuineClientIsNeverSent(self) -> None:
        for transport in (0, 4, -1):
            self.assertRaises(UsageError, encode_control, ControlMessage(transport))

    @given(st.sampled_from(Transport), st.integers(0, 65535))
    def test_whatIsSentIsRead(self, transport: Transport, port: int) -> None:
        self.assertEqual(self.read(encode_control(ControlMessage(transport, port))), [ControlMessage(transport, port)])


class HandshakeTests(SynchronousTestCase):
    """
    The first octets of the control stream.
    """

    def test_theHandshakeIsReadAtEverySplit(self) -> None:
        octets = koding.HANDSHAKE_RESPONSE + MESSAGE
        for cut in range(len(octets) + 1):
            reader = HandshakeReader(koding.HANDSHAKE_RESPONSE)
            first = reader.receive_data(octets[:cut])
            self.assertEqual(first, None if cut < 9 else octets[9:cut])
            if first is None:
                self.assertEqual(reader.receive_data(octets[cut:]), MESSAGE)

    def test_otherOctetsFailAtTheFirst(self) -> None:
        for octets in (b"x", b"controlHandshakf", b"CONTROLhandshake", b"controlOk"):
            self.assertRaises(BadHandshake, HandshakeReader(koding.HANDSHAKE_REQUEST).receive_data, octets)


class RequestTests(SynchronousTestCase):
    """
    The request.
    """

    def test_theRecordedRequestIsReadAndWritten(self) -> None:
        self.assertEqual(encode_connect("127.0.0.1:7002", "1234"), CONNECT)
        head = read_request_untrusted(CONNECT, find_end_untrusted(CONNECT))
        self.assertEqual((head.method, identifier_of(head)), (b"CONNECT", b"1234"))
        self.assertTrue(is_control_path(head.target))

    def test_aMissingIdentifierIsEmpty(self) -> None:
        head = read_request_untrusted(b"CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n", 34)
        self.assertEqual(identifier_of(head), b"")

    def test_pathsAsGoCleansThem(self) -> None:
        for path in (b"/_controlPath/", b"/_controlPath", b"//_controlPath/", b"/_controlPath/.", b"/a/../_controlPath/"):
            self.assertTrue(is_control_path(path), path)
        for path in (b"/", b"", b"/_controlpath/", b"/_controlPath/x", b"/_controlPath_/", b"/x/_controlPath/"):
            self.assertFalse(is_control_path(path), path)

    def test_noLineBreakGetsIntoARequest(self) -> None:
        self.assertRaises(UsageError, encode_connect, "h:1", "a\r\nX: y")

    def test_refusalsHaveTheWordsOfTheGenuineServer(self) -> None:
        self.assertEqual(
            koding.unknown_identifier(b"1234"), b"no host associated for identifier 1234. please use server.AddHost()\n"
        )
        self.assertEqual(koding.already_connected(b"1234"), b"control conn for 1234 already exist. \n\n")
        self.assertEqual(koding.NOT_CONNECT, b"405 must CONNECT\n\n")
        self.assertEqual(koding.NO_LOCAL_SERVER, UNAVAILABLE)


class AnswerTests(SynchronousTestCase):
    """
    The answer, as a client reads it.
    """

    def test_theRecordedAnswerIsWritten(self) -> None:
        self.assertEqual(koding.BANNER, ANSWER)
        self.assertEqual(len(ANSWER), 34)

    def test_acceptancesAreReadAtEverySplit(self) -> None:
        for answer in (
            ANSWER, b"HTTP/1.1 200 Connected to Tunnel\r\n\r\n",
            b"HTTP/1.0 200 Connected to Tunnel\r\nContent-Length: 0\r\nX: y\n\r\n",
        ):
            octets = answer + b"\x00\x01"
            for cut in range(len(octets) + 1):
                reader = AnswerReader()
                first = reader.receive_data(octets[:cut])
                self.assertEqual(first, None if cut < len(answer) else Accepted(octets[len(answer) : cut]), cut)
                if first is None:
                    self.assertEqual(reader.receive_data(octets[cut:]), Accepted(b"\x00\x01"))

    def test_rejectionsAreReadAtEverySplit(self) -> None:
        body = koding.unknown_identifier(b"1234")
        octets = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        for cut in range(len(octets) + 1):
            reader = AnswerReader()
            answer = reader.receive_data(octets[:cut]) or reader.receive_data(octets[cut:])
            self.assertEqual(answer, Rejected(502, body))
            assert isinstance(answer, Rejected)
            self.assertTrue(answer.unknown)
        self.assertFalse(Rejected(502, koding.already_connected(b"1234")).unknown)
        self.assertFalse(Rejected(405, koding.NOT_CONNECT).unknown)

    def test_theBodyOfARejectionIsCutAtItsBound(self) -> None:
        self.assertEqual(AnswerReader().receive_data(b"HTTP/1.1 404 Not Found\r\n\r\ngone"), Rejected(404, b"gone"))
        long = AnswerReader().receive_data(b"HTTP/1.1 502 X\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000)
        assert isinstance(long, Rejected)
        self.assertEqual(len(long.reason), koding.REASON_OCTETS)

    def test_answersOfOtherServersAreRejected(self) -> None:
        for octets in (
            b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 connected to tunnel\n\n", b"HTTP/1.1 200\n\n",
            b"HTTP/1.1 101 Switching\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n", b"HTTP/2 200 Connected to Tunnel\n\n", b"HTTP/1.1 2000 Connected\n\n", b"\x16\x03\x01",
        ):
            for size in (1, len(octets)):
                reader = AnswerReader()
                with self.assertRaises(BadAnswer):
                    for start in range(0, len(octets), size):
                        reader.receive_data(octets[start : start + size])
        reader = AnswerReader()
        with self.assertRaises(BadAnswer):
            for _ in range(100):
                reader.receive_data(b"HTTP/1.1 200 Connected to Tunnel\r\n" if not _ else b"X: " + b"y" * 1000 + b"\r\n")

    def test_anEarlyEndIsAnError(self) -> None:
        reader = AnswerReader()
        self.assertIsNone(reader.receive_data(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 10\r\n\r\nhalf"))
        self.assertEqual(reader.receive_eof(), Rejected(502, b"half"))
        for octets in (b"", b"HTTP/1.1 200 Conn"):
            reader = AnswerReader()
            reader.receive_data(octets)
            self.assertRaises(BadAnswer, reader.receive_eof)
