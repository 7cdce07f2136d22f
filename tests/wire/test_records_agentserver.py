"""
The records of agentserver: heads as JSON, machine documents, terminal messages.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire import vectors_agentserver as vectors
from tunnelstack.wire.negotiation.typed_head import TypedHeadReader, encode_typed_head
from tunnelstack.wire.records.agentserver import (
    HTTP,
    BadDocument,
    BadMetadata,
    MachineDocument,
    RequestMetadata,
    ResponseMetadata,
    decode_document_untrusted,
    decode_request_metadata_untrusted,
    decode_response_metadata_untrusted,
    encode_document,
    encode_request_metadata,
    encode_response_metadata,
)
from tunnelstack.wire.records.agentserver_terminal import (
    HISTORY,
    LARGEST_DATA,
    READ,
    TypedInputReader,
    encode_data,
    encode_resize,
    shown_octets,
)
from tunnelstack.wire.terminal import WindowSize

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
HEADERS = st.dictionaries(TEXT, TEXT, max_size=4)


class MetadataTests(SynchronousTestCase):
    def test_theVectorsAreWritten(self) -> None:
        self.assertEqual(encode_typed_head(HTTP, encode_request_metadata(RequestMetadata("GET", "/"))), vectors.GET_HEAD)
        for status, expected in ((200, vectors.OK_HEAD), (502, vectors.BAD_GATEWAY_HEAD)):
            response = ResponseMetadata(status, {"Content-Type": "text/plain"})
            self.assertEqual(encode_typed_head(HTTP, encode_response_metadata(response)), expected)

    def test_theRecordedRequestsAreReadAndWritten(self) -> None:
        hello = RequestMetadata("GET", "/hello?x=1", {"Accept": "*/*", "X-A": "<&>"}, 0)
        post = RequestMetadata("POST", "/echo", {"Content-Type": "application/json"}, 7)
        for octets, request in ((vectors.HELLO, hello), (vectors.POST, post), (vectors.GET, RequestMetadata("GET", "/"))):
            self.assertEqual(decode_request_metadata_untrusted(octets), request)
            self.assertEqual(encode_request_metadata(request), octets)

    @given(TEXT, TEXT, HEADERS, st.integers(-1, 1 << 40))
    def test_everyRequestIsReadAsWritten(self, method: str, path: str, headers: dict[str, str], length: int) -> None:
        request = RequestMetadata(method, path, headers, length)
        self.assertEqual(decode_request_metadata_untrusted(encode_request_metadata(request)), request)

    @given(st.integers(0, 999), HEADERS)
    def test_everyResponseIsReadAsWritten(self, status: int, headers: dict[str, str]) -> None:
        response = ResponseMetadata(status, headers)
        self.assertEqual(decode_response_metadata_untrusted(encode_response_metadata(response)), response)

    def test_headersAreSortedAsGoDoes(self) -> None:
        written = encode_request_metadata(RequestMetadata("GET", "/", {"b": "2", "a": "1", "B": "3"}))
        self.assertIn(b'"headers":{"B":"3","a":"1","b":"2"}', written)

    def test_whatIsMissingOrNullIsZero(self) -> None:
        self.assertEqual(decode_request_metadata_untrusted(b"{}"), RequestMetadata("", ""))
        self.assertEqual(
            decode_request_metadata_untrusted(b'{"method":"GET","path":"/","headers":null,"body_len":null,"new":[1]}'),
            RequestMetadata("GET", "/"),
        )
        self.assertEqual(decode_response_metadata_untrusted(b'{"headers":{"A":null}}'), ResponseMetadata(0, {"A": ""}))

    def test_aNegativeLengthIsRead(self) -> None:
        """
        Agents treat it as no body, and so its reader must see it.
        """
        self.assertEqual(decode_request_metadata_untrusted(b'{"body_len":-1}').body_len, -1)

    def test_nothingElseIsMetadata(self) -> None:
        for wrong in (
            b"", b"null", b"[]", b'"GET"', b"{", b'{"method":1}', b'{"path":[]}', b'{"headers":[]}', b'{"headers":{"A":1}}',
            b'{"body_len":"1"}', b'{"body_len":1.5}', b'{"body_len":true}', b'{"body_len":9223372036854775808}', b"\xff",
            b'{"method":"GET","method":"PUT"}',
        ):  # fmt: skip
            self.assertRaises(BadMetadata, decode_request_metadata_untrusted, wrong)
        for wrong in (b"", b"null", b'{"status":"200"}', b'{"status":true}', b'{"status":200.0}', b'{"headers":7}'):
            self.assertRaises(BadMetadata, decode_response_metadata_untrusted, wrong)


class DocumentTests(SynchronousTestCase):
    def test_theHeartbeatOfTheSDKIsRead(self) -> None:
        document = decode_document_untrusted(vectors.HEARTBEAT)
        self.assertEqual(document, MachineDocument(agent_version="agentsdk/1.0", hostname="h1", os="linux"))

    def test_whatIsNotKnownIsKept(self) -> None:
        document = decode_document_untrusted(b'{"hostname":"h","capabilities":{"x":1},"cpu_info":{"count_logical":2}}')
        self.assertEqual(document.details, {"capabilities": {"x": 1}, "cpu_info": {"count_logical": 2}})
        self.assertEqual(decode_document_untrusted(encode_document(document)), document)

    def test_otherTypesAreRejected(self) -> None:
        for wrong in (b"", b"nonsense", b"[]", b'{"hostname":1}', b'{"memory_total":"many"}', b'{"disk_free":1.5}', b"\xff"):
            self.assertRaises(BadDocument, decode_document_untrusted, wrong)


class TerminalTests(SynchronousTestCase):
    def test_theVectorsAreWrittenAndRead(self) -> None:
        self.assertEqual(encode_data(b"ls\r"), vectors.TYPED)
        self.assertEqual(encode_resize(WindowSize(80, 24)), vectors.RESIZED)
        self.assertEqual(TypedInputReader().receive_data(vectors.TYPED), [b"ls\r"])
        self.assertEqual(TypedInputReader().receive_data(vectors.RESIZED), [WindowSize(80, 24)])

    def test_aSizeIsReadAtEverySplit(self) -> None:
        for at in range(1, len(vectors.RESIZED)):
            reader = TypedInputReader()
            found = reader.receive_data(vectors.RESIZED[:at]) + reader.receive_data(vectors.RESIZED[at:])
            self.assertEqual(found, [WindowSize(80, 24)])

    def test_messagesThatArriveTogetherAreNotLost(self) -> None:
        """
        Where a genuine agent takes the JSON for what is typed.
        """
        self.assertEqual(TypedInputReader().receive_data(vectors.TYPED + vectors.RESIZED), [b"ls\r", WindowSize(80, 24)])
        self.assertEqual(TypedInputReader().receive_data(vectors.RESIZED + vectors.TYPED), [WindowSize(80, 24), b"ls\r"])

    def test_theRestOfALongMessageIsTypedAsAWhole(self) -> None:
        reader = TypedInputReader()
        self.assertEqual(reader.receive_data(b"\x00ab"), [b"ab"])
        self.assertEqual(reader.receive_data(b"cd"), [b"cd"])
        self.assertEqual(reader.receive_data(b"\x01e"), [b"\x01e"])

    def test_otherControlMessagesAreIgnored(self) -> None:
        for message in (
            b'{"type":"bell"}', b"{}", b'{"type":"resize","cols":0,"rows":24}', b'{"type":"resize","cols":"80","rows":24}',
            b'{"type":"resize","cols":65536,"rows":24}', b'{"type":"resize"}', b"{nonsense}",
        ):  # fmt: skip
            reader = TypedInputReader()
            self.assertEqual(reader.receive_data(b"\x01" + message), [])
            self.assertEqual(reader.receive_data(vectors.TYPED), [b"ls\r"])

    def test_aControlMessageWithoutEndIsForgotten(self) -> None:
        reader = TypedInputReader()
        self.assertEqual(reader.receive_data(b"\x01{" + b" " * READ), [])
        self.assertEqual(reader.receive_data(vectors.TYPED), [b"ls\r"])

    def test_shownOctetsHaveNoType(self) -> None:
        self.assertEqual(shown_octets(b"\x00hello"), b"hello")
        self.assertEqual(shown_octets(b"\x00"), b"")
        history = encode_data(b"x" * HISTORY)
        self.assertEqual(shown_octets(history[:HISTORY]) + shown_octets(history[HISTORY:]), b"x" * HISTORY)

    def test_theLongestMessageFitsIntoARead(self) -> None:
        self.assertEqual(len(encode_data(bytes(LARGEST_DATA))), READ)


class TranscriptTests(SynchronousTestCase):
    def test_theHeadsOfTheTranscriptAreReadAtEverySplit(self) -> None:
        for head, metadata in ((vectors.GET_HEAD, vectors.GET), (vectors.OK_HEAD, vectors.OK)):
            for at in range(len(head) + 1):
                reader, found = TypedHeadReader(), []
                for piece in (head[:at], head[at:]):
                    reader.feed(piece)
                    read = None if found else reader.next_head()
                    found += [] if read is None else [read]
                self.assertEqual([each.metadata for each in found], [metadata])
