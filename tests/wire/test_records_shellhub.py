"""
ShellHub's vectors J1-J12 and its negative matrix, with our halves in either part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.rawpeer import REQUEST, Raw, frame, rawClient
from tests.wire.vectors_shellhub import (
    ACCEPT,
    AGENT,
    ASKED,
    CONN_READY,
    END,
    JUNK,
    KEEP_ALIVE,
    KEY,
    MASK,
    MASKED,
    PATH,
    PROXY,
    REQUESTS,
    SERVER,
    SESSION,
    TRANSCRIPTS,
)
from tunnelstack.errors import PeerError, UsageError
from tunnelstack.testing import Wire
from tunnelstack.transport.websocket.server import WebSocketServerFactory
from tunnelstack.wire.jsonline import InvalidJSON
from tunnelstack.wire.negotiation.base import (
    Agreed,
    Negotiation,
    NegotiationEvent,
    NegotiationSequence,
    Proposed,
    Rejected,
    Release,
)
from tunnelstack.wire.negotiation.json_object import JSONInitiator, JSONResponder
from tunnelstack.wire.negotiation.multistream.initiator import MultistreamInitiator
from tunnelstack.wire.negotiation.multistream.responder import MultistreamResponder
from tunnelstack.wire.records.shellhub import (
    ANSWERS,
    DIAL_FAILED,
    ENVELOPE,
    ENVELOPES,
    HTTP_PROXY,
    REPLIES,
    REPLY,
    SSH_CLOSE,
    SSH_OPEN,
    BadTarget,
    HTTPProxy,
    NotStrings,
    ObjectReader,
    SSHClose,
    SSHOpen,
    TooLong,
    asked,
    asking,
    decode_target_untrusted,
    encode_object,
    encode_target,
    leftover_filter,
    name_of,
)
from tunnelstack.wire.records.shellhub_v1 import encode_ask
from tunnelstack.wire.revdial import CONN_READY as CONN_READY_COMMAND
from tunnelstack.wire.revdial import encode_line
from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.events import DataArrived, StreamEnded, StreamOpened
from tunnelstack.wire.yamux.frames import HEADER_SIZE

texts = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = [SSH_OPEN, SSH_CLOSE, HTTP_PROXY]


def payloads(name: str, sender: str) -> list[bytes]:
    """
    What one side of a conversation says on its stream, a frame each.
    """
    frames = [bytes.fromhex(text) for who, text in TRANSCRIPTS[name] if who == sender]
    return [data[HEADER_SIZE:] for data in frames if data[1] == 0]


def server(target: Any) -> Negotiation:
    """
    Our half of the server.
    """
    return NegotiationSequence(MultistreamInitiator(name_of(target)), asking(target))


def agent() -> Negotiation:
    """
    Our half of the agent.
    """
    return NegotiationSequence(MultistreamResponder(NAMES), asked)


def read(octets: bytes, size: int = 0, limit: int = ENVELOPE) -> tuple[dict[str, str] | None, bytes]:
    """
    An object, in pieces, and what follows it.
    """
    reader, found, size = ObjectReader(limit), None, size or len(octets) or 1
    for start in range(0, len(octets), size):
        reader.feed(octets[start : start + size])
        if found is None:
            found = reader.next_object()
    return found, reader.take_leftover() if found is not None else b""


class VectorTests(SynchronousTestCase):
    """
    The vectors J1-J12: each is named by a test.
    """

    def test_everyVectorIsHere(self) -> None:
        tests = {name.split("_")[1] for name in dir(self) if name.startswith("test_J")}
        self.assertEqual(tests, {f"J{number}" for number in range(1, 13)})

    def upgraded(self) -> tuple[Wire, Raw, Raw]:
        wire, inside = Wire(), Raw()
        factory = Factory()
        factory.buildProtocol = lambda address: inside  # type: ignore[method-assign, assignment]
        client = rawClient(wire, WebSocketServerFactory(factory, clock=wire.clock).buildProtocol(None))
        return wire, client, inside

    def test_J1_theKeyIsAnswered(self) -> None:
        self.assertIn(KEY, REQUEST)
        self.upgraded()             # it asserts the answer
        self.assertEqual(ACCEPT, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")

    def test_J2_theMaskedFrameIsRead(self) -> None:
        ack = bytes.fromhex(TRANSCRIPTS["J3"][2][1])
        self.assertEqual(frame(2, ack, mask=MASK), MASKED)
        wire, _, inside = self.upgraded()
        wire.near.write(MASKED)
        wire.settle()
        self.assertEqual(inside.got, ack)

    def test_J3_anSSHStreamIsNegotiated(self) -> None:
        self.negotiated("J3", SESSION, b"SSH-2.0-Go\r\n")

    def test_J4_theEndOfAnSSHSessionIsNegotiated(self) -> None:
        self.negotiated("J4", END)

    def test_J5_aProxyStreamIsNegotiated(self) -> None:
        for size in range(1, 70):
            ours = server(PROXY)
            said = self.heard(ours, payloads("J5", AGENT), size)
            self.assertEqual(said[0], payloads("J5", SERVER)[:-1])
            self.assertEqual(said[1], [Agreed(HTTP_PROXY, {"status": "ok"})])
            theirs = agent()
            said = self.heard(theirs, payloads("J5", SERVER)[:-1], size)
            self.assertEqual(said[1], [Proposed(HTTP_PROXY, encode_target(PROXY))])
            self.assertEqual(theirs.accept(), [Agreed(HTTP_PROXY, encode_target(PROXY))])
            self.assertEqual(b"".join(said[0] + theirs.data_to_send()), b"".join(payloads("J5", AGENT))[:-1])

    def test_J6_aProxyStreamIsRefused(self) -> None:
        ours = server(PROXY)
        self.assertEqual(self.heard(ours, payloads("J6", AGENT), 7)[1], [Rejected(DIAL_FAILED)])
        theirs = agent()
        said = self.heard(theirs, payloads("J6", SERVER), 7)[0]
        self.assertEqual(theirs.reject(DIAL_FAILED), [Rejected(DIAL_FAILED)])
        self.assertEqual(b"".join(said + theirs.data_to_send()), b"".join(payloads("J6", AGENT))[:-1])

    def test_J7_unknownProtocolsAreRefused(self) -> None:
        theirs = agent()
        said, events = self.heard(theirs, payloads("J7", SERVER), 5)
        self.assertEqual((b"".join(said), events), (b"".join(payloads("J7", AGENT)), []))
        self.assertEqual(theirs.receive_data(encode_object({"id": "x"})), [Agreed(SSH_OPEN, {"id": "x"})])

    def test_J8_pingsAreAnswered(self) -> None:
        edge, device = YamuxConnection(True), YamuxConnection(False)
        for number, (who, text) in enumerate(TRANSCRIPTS["J8"]):
            if who == SERVER:
                self.assertEqual(edge.ping(), number // 2)
            ours, other = (edge, device) if who == SERVER else (device, edge)
            said = b"".join(ours.data_to_send())
            self.assertEqual(said.hex(), text)
            other.receive_data(said)

    def test_J9_controlLinesAndRequestMatch(self) -> None:
        self.assertEqual((len(KEEP_ALIVE), len(CONN_READY)), (25, 146))
        self.assertEqual(encode_line(CONN_READY_COMMAND, PATH), CONN_READY)
        self.requested("J9")

    def test_J10_theRequestToCloseMatches(self) -> None:
        self.requested("J10")

    def test_J11_theRequestOfAProxyStreamMatches(self) -> None:
        self.requested("J11")

    def test_J12_theJunkRequestMatches(self) -> None:
        """
        It is the request of J10 with another method: SSH takes it for a broken packet.
        """
        self.assertEqual(len(JUNK), 77)
        self.assertEqual(JUNK, encode_ask(END).replace(b"GET", b"DELETE", 1))

    def requested(self, name: str) -> None:
        """
        The rest is in L{tests.wire.test_records_shellhub_v1}.
        """
        target, request, length, _, _ = REQUESTS[name]
        self.assertEqual((encode_ask(target), len(request)), (request, length))

    def negotiated(self, name: str, target: Any, after: bytes = b"") -> None:
        """
        Both parts, with every size of pieces; what the agent's application says first is the edge's leftover or comes later.
        """
        for size in range(1, 60):
            ours = server(target)
            self.assertIs(ours.release, Release.ON_FIRST_OCTET)
            said, events = self.heard(ours, payloads(name, AGENT), size)
            self.assertEqual(said, payloads(name, SERVER))
            (agreed,) = events
            self.assertIsInstance(agreed, Agreed)
            self.assertTrue(after.startswith(agreed.leftover))
            theirs = agent()
            said, events = self.heard(theirs, payloads(name, SERVER), size)
            self.assertEqual(b"".join(said) + after, b"".join(payloads(name, AGENT)))
            self.assertEqual(events, [Agreed(name_of(target), encode_target(target))])
            self.assertEqual(decode_target_untrusted(name_of(target), events[0].parameters), target)

    def heard(self, ours: Negotiation, frames: list[bytes], size: int) -> tuple[list[bytes], list[Any]]:
        """
        Feed the far side's payloads in pieces, no further than something is settled.

        @return: what ours said, one piece a turn, and the events.
        """
        events: list[NegotiationEvent] = ours.receive_data(b"")
        said = [b"".join(ours.data_to_send())]
        octets = b"".join(frames)
        for start in range(0, len(octets), size):
            if ours.settled or events:
                break
            events += ours.receive_data(octets[start : start + size])
            said.append(b"".join(ours.data_to_send()))
        return [piece for piece in said if piece], events

    def test_transcriptsAreYamux(self) -> None:
        """
        Each side's frames mean to our session what the page says, cut anywhere.
        """
        for name, lines in TRANSCRIPTS.items():
            for size in (1, 5, 12, 13, 4096):
                self.assertEqual(self.said(name, SERVER, size), b"".join(payloads(name, SERVER)), name)
                self.assertEqual(self.said(name, AGENT, size), b"".join(payloads(name, AGENT)), name)
            ends = sum(text.startswith("00010004") for _, text in lines)
            self.assertLessEqual(ends, 2)

    def said(self, name: str, sender: str, size: int) -> bytes:
        ours, got = YamuxConnection(sender == AGENT), b""
        if sender == AGENT:
            for _ in range(5):
                ours.open_stream(0.0)
        octets = bytes.fromhex("".join(text for who, text in TRANSCRIPTS[name] if who == sender))
        for start in range(0, len(octets), size):
            for event in ours.receive_data(octets[start : start + size]):
                if isinstance(event, StreamOpened):
                    ours.accept_stream(event.stream_id)
                elif isinstance(event, DataArrived):
                    got += event.data
                else:
                    self.assertNotIsInstance(event, StreamEnded if name in ("J5", "J7", "J8") else PeerError)
        return got


class EnvelopeTests(SynchronousTestCase):
    """
    The octets of objects.
    """

    def test_objectsAreWrittenAsByGo(self) -> None:
        said = encode_object({"port": "1", "id": "<&>", "host": "é"})
        self.assertEqual(said, '{"host":"é","id":"\\u003c\\u0026\\u003e","port":"1"}\n'.encode())
        self.assertEqual(REPLIES.encode({"status": "ok"}), b'{"status":"ok"}')

    def test_objectsAreReadAsByGo(self) -> None:
        """
        What Go's decoder makes of each, recorded with go1.26.
        """
        for octets, members in {
            b'{"id":"a"}': {"id": "a"},
            b' \r\n\t{ "id" : "a" , "x":"y" }': {"id": "a", "x": "y"},
            b"{}": {},
            b"null": {},
            b'{"id":null}': {"id": ""},
            b'{"id":"}\\"{"}': {"id": '}"{'},
            b'{"id":"\\u0026\\\\"}': {"id": "&\\"},
        }.items():
            for size in range(1, len(octets) + 1):
                self.assertEqual(read(octets, size), (members, b""), octets)
                found, rest = read(octets + b"\n\nSSH", size)
                self.assertEqual((found, leftover_filter(rest)), (members, b"\nSSH"))

    def test_whatIsNoObjectOfStringsIsRefused(self) -> None:
        for octets, error in {
            b'{"port":8080}': NotStrings,
            b'{"status":true}': NotStrings,
            b'{"a":{"b":"c"}}': NotStrings,
            b'{"a":["b"]}': NotStrings,
            b'{"a":-1}': NotStrings,
            b"[]": InvalidJSON,
            b'"x"': InvalidJSON,
            b"nul\n": InvalidJSON,
            b"GET / HTTP/1.1": InvalidJSON,
            b'{"a""b"}': InvalidJSON,
            b'{"a":"b",}': InvalidJSON,
            b'{"a":nul}': InvalidJSON,
            b'{"a":"b\nc"}': InvalidJSON,
            b'{"a":"\xff"}': InvalidJSON,
            b'{"a":"\\ud800"}': InvalidJSON,
            b'{"a":"b","a":"c"}': InvalidJSON,
            b'{"a":"\\x"}': InvalidJSON,
            b'{nnn}': InvalidJSON,
        }.items():
            for size in range(1, len(octets) + 1):
                self.assertRaises(error, read, octets, size)

    def test_everyFollowingOctetIsKept(self) -> None:
        for rest in (b"", b"{", b"\x00\xff", b"}\n"):
            for size in (1, 2, 100):
                self.assertEqual(read(b'{"id":"a"}' + rest, size), ({"id": "a"}, rest))

    def test_boundIsExact(self) -> None:
        fits = b'{"status":"' + b"x" * (REPLY - 13) + b'"}'
        self.assertEqual(len(fits), REPLY)
        for size in (1, 100, 512, 2000):
            self.assertEqual(read(fits + b"\nmore", size, REPLY)[0], {"status": "x" * (REPLY - 13)})
            self.assertRaises(TooLong, read, b" " + fits, size, REPLY)
            self.assertRaises(TooLong, read, b" " * 600, size, REPLY)
            self.assertEqual(read(b" " * 508 + b"null", size, REPLY), ({}, b""))
            self.assertRaises(TooLong, read, b" " * 509 + b"null", size, REPLY)
            self.assertRaises(TooLong, read, b'{"a":"' + b"\\n" * 300, size, REPLY)

    def test_longObjectsAreReadOnce(self) -> None:
        """
        Octet by octet, a thousand times as much costs a thousand times as long: nothing is looked at twice.
        """
        reader = ObjectReader(1 << 16)
        reader.feed(b'{"a":"')
        seen = []
        for _ in range(2000):
            reader.feed(b"xx")
            self.assertIsNone(reader.next_object())
            seen.append(reader._at)
        self.assertEqual(seen, list(range(8, 4008, 2)))

    @given(st.dictionaries(texts, texts), st.integers(1, 50), st.binary(max_size=8))
    def test_whatIsWrittenIsRead(self, members: dict[str, str], size: int, rest: bytes) -> None:
        octets = encode_object(members)
        self.assertEqual(json.loads(octets), members)
        found, left = read(octets + rest, size, 1 << 20)
        self.assertEqual((found, leftover_filter(left)), (members, rest))


class TargetTests(SynchronousTestCase):
    """
    What is asked for, as members and back.
    """

    def test_targetsSurviveEncodingAndDecoding(self) -> None:
        for name, target in ASKED.items():
            self.assertEqual(decode_target_untrusted(name_of(target), encode_target(target)), target, name)
        self.assertEqual([name_of(target) for target in (SESSION, END, PROXY)], NAMES)

    def test_missingMembersAreEmptyAndOthersIgnored(self) -> None:
        self.assertEqual(decode_target_untrusted(SSH_OPEN, {}), SSHOpen(""))
        self.assertEqual(decode_target_untrusted(SSH_CLOSE, {"id": "a", "more": "b"}), SSHClose("a"))
        self.assertEqual(decode_target_untrusted(HTTP_PROXY, {"port": "80"}), HTTPProxy("", 80))

    def test_portsThatAreNone(self) -> None:
        for port in ("", "0", "65536", "-1", "+80", "8 0", "http", "٨٠", "1" * 5000, "80.0"):
            self.assertRaises(BadTarget, decode_target_untrusted, HTTP_PROXY, {"host": "h", "port": port})
        for number in (0, -1, 65536):
            self.assertRaises(UsageError, asking, HTTPProxy("h", number))

    def test_anUnknownNameIsRejected(self) -> None:
        self.assertRaises(BadTarget, decode_target_untrusted, b"/x/1.0.0", {})


class NegativeMatrixTests(SynchronousTestCase):
    """
    What the page saw with the genuine programs, and what we make of it.
    """

    opening = payloads("J5", SERVER)[0]
    envelope = payloads("J5", SERVER)[1]

    def toAgent(self, octets: bytes) -> tuple[Any, bytes]:
        ours = agent()
        events = ours.receive_data(octets)
        return (events[0] if events else None), b"".join(ours.data_to_send())

    def toServer(self, reply: bytes, size: int = 1) -> Any:
        ours, tokens = server(PROXY), b"".join(payloads("J5", AGENT)[:2])
        events: list[NegotiationEvent] = []
        octets = tokens + reply
        for start in range(0, len(octets), size):
            if not events:
                events += ours.receive_data(octets[start : start + size])
        return events[0] if events else None

    def test_agentTakesAnEnvelopeWithoutItsLineFeed(self) -> None:
        event, _ = self.toAgent(self.opening + self.envelope[:-1])
        self.assertEqual(event, Proposed(HTTP_PROXY, encode_target(PROXY)))

    def test_agentLosesNothingThatComesTooEarly(self) -> None:
        """
        Where the genuine agent loses the payload that comes with the envelope, ours keeps it.
        """
        for size in range(1, 20):
            ours, octets = agent(), self.opening + self.envelope + b"payload"
            for start in range(0, len(octets), size):
                ours.receive_data(octets[start : start + size])
            (agreed,) = ours.accept()
            self.assertEqual(agreed, Agreed(HTTP_PROXY, encode_target(PROXY), b"payload"))

    def test_agentSwallowsALineFeedOfItsOwnFrame(self) -> None:
        ours = agent()
        ours.receive_data(self.opening + self.envelope[:-1])
        ours.receive_data(b"\n")
        ours.receive_data(b"\nx")
        (agreed,) = ours.accept()
        self.assertEqual(agreed, Agreed(HTTP_PROXY, encode_target(PROXY), b"\nx"))

    def test_agentTakesNoNumberAndNoBadJSON(self) -> None:
        for envelope in (b'{"host":"127.0.0.1","id":"1","port":8080}\n', b"{]", b"hello\n"):
            self.assertRaises(PeerError, self.toAgent, self.opening + envelope)

    def test_agentRefusesWhatIsNoNegotiation(self) -> None:
        header = b"\x13/multistream/1.0.0\n"
        for octets in (
            b"\x13/multistream/9.0.0\n",
            header + b"\x10/ssh/open/1.0.0x",
            header + b"\x81\x08" + b"x" * 1024 + b"\n",
            header + b"\x93\x00" + b"x" * 18 + b"\n",
        ):
            ours = agent()
            self.assertRaises(PeerError, ours.receive_data, octets)
            self.assertEqual(b"".join(ours.data_to_send()), header)

    def test_agentKnowsNoList(self) -> None:
        self.assertEqual(self.toAgent(b"\x13/multistream/1.0.0\n\x03ls\n"), (None, b"\x13/multistream/1.0.0\n\x03na\n"))

    def test_serverTakesRepliesWithAndWithoutLineFeed(self) -> None:
        for reply, leftover in ((b'{"status":"ok"}', b""), (b'{"status":"ok"}\n', b""), (b'{"status":"ok"}\nHTTP', b"HTTP")):
            for size in (1, 3, 1000):
                event = self.toServer(reply, size)
                self.assertIsInstance(event, Agreed)
                self.assertTrue(leftover.startswith(event.leftover))
            self.assertEqual(self.toServer(reply, 1000).leftover, leftover)

    def test_serverTakesOnlyStringsAndOnly512Octets(self) -> None:
        self.assertRaises(NotStrings, self.toServer, b'{"status":true}')
        self.assertRaises(TooLong, self.toServer, b'{"error":"' + b"x" * 600 + b'"}')

    def test_serverTellsTheReason(self) -> None:
        for reply, reason in {
            b'{"message":"m","status":"x"}': "m",
            b'{"error":"e"}': "e",
            b'{"status":"x"}': "x",
            b"{}": "no reason given",
            b"null\n": "no reason given",
        }.items():
            self.assertEqual(self.toServer(reply), Rejected(reason))

    def test_serverTakesOneHeader(self) -> None:
        ours = server(PROXY)
        self.assertRaises(PeerError, ours.receive_data, b"\x13/multistream/1.0.0\n\x13/multistream/2.0.0\n")


class CodecTests(SynchronousTestCase):
    """
    What the halves share beside ShellHub's names.
    """

    def test_halvesAgree(self) -> None:
        def both(answer: Callable[[Any], list[NegotiationEvent]]) -> tuple[list[NegotiationEvent], list[NegotiationEvent]]:
            ours = JSONInitiator({"id": "1"}, answers=ANSWERS, codec=ENVELOPES)
            theirs = JSONResponder(answers=ANSWERS, codec=REPLIES)
            (question,) = theirs.receive_data(b"".join(ours.data_to_send()))
            self.assertEqual(question, Proposed(b"", {"id": "1"}))
            told = answer(theirs)
            return told, ours.receive_data(b"".join(theirs.data_to_send()))

        parameters: Mapping[str, Any] = {"status": "ok"}
        self.assertEqual(both(lambda ours: ours.accept()), ([Agreed(b"", {"id": "1"})], [Agreed(b"", parameters)]))
        self.assertEqual(both(lambda ours: ours.reject("no <port>")), ([Rejected("no <port>")], [Rejected("no <port>")]))

    def test_aLateLineFeedIsTakenOffToo(self) -> None:
        """
        Where nothing has followed an object yet, a line feed may still come: once.
        """
        for rest, late in ((b"", leftover_filter), (b"\n", None), (b"x", None)):
            ours = JSONResponder(codec=REPLIES)
            (agreed,) = ours.receive_data(b'{"id":"1"}' + rest)
            assert isinstance(agreed, Agreed)
            self.assertEqual((agreed.leftover, agreed.leftover_filter), (rest.strip(), late))

    def test_objectsTravelAlone(self) -> None:
        """
        The genuine ends lose what they read with them.
        """
        self.assertTrue(asking(PROXY).own_frame and asking(SESSION).own_frame and asked(HTTP_PROXY).own_frame)

    def test_aSecondLineFeedIsPayload(self) -> None:
        ours = JSONInitiator({}, answers=ANSWERS, codec=ENVELOPES)
        self.assertEqual(ours.receive_data(b'{"status":"ok"}\n\n'), [Agreed(b"", {"status": "ok"}, b"\n")])
