"""
Jetty's frames over WebSocket: the transcripts and vectors of its agents, and what is wrong.
"""

from __future__ import annotations

import json
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import UsageError
from tunnelstack.wire.jsonline import InvalidJSON
from tunnelstack.wire.records.jetty import (
    CANCEL,
    CAPABILITIES,
    DRAIN,
    FLOW,
    HALF_CLOSE,
    MESSAGE_LIMIT,
    MULTIPLE_VALUES,
    STOCK,
    STREAM_REQUEST,
    TRANSPORTS,
    UPGRADE,
    Cancel,
    DrainNotice,
    Flow,
    Frame,
    GRPCHint,
    HTTPRequest,
    HTTPResponse,
    Register,
    Registered,
    RegistrationError,
    RequestChunk,
    RequestEnd,
    ResponseChunk,
    ResponseEnd,
    ResponseStart,
    TCPClose,
    TCPConnect,
    TCPData,
    TCPEnd,
    UDPData,
    common_capabilities,
    stock_retry_seconds,
)
from tunnelstack.wire.records.jetty_frames import (
    MOST_COMMAS,
    BadFrame,
    MessageTooLong,
    decode_frame_untrusted,
    encode_frame,
)

ALL = frozenset(CAPABILITIES)

ID = "6f1c0d0e5b7a4c1f9e2d3c4b5a697887"

TRANSCRIPTS: list[tuple[Frame, str]] = [
    (
        Register(tunnel_id="01J8ZC4T5Q6R7S8T9V0WXYZABC", agent_token="at_example"),
        '{"type":"register","tunnel_id":"01J8ZC4T5Q6R7S8T9V0WXYZABC","agent_token":"at_example"}',
    ),
    (Registered(), '{"type":"registered"}'),
    (
        HTTPRequest(
            request_id=ID, method="POST", path="/hook", query="v=1", body=b'{"a":1}',
            headers=((b"Host", b"demo.tunnels.example"), (b"Content-Type", b"application/json")),
        ),
        ('{"type":"http_request","request_id":"6f1c0d0e5b7a4c1f9e2d3c4b5a697887","method":"POST","path":"/hook","query":"v=1",'
        '"headers":{"Host":"demo.tunnels.example","Content-Type":"application/json"},"body_b64":"eyJhIjoxfQ=="}'),
    ),
    (
        HTTPResponse(request_id=ID, status=200, headers=((b"Content-Type", b"text/plain"),), body=b"ok"),
        ('{"type":"http_response","request_id":"6f1c0d0e5b7a4c1f9e2d3c4b5a697887","status":200,'
        '"headers":{"Content-Type":"text/plain"},"body_b64":"b2s="}'),
    ),
    (
        HTTPRequest(
            request_id="r2", method="GET", path="/events",
            headers=((b"Host", b"demo.tunnels.example"), (b"Accept", b"text/event-stream")),
        ),
        ('{"type":"http_request","request_id":"r2","method":"GET","path":"/events","query":"",'
        '"headers":{"Host":"demo.tunnels.example","Accept":"text/event-stream"},"body_b64":""}'),
    ),
    (
        ResponseStart(request_id="r2", status=200, headers=((b"Content-Type", b"text/event-stream"),)),
        '{"type":"http_response_start","request_id":"r2","status":200,"headers":{"Content-Type":"text/event-stream"}}',
    ),
    (
        ResponseChunk(request_id="r2", data=b"data: 1\n\n"),
        '{"type":"http_response_chunk","request_id":"r2","data_b64":"ZGF0YTogMQoK"}',
    ),
    (ResponseEnd(request_id="r2"), '{"type":"http_response_end","request_id":"r2"}'),
    (
        RegistrationError(message='verify rejected: {"valid":false}', code="verify_rejected"),
        '{"type":"error","message":"verify rejected: {\\"valid\\":false}","code":"verify_rejected"}',
    ),
    (TCPConnect(connection_id="c1"), '{"type":"tcp_connect","connection_id":"c1"}'),
    (TCPData(connection_id="c1", data=b"HELO"), '{"type":"tcp_data","connection_id":"c1","data_b64":"SEVMTw=="}'),
    (
        TCPClose(connection_id="c1", reason="local connection closed"),
        '{"type":"tcp_close","connection_id":"c1","reason":"local connection closed"}',
    ),
    (TCPClose(connection_id="c1"), '{"type":"tcp_close","connection_id":"c1"}'),
    (
        UDPData(connection_id="c1", remote_addr="192.0.2.7:53", data=b"\0\xff"),
        '{"type":"udp_data","connection_id":"c1","remote_addr":"192.0.2.7:53","data_b64":"AP8="}',
    ),
]  # fmt: skip
"""Frames that any peer may receive."""

