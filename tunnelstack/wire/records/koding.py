"""
What a client and a server of koding/tunnel exchange: the request and the answer that make a connection a session, the
handshake of the control stream, and the messages on it.

Source: koding/tunnel at 35a8b95662bf, C{proto/proto.go}, C{proto/control_msg.go}, C{server.go}, C{client.go}, C{httpproxy.go}.
Its C{spec.md} describes an earlier state.
"""

from __future__ import annotations

import posixpath
import re
from enum import IntEnum
from typing import Any

from attrs import frozen

from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.http1.head import RequestHead, encode_request, values
from tunnelstack.wire.json_stream import ObjectStreamReader

CONTROL_PATH = b"/_controlPath/"
"""The target of the C{CONNECT} request.  It is a path and not an authority."""

IDENTIFIER_FIELD = b"X-Ktunnel-Identifier"
"""The field that identifies the client, spelt as Go writes it."""

CONNECTED = b"200 Connected to Tunnel"
"""Status code and reason of an answer that accepts; the client compares both."""

BANNER = b"HTTP/1.1 " + CONNECTED + b"\n\n"
"""The whole answer: line feeds alone, and no fields."""

HANDSHAKE_REQUEST, HANDSHAKE_RESPONSE = b"controlHandshake", b"controlOk"
"""The first octets of the client and of the server on the control stream, each in one frame: genuine peers read once."""

OPEN_SECONDS = 10.0
"""Seconds for the client to open its control stream, and for each announced stream."""

DIAL_SECONDS = 10.0
"""Seconds for the client to reach a local server."""

NO_LOCAL_SERVER = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 15\r\n\r\nno local server"
"""What a client answers on a stream for HTTP if it cannot reach the local server."""

OPEN_STREAM = 1
"""The one C{action} of messages: C{RequestClientSession}."""

MAX_IDENTIFIER_OCTETS = 512
"""Octets of the longest identifier."""

HEAD_OCTETS = 64 * 1024
"""Octets of the longest head of an answer."""

REASON_OCTETS = 4096
"""Octets of the body of a refusal that are read."""

INTEGERS = range(-(2**63), 2**63)

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([^\r\n]*))?\r?\n")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r?\n", re.IGNORECASE)


class Transport(IntEnum):
    """
    What a stream is for, C{transportProtocol} of messages.  A genuine client ends for any other number.
    """

    HTTP = 1
    TCP = 2
    WEBSOCKET = 3


class BadControlMessage(PeerError):
    """
    A message has a value that is not a whole number.
    """


class BadHandshake(PeerError):
    """
    The first octets of the control stream are other ones.
    """


class BadAnswer(PeerError):
    """
    The answer to a C{CONNECT} is not that of a server of this system.
    """


@frozen
class ControlMessage:
    """
    A server requests that its client opens one stream.

    @ivar transport: one of L{Transport}; any number, if a server sent it.
    @ivar local_port: the requested public port; C{0} if it is unknown.
    @ivar action: L{OPEN_STREAM}; clients ignore it.
    """

    transport: int
    local_port: int = 0
    action: int = OPEN_STREAM


def encode_control(message: ControlMessage) -> bytes:
    """
    @return: as Go's C{json.Encoder} writes it, line feed included; it is to be written in one piece.
    @raise UsageError: a transport that would end a genuine client.
    """
    if message.transport not in tuple(Transport):
        raise UsageError("a client ends when it receives an unknown transport", transport=message.transport)
    return b'{"action":%d,"transportProtocol":%d,"localPort":%d}\n' % (
        message.action, message.transport, message.local_port,
    )  # fmt: skip


def decode_control_untrusted(members: dict[str, Any]) -> ControlMessage:
    """
    As Go's decoder reads it: names in any case, missing and C{null} values are 0, unknown members are ignored.

    @raise BadControlMessage: a value is not a whole number of 64 bits.
    """
    found = {"action": 0, "transportprotocol": 0, "localport": 0}
    for name, value in members.items():
        name = name.lower()
        if name not in found or value is None:
            continue
        if type(value) is not int or value not in INTEGERS:
            raise BadControlMessage("a value of a control message is not a whole number", member=name)
        found[name] = value
    return ControlMessage(found["transportprotocol"], found["localport"], found["action"])


class ControlReader:
    """
    The octets of a control stream, cut anywhere, after the handshake: objects one after the other.
    """

    __slots__ = ("_objects",)

    def __init__(self) -> None:
        self._objects = ObjectStreamReader()

    def receive_data(self, octets: bytes) -> list[ControlMessage]:
        """
        @return: the messages that are complete.
        @raise PeerError: what arrived is no message.  Those before it are lost, as a peer that sends it ends the session.
        """
        self._objects.feed(octets)
        found = []
        while (members := self._objects.next_object()) is not None:
            found.append(decode_control_untrusted(members))
        return found


