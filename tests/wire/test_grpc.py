"""
What gRPC adds to HTTP/2.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.vectors_jetty import LANE_RESPONSE
from tunnelstack.wire.grpc import (
    MESSAGE_LIMIT,
    BadCall,
    CallResult,
    PrefixedMessageReader,
    Status,
    decode_binary_untrusted,
    decode_percent_untrusted,
    encode_binary,
    encode_percent,
    encode_prefixed,
    encode_result,
    is_content_type_untrusted,
    read_result_untrusted,
    read_timeout_untrusted,
    status_of_reset,
)


def messagesOf(reader: PrefixedMessageReader) -> list[bytes]:
    """
    All messages that are here.
    """
    return list(iter(reader.next_message, None))


class PrefixTests(SynchronousTestCase):
    """
    The five octets before each message.
    """

    def test_everySplitHasTheSameMessages(self) -> None:
        octets = bytes.fromhex(LANE_RESPONSE) + encode_prefixed(b"") + encode_prefixed(b"last")
        whole = PrefixedMessageReader()
        whole.feed(octets)
        expected = messagesOf(whole)
        self.assertEqual([len(each) for each in expected], [11, 8, 0, 4])
        for first in range(len(octets) + 1):
            for second in range(first, len(octets) + 1):
                reader, found = PrefixedMessageReader(), []
                for piece in (octets[:first], octets[first:second], octets[second:]):
                    reader.feed(piece)
                    found += messagesOf(reader)
                self.assertEqual(found, expected)
                self.assertFalse(reader.incomplete)

    def test_aMessageBeforeABadPrefixIsNotLost(self) -> None:
        reader = PrefixedMessageReader()
        reader.feed(encode_prefixed(b"good") + b"\2\0\0\0\0" + encode_prefixed(b"never"))
        self.assertEqual(reader.next_message(), b"good")
        for _ in range(2):
            self.assertIs(self.assertRaises(BadCall, reader.next_message).status, Status.INTERNAL)

    def test_compressionIsRefused(self) -> None:
        for encoding, status in ((b"identity", Status.INTERNAL), (b"", Status.INTERNAL), (b"gzip", Status.UNIMPLEMENTED)):
            reader = PrefixedMessageReader(encoding=encoding)
            reader.feed(b"\1\0\0\0\0")
            self.assertIs(self.assertRaises(BadCall, reader.next_message).status, status)

    def test_aLengthIsCheckedBeforeItsMessageArrives(self) -> None:
        reader = PrefixedMessageReader()
        reader.feed(b"\0" + (MESSAGE_LIMIT + 1).to_bytes(4, "big"))
        self.assertIs(self.assertRaises(BadCall, reader.next_message).status, Status.RESOURCE_EXHAUSTED)
        reader = PrefixedMessageReader()
        reader.feed(encode_prefixed(bytes(MESSAGE_LIMIT)))
        self.assertEqual(reader.next_message(), bytes(MESSAGE_LIMIT))

    def test_anEndInsideAMessageIsReported(self) -> None:
        reader = PrefixedMessageReader()
        reader.feed(encode_prefixed(b"good"))
        messagesOf(reader)
        reader.receive_eof()
        reader.feed(b"\0")
        self.assertIsNone(reader.next_message())
        self.assertTrue(reader.incomplete)
        self.assertRaises(BadCall, reader.receive_eof)


class ResultTests(SynchronousTestCase):
    """
    The status and its message.
    """

    def test_theMessageIsEscapedAsByTheGenuineLibrary(self) -> None:
        text = 'verify rejected: {"valid":false} é%'
        self.assertEqual(encode_percent(text), b'verify rejected: {"valid":false} %C3%A9%25')
        self.assertEqual(decode_percent_untrusted(encode_percent(text)), text)

    def test_garbageIsDecoded(self) -> None:
        self.assertEqual(decode_percent_untrusted(b"%zz%4 100%%41%"), "%zz%4 100%A%")
        self.assertEqual(decode_percent_untrusted(b"%ff\xff"), "\ufffd\ufffd")

    @given(st.text())
    def test_everyTextIsDecodedAgain(self, text: str) -> None:
        encoded = encode_percent(text)
        self.assertTrue(all(0x20 <= octet <= 0x7E for octet in encoded))
        self.assertEqual(decode_percent_untrusted(encoded), text)

    def test_trailersAreWrittenAndRead(self) -> None:
        self.assertEqual(encode_result(CallResult(Status.OK)), [(b"grpc-status", b"0")])
        result = CallResult(Status.UNAUTHENTICATED, "invalid tunnel credentials")
        fields = [(b"grpc-status", b"16"), (b"grpc-message", b"invalid tunnel credentials")]
        self.assertEqual(encode_result(result), fields)
        self.assertEqual(read_result_untrusted([(b":status", b"200"), *fields]), result)

    def test_anUnknownStatusIsUnknown(self) -> None:
        for number in (b"17", b"-1", b"", b"x", b"999999999999", "²".encode()):
            self.assertIs(read_result_untrusted([(b"grpc-status", number)]).status, Status.UNKNOWN)

    def test_withoutAStatusThatOfHTTPCounts(self) -> None:
        expected = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14, 200: 2, 500: 2}
        self.assertEqual({each: read_result_untrusted([], each).status for each in expected}, expected)

    def test_resetsHaveAStatus(self) -> None:
        expected = {0: 13, 1: 13, 2: 13, 3: 13, 7: 14, 8: 1, 11: 8, 12: 7, 99: 13}
        self.assertEqual({each: status_of_reset(each) for each in expected}, expected)


class FieldTests(SynchronousTestCase):
    """
    The fields of a request.
    """

    def test_timeoutsAreRead(self) -> None:
        for value, seconds in ((b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 0.004), (b"99999999S", 99999999)):
            self.assertEqual(read_timeout_untrusted(value), seconds)
        for value in (b"", b"S", b"1", b"123456789S", b"-1S", b"1s", b"1S "):
            self.assertRaises(BadCall, read_timeout_untrusted, value)

    def test_contentTypesAreRecognized(self) -> None:
        for value in (b"application/grpc", b"application/grpc+proto", b"application/grpc;x=y", b"Application/gRPC"):
            self.assertTrue(is_content_type_untrusted(value))
        for value in (b"", b"application/grpc-web", b"application/json"):
            self.assertFalse(is_content_type_untrusted(value))

    def test_binaryMetadataIsReadWithAndWithoutPadding(self) -> None:
        self.assertEqual(encode_binary([b"\0\xff", b"abc"]), b"AP8,YWJj")
        self.assertEqual(decode_binary_untrusted(b"AP8,AP8=, YWJj,"), [b"\0\xff", b"\0\xff", b"abc", b""])
        for value in (b"A", b"A?==", b"AP8\xff"):
            self.assertRaises(BadCall, decode_binary_untrusted, value)