OURS: list[tuple[Frame, str]] = [
    (
        Register(
            tunnel_id="t", agent_token="k", protocol_version=1, agent_version="tunnelstack/0.1", capabilities=CAPABILITIES,
            transports=TRANSPORTS,
        ),
        ('{"type":"register","tunnel_id":"t","agent_token":"k","protocol_version":1,"agent_version":"tunnelstack/0.1",'
        '"capabilities":["stream-resp/1","stream-req/1","cancel/1","mv-headers/1","upgrade/1","raw/1","drain/1","flow/1","half-close/1"],'
        '"transports":["websocket","grpc"]}'),
    ),
    (
        Registered(
            capabilities=("cancel/1",), session_id="5e55", edge_id="a", subdomain="demo", public_url="https://demo.example",
            limits={"max_body_bytes": 1024}, grpc=GRPCHint(url="grpcs://edge:8091", session_ticket="x"),
        ),
        ('{"type":"registered","capabilities":["cancel/1"],"session_id":"5e55","edge_id":"a","subdomain":"demo",'
        '"public_url":"https://demo.example","limits":{"max_body_bytes":1024},'
        '"grpc":{"url":"grpcs://edge:8091","session_ticket":"x"}}'),
    ),
    (Registered(capabilities=()), '{"type":"registered","capabilities":[]}'),
    (
        HTTPRequest(
            request_id="a", method="GET", headers=((b"X", b"1"), (b"X", b"2")), upgrade="websocket",
            upstream_host="127.0.0.1", upstream_port=9000, trace_parent="00-1-2-01",
        ),
        ('{"type":"http_request","request_id":"a","method":"GET","path":"/","query":"","headers":{"X":["1","2"]},"body_b64":"",'
        '"upgrade":"websocket","upstream_host":"127.0.0.1","upstream_port":9000,"trace_parent":"00-1-2-01"}'),
    ),
    (RequestChunk(request_id="a", data=b"x"), '{"type":"http_request_chunk","request_id":"a","data_b64":"eA=="}'),
    (RequestEnd(request_id="a"), '{"type":"http_request_end","request_id":"a"}'),
    (Cancel(request_id="a", reason="client gone"), '{"type":"http_cancel","request_id":"a","reason":"client gone"}'),
    (
        DrainNotice(grace_ms=30_000, reason="deploy", reconnect=True),
        '{"type":"drain","grace_ms":30000,"reason":"deploy","reconnect":true}',
    ),
]  # fmt: skip
"""Frames between peers that announced capabilities."""

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
"""Values of JSON."""

REQUEST: dict[str, object] = {"type": "http_request", "request_id": "a", "method": "get", "path": "", "headers": {}}
RESPONSE: dict[str, object] = {"type": "http_response", "request_id": "a", "status": 200}


def decoded(members: dict[str, object], capabilities: frozenset[str] = STOCK) -> Frame | None:
    return decode_frame_untrusted(json.dumps(members).encode(), capabilities)