class HandshakeReader:
    """
    Waits for the first octets of the control stream.  Octets of a peer that splits them are collected, though genuine peers
    do not do so.
    """

    __slots__ = ("_buffer", "_expected")

    def __init__(self, expected: bytes) -> None:
        """
        @param expected: L{HANDSHAKE_REQUEST} or L{HANDSHAKE_RESPONSE}.
        """
        self._expected = expected
        self._buffer = b""

    def receive_data(self, octets: bytes) -> bytes | None:
        """
        @return: what follows the handshake; C{None} while it is not complete.
        @raise BadHandshake: it is another one.
        """
        self._buffer += octets
        size = len(self._expected)
        if self._buffer[:size] != self._expected[: len(self._buffer)]:
            raise BadHandshake("the handshake of the control stream is wrong", octets=self._buffer[:size])
        return None if len(self._buffer) < size else self._buffer[size:]


# The request, as a server reads it


def is_control_path(path: bytes) -> bool:
    """
    @param path: a request target without its query.
    @return: whether Go's C{path.Clean} makes the control path of it.
    """
    return posixpath.normpath(b"/" + path.lstrip(b"/")) + b"/" == CONTROL_PATH


def identifier_of(head: RequestHead) -> bytes:
    """
    @return: the identifier of a request; C{b""} if it has none.
    """
    found = values(head.fields, IDENTIFIER_FIELD.lower())
    return found[0] if found else b""


NOT_CONNECT = b"405 must CONNECT\n\n"


def unknown_identifier(identifier: bytes) -> bytes:
    """
    @return: the body of a refusal.
    """
    return b"no host associated for identifier %b. please use server.AddHost()\n" % identifier


def already_connected(identifier: bytes) -> bytes:
    """
    @return: the body of the refusal that a genuine server gives to a second connection, which ends the first one as well.
    """
    return b"control conn for %b already exist. \n\n" % identifier


def no_hijacking(carrier: str) -> bytes:
    """
    @return: the body of the refusal for a connection that cannot be taken over.
    """
    return b"webserver doesn't support hijacking: %b\n" % carrier.encode()


# The request, as a client writes it, and the answer


def encode_connect(host: str, identifier: str) -> bytes:
    """
    @param host: the server's socket address, as the client sees it.
    @raise UsageError: a line break in one of them.
    """
    return encode_request(RequestHead(b"CONNECT", CONTROL_PATH, [
        (b"Host", host.encode("ascii")), (b"User-Agent", b"Go-http-client/1.1"),
        (IDENTIFIER_FIELD, identifier.encode("latin-1")),
    ]))  # fmt: skip


@frozen
class Accepted:
    """
    The server has taken the connection over.

    @ivar leftover: what follows the answer.  A genuine server sends nothing before the client's first frame.
    """

    leftover: bytes


@frozen
class Rejected:
    """
    The server has refused.

    @ivar status: HTTP's.
    @ivar reason: the body, as far as it arrived and is not longer than L{REASON_OCTETS}.
    """

    status: int
    reason: bytes

    @property
    def unknown(self) -> bool:
        """
        Whether no host of the server has the identifier.  The wire has no other mark for it than the text.
        """
        return self.status == 502 and self.reason.startswith(unknown_identifier(b"")[:34])


class AnswerReader:
    """
    The answer to a C{CONNECT}, cut anywhere.  Its lines may end with a line feed alone, as those of a genuine server do.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def receive_data(self, octets: bytes) -> Accepted | Rejected | None:
        """
        @return: C{None} while the answer is not complete.
        @raise BadAnswer: it is no HTTP, too long, or accepts with another reason.
        """
        self._buffer += octets
        end = _HEAD_END.search(self._buffer, 0, HEAD_OCTETS)
        if end is None:
            self._check_beginning()
            return None
        status, reason = self._status_line()
        if b"%d %b" % (status, reason) == CONNECTED:
            return Accepted(self._buffer[end.end() :])
        if status < 300:
            raise BadAnswer("the server does not accept connections of this system", status=status)
        body = self._buffer[end.end() :]
        length = _LENGTH.search(self._buffer, 0, end.end())
        if length is not None and len(body) < min(int(length[1]), REASON_OCTETS):
            return None
        return Rejected(status, body[:REASON_OCTETS] if length is None else body[: min(int(length[1]), REASON_OCTETS)])

    def receive_eof(self) -> Rejected:
        """
        The connection was closed.

        @return: a refusal whose body is not complete.
        @raise BadAnswer: there is no answer.
        """
        end = _HEAD_END.search(self._buffer, 0, HEAD_OCTETS)
        if end is None:
            raise BadAnswer("the server closed the connection before it answered", octets=len(self._buffer))
        return Rejected(self._status_line()[0], self._buffer[end.end() :][:REASON_OCTETS])

    def _check_beginning(self) -> None:
        if len(self._buffer) >= HEAD_OCTETS:
            raise BadAnswer("the head of the answer is too long", limit=HEAD_OCTETS)
        if not (b"HTTP/1."[: len(self._buffer)] == self._buffer[:7]):
            raise BadAnswer("the answer is not HTTP/1", octets=self._buffer[:16])
        if b"\n" in self._buffer:
            self._status_line()

    def _status_line(self) -> tuple[int, bytes]:
        line = _STATUS.match(self._buffer)
        if line is None:
            raise BadAnswer("the status line of the answer is malformed", octets=self._buffer[:32])
        return int(line[1]), (line[2] or b"").rstrip(b" \t")