class TranscriptTests(SynchronousTestCase):
    """
    The frames of the catalogue.
    """

    def test_framesAreEncodedAndDecoded(self) -> None:
        for capabilities, frames in ((STOCK, TRANSCRIPTS), (ALL, TRANSCRIPTS), (ALL, OURS)):
            for frame, text in frames:
                with self.subTest(text):
                    self.assertEqual(encode_frame(frame, capabilities).decode(), text)
                    self.assertEqual(decode_frame_untrusted(text.encode(), capabilities), frame)

    def test_escapedSlashesAndOtherCharactersAreRead(self) -> None:
        """
        As PHP writes them unless it is asked not to.
        """
        text = r'{"type":"http_response","request_id":"a","status":200,"headers":{"X-A":"a\/b \u00e9"},"body_b64":"\/w=="}'
        frame = HTTPResponse(request_id="a", status=200, headers=((b"X-A", b"a/b \xe9"),), body=b"\xff")
        self.assertEqual(decode_frame_untrusted(text.encode()), frame)

    def test_truncatedFramesAreNotJSON(self) -> None:
        for _, text in TRANSCRIPTS + OURS:
            for end in range(len(text)):
                self.assertRaises(InvalidJSON, decode_frame_untrusted, text[:end].encode(), ALL)


class CapabilityTests(SynchronousTestCase):
    """
    Frames and members that not every peer knows.
    """

    NEEDED = ((RequestEnd(request_id="a"), STREAM_REQUEST), (RequestEnd(request_id="a"), UPGRADE), (DrainNotice(), DRAIN),
              (RequestChunk(request_id="a"), STREAM_REQUEST), (Cancel(request_id="a"), CANCEL),
              (Flow(identifier="a", paused=True), FLOW), (TCPEnd(connection_id="a"), HALF_CLOSE))  # fmt: skip

    def test_aFrameThatWasNotAgreedIsNeitherSentNorRead(self) -> None:
        for frame, needed in self.NEEDED:
            octets = encode_frame(frame, frozenset({needed}))
            self.assertEqual(decode_frame_untrusted(octets, frozenset({needed})), frame)
            self.assertIsNone(decode_frame_untrusted(octets))
            self.assertRaises(UsageError, encode_frame, frame)

    def test_anUpgradeThatWasNotAgreedIsNeitherSentNorRead(self) -> None:
        frame = HTTPRequest(request_id="a", method="GET", upgrade="websocket")
        self.assertRaises(UsageError, encode_frame, frame)
        self.assertEqual(decoded({**REQUEST, "upgrade": "websocket"}), HTTPRequest(request_id="a", method="GET"))
        self.assertEqual(decoded({**REQUEST, "upgrade": "websocket"}, ALL), frame)

    def test_aStreamedRequestThatWasNotAgreedIsNeitherSentNorRead(self) -> None:
        frame = HTTPRequest(request_id="a", method="GET", streamed=True)
        self.assertRaises(UsageError, encode_frame, frame)
        self.assertEqual(decoded({**REQUEST, "streamed": True}), HTTPRequest(request_id="a", method="GET"))
        self.assertEqual(decoded({**REQUEST, "streamed": True}, ALL), frame)
        self.assertIn(b'"streamed":true', encode_frame(frame, ALL))
        self.assertNotIn(b"streamed", encode_frame(HTTPRequest(request_id="a", method="GET"), ALL))

    def test_theInstanceOfAnAgentIsCarried(self) -> None:
        frame = Register(tunnel_id="t", agent_token="k", instance_id="i-1")
        self.assertEqual(decode_frame_untrusted(encode_frame(frame)), frame)

    def test_whatBothHaveIsAgreed(self) -> None:
        self.assertIsNone(common_capabilities(None))
        self.assertEqual(common_capabilities(["x/1", "cancel/1", "stream-resp/1"]), ("stream-resp/1", "cancel/1"))


class VectorTests(SynchronousTestCase):
    """
    The vectors of the page.
    """

    def test_aRequestIsRead(self) -> None:
        frame = decoded(REQUEST)
        self.assertEqual(frame, HTTPRequest(request_id="a", method="GET", path="/"))

    def test_badBase64IsReportedWithItsRequest(self) -> None:
        for wrong in ("!!!", "YQ", "YQ=", "YQ===", "YQ==YQ==", "Y Q==", "YQ==\n", "_-==", "é", 1, [], False):
            error = self.assertRaises(BadFrame, decoded, {**REQUEST, "body_b64": wrong})
            self.assertEqual((error.args[0], error.identifier, error.member), ("invalid body_b64", "a", "body_b64"))

    def test_whatIsUnknownIsIgnored(self) -> None:
        for text in ('{"type":"wat"}', "[]", "1", "null", "{}", '{"type":1}', '{"type":["register"]}'):
            self.assertIsNone(decode_frame_untrusted(text.encode()))
        self.assertEqual(decoded({**REQUEST, "extra": [1]}), decoded(REQUEST))

    def test_whatIsNotJSONIsReported(self) -> None:
        for octets in (b"not json", b"", b"\xff", b'{"type":"a"', b'{"type":"a","type":"b"}', b"[" * 100_000, b'"\\ud800"'):
            self.assertRaises(InvalidJSON, decode_frame_untrusted, octets)

    def test_numbersMayBeText(self) -> None:
        self.assertEqual(decoded({**RESPONSE, "status": "201"}), HTTPResponse(request_id="a", status=201))
        for wrong in ("", "x", "1e2", "²00", 99, 600, "99", -1, 200.0, True, None, [], "9" * 5000):
            error = self.assertRaises(BadFrame, decoded, {**RESPONSE, "status": wrong})
            self.assertEqual((error.identifier, error.member), ("a", "status"))

    def test_severalValuesNeedTheirCapability(self) -> None:
        frame = HTTPResponse(request_id="a", status=200, headers=((b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")))
        members = {**RESPONSE, "headers": {"Set-Cookie": ["a=1", "b=2"]}}
        self.assertEqual(decoded(members, frozenset({MULTIPLE_VALUES})), frame)
        self.assertRaises(BadFrame, decoded, members)

    def test_theUpstreamIsHostAndPort(self) -> None:
        for host, port, expected in (("127.0.0.1", 9000, ("127.0.0.1", 9000)), ("127.0.0.1", 0, None), ("", 9000, None)):
            frame = decoded({**REQUEST, "upstream_host": host, "upstream_port": port})
            assert isinstance(frame, HTTPRequest)
            self.assertEqual(frame.upstream, expected)

    def test_someErrorsAreAboutTheToken(self) -> None:
        for text in ("Laravel verify: 500", "x: Verify Rejected", "invalid tunnel credentials"):
            self.assertTrue(RegistrationError(message=text).is_about_token)
        self.assertTrue(RegistrationError(code="verify_rejected").is_about_token)
        self.assertFalse(RegistrationError(message="plan", code="forbidden").is_about_token)

    def test_aStockAgentWaitsLongerEachTime(self) -> None:
        self.assertEqual([stock_retry_seconds(each) for each in range(1, 11)], [0, 1, 2, 4, 8, 16, 32, 60, 60, 60])


class HeaderTests(SynchronousTestCase):
    """
    Headers.
    """

    def test_repeatedHeadersAreJoinedForThePeersOfTheStock(self) -> None:
        headers = ((b"Cookie", b"a=1"), (b"Accept", b"x"), (b"cookie", b"b=2"), (b"accept", b"y"))
        request = HTTPRequest(request_id="a", method="GET", headers=headers)
        self.assertEqual(json.loads(encode_frame(request))["headers"], {"Cookie": "a=1; b=2", "Accept": "x, y"})
        response = HTTPResponse(request_id="a", status=200, headers=((b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2")))
        self.assertEqual(json.loads(encode_frame(response))["headers"], {"Set-Cookie": "b=2"})

    def test_octetsAreCharactersOfLatin1(self) -> None:
        frame = HTTPResponse(request_id="a", status=200, headers=((b"X", bytes(range(0x80, 0x100))),))
        self.assertEqual(decode_frame_untrusted(encode_frame(frame)), frame)

    def test_otherCharactersAreUTF8(self) -> None:
        frame = decoded({**RESPONSE, "headers": {"X": "é☃"}})
        assert isinstance(frame, HTTPResponse)
        self.assertEqual(frame.headers, ((b"X", "é☃".encode()),))

    def test_anEmptyArrayIsNoHeaders(self) -> None:
        self.assertEqual(decoded({**RESPONSE, "headers": []}), HTTPResponse(request_id="a", status=200))

    def test_badHeadersAreRejected(self) -> None:
        for wrong in (
            {"a b": "c"}, {"": "c"}, {"é": "c"}, {"a": "b\r\nc: d"}, {"a": "\0"}, {"a": 1}, {"a": None}, {"a": {}}, ["a"], "a",
            0, {f"a{each}": "" for each in range(201)}, {"a": [""] * 201}, {"a": ["b", 1]}, {"a": "b" * 65_536},
        ):  # fmt: skip
            self.assertRaises(BadFrame, decoded, {**RESPONSE, "headers": wrong}, ALL)


class BoundTests(SynchronousTestCase):
    """
    What is missing, wrong or too long.
    """

    def test_requiredMembersAreRequired(self) -> None:
        for _, text in TRANSCRIPTS[:1] + TRANSCRIPTS[2:8] + TRANSCRIPTS[9:]:
            members = json.loads(text)
            for name in {"tunnel_id", "agent_token", "request_id", "connection_id", "method", "status"} & members.keys():
                for wrong in ({**members, name: None}, {**members, name: ""}, {**members, name: {}}):
                    self.assertEqual(self.assertRaises(BadFrame, decoded, wrong).member, name)

    def test_identifiersAreBounded(self) -> None:
        self.assertEqual(decoded({**RESPONSE, "request_id": "x" * 128}), HTTPResponse(request_id="x" * 128, status=200))
        self.assertEqual(self.assertRaises(BadFrame, decoded, {**RESPONSE, "request_id": "x" * 129}).identifier, "")

    def test_targetsHaveNoOtherCharacters(self) -> None:
        for name, wrong in (
            ("path", "x"), ("path", "/a b"), ("path", "/a?b"), ("path", "/a#b"), ("path", "/é"), ("path", "/\r\n"),
            ("query", "a b"), ("query", "#"), ("method", "GET /"), ("method", "é"), ("method", "X" * 65),
            ("path", "/" * 65_537), ("path", 1), ("path", 0), ("query", {}),
        ):  # fmt: skip
            self.assertEqual(self.assertRaises(BadFrame, decoded, {**REQUEST, name: wrong}).member, name)

    def test_anAnswerCountsByItsType(self) -> None:
        wrong = {"capabilities": 1, "session_id": [], "limits": [], "grpc": {"url": 1}, "public_url": None}
        self.assertEqual(decoded({"type": "registered", **wrong}), Registered())
        self.assertEqual(decoded({"type": "error", "message": 1}), RegistrationError())

    def test_messagesAreBounded(self) -> None:
        self.assertRaises(MessageTooLong, decode_frame_untrusted, b" " * (MESSAGE_LIMIT + 1))
        values = b"{},"
        octets = b'{"type":"registered","x":[' + values * MOST_COMMAS + b"0]}"
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertRaises(MessageTooLong, decode_frame_untrusted, octets)
        self.assertLess(tracemalloc.get_traced_memory()[1], 1 << 16)

    @given(VALUES, st.data())
    def test_anyValueIsReadOrReported(self, value: object, data: st.DataObject) -> None:
        members = json.loads(data.draw(st.sampled_from(TRANSCRIPTS + OURS))[1])
        name = data.draw(st.sampled_from(sorted(members)))
        try:
            frame = decode_frame_untrusted(json.dumps({**members, name: value}, ensure_ascii=False).encode(), ALL)
        except (BadFrame, InvalidJSON):
            return
        if frame is not None:
            self.assertEqual(decode_frame_untrusted(encode_frame(frame, ALL), ALL), frame)
