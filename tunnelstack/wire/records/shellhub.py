"""
The targets that a ShellHub server opens streams to, and their encoding in version 2: the name of a protocol, and a JSON object
whose values are all strings; for a proxy also an answer.

The decoder of Go, at the far end, reads further than the object and discards what it has read.  So nothing may follow an object
until the peer has sent something, and the line feed of an object is sent together with it or not at all.

Source: shellhub C{server/ssh/pkg/dialer/target.go}, C{agent/pkg/tunnel/context.go}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.go_json import encode_strings
from tunnelstack.wire.jsonline import InvalidJSON, decode_object
from tunnelstack.wire.negotiation.base import Rejected, Release
from tunnelstack.wire.negotiation.json_object import AnswerFormat, JSONInitiator, JSONResponder, ObjectCodec

SSH_OPEN, SSH_CLOSE, HTTP_PROXY = b"/ssh/open/1.0.0", b"/ssh/close/1.0.0", b"/http/proxy/1.0.0"

CONNECTION = "/agent/connection"
"""Where agents of version 2 connect; for the paths of version 1 see L{tunnelstack.wire.records.shellhub_v1}."""

ENVELOPE = 4096
"""Octets of the longest object that a device accepts; genuine agents have no bound."""

REPLY = 512
"""Octets of the longest answer, as at the genuine server."""

PING, PONG = 35.0, 15.0
"""Seconds from an answer to the server's next ping, and within which a ping must be answered."""

HANDSHAKE = 30.0
"""Seconds from the opening of a stream until its target is connected."""

DIAL_FAILED = "failed to dial to the address and port"
"""The answer of a device that cannot connect to a target."""

_SPACE = re.compile(rb"[ \t\r\n]*")
_OUTSIDE = re.compile(rb"[ \t\r\n,:nul]*")            # between strings; a value that is no string has something else
_INSIDE = re.compile(rb'(?:[^"\\]|\\.)*', re.DOTALL)
_NULL = b"null"


class NotStrings(PeerError):
    """
    An object has a value that is not a string.
    """


class TooLong(PeerError):
    """
    An object has more octets than its reader accepts.
    """


class BadTarget(PeerError):
    """
    The target is unknown or invalid.
    """


@frozen
class SSHOpen:
    """
    A new SSH session on this stream, with the device as its server.

    @ivar session: the identifier that the server has chosen.
    """

    session: str


@frozen
class SSHClose:
    """
    The end of an SSH session on another stream.

    @ivar session: as in L{SSHOpen}.
    """

    session: str


@frozen
class HTTPProxy:
    """
    A TCP server that this stream is connected to.

    @ivar host: a name or an address (IPv6 without brackets).
    @ivar port: 1 to 65 535.
    @ivar request: an identifier of the server for logs; version 1 has none.
    """

    host: str
    port: int
    request: str = ""


Target = SSHOpen | SSHClose | HTTPProxy


class ObjectReader:
    """
    Octets, cut anywhere, to one object of strings, as Go's decoder finds it: C{null} is an empty one, a value that is C{null}
    an empty string, and nothing needs to follow.

    Unlike Go's it takes no member twice and no text that is not Unicode.
    """

    __slots__ = ("_at", "_begun", "_buffer", "_inside", "_limit")

    def __init__(self, limit: int = ENVELOPE) -> None:
        """
        @param limit: octets up to the object's end, with the space before it.
        """
        self._limit = limit
        self._buffer = b""
        self._at = 0                    # everything before here was looked at
        self._begun = self._inside = False

    def feed(self, octets: bytes) -> None:
        """
        Octets have arrived.  Ask for L{next_object} before feeding more: that is the bound of what is held.
        """
        self._buffer += octets

    def next_object(self) -> dict[str, str] | None:
        """
        @return: the object; C{None} while its end is missing.
        @raise PeerError: there is none (L{InvalidJSON}, L{NotStrings}), or it is too long.
        """
        end = self._end()
        if end < 0:
            if len(self._buffer) > self._limit:
                raise TooLong("an object is too long", limit=self._limit)
            return None
        value, self._buffer = self._buffer[:end], self._buffer[end:]
        return _strings(value)

    def take_leftover(self) -> bytes:
        """
        @return: the octets after the object, which are removed.
        """
        rest, self._buffer = self._buffer, b""
        return rest

    def _end(self) -> int:
        """
        @return: the offset after the object's last octet; C{-1} as long as it has not come.
        """
        buffer = self._buffer
        if not self._begun and not self._begins():
            return self._null()
        while self._at < len(buffer):
            pattern = _INSIDE if self._inside else _OUTSIDE
            self._at = _match(pattern, buffer, self._at, self._limit)
            octet = buffer[self._at : self._at + 1]
            if octet == b'"':
                self._inside = not self._inside
            elif self._inside or not octet or self._at >= self._limit:
                return -1               # half an escape, or no more octets
            elif octet == b"}":
                return self._at + 1
            else:
                raise NotStrings("a value is not a string", octet=octet)
            self._at += 1
        return -1

    def _begins(self) -> bool:
        self._at = _match(_SPACE, self._buffer, self._at, self._limit)
        if self._buffer[self._at : self._at + 1] == b"{":
            self._begun = True
            self._at += 1
        return self._begun

    def _null(self) -> int:
        seen = self._buffer[self._at : min(self._at + len(_NULL), self._limit)]
        if not _NULL.startswith(seen):
            raise InvalidJSON("the octets are not a JSON object", octets=seen)
        return self._at + len(_NULL) if seen == _NULL else -1


def _match(pattern: re.Pattern[bytes], buffer: bytes, start: int, limit: int) -> int:
    """
    @return: where the pattern, which also matches nothing, stops; never beyond the limit.
    """
    found = pattern.match(buffer, start, max(start, limit))
    return found.end() if found is not None else start


def _strings(value: bytes) -> dict[str, str]:
    if value.strip() == _NULL:
        return {}
    members = decode_object(value)
    if not all(member is None or isinstance(member, str) for member in members.values()):
        raise NotStrings("a value is not a string")
    return {name: member or "" for name, member in members.items()}


def leftover_filter(octets: bytes) -> bytes:
    """
    @param octets: those that directly follow an object.
    @return: without the line feed that may end it.  Where the object came last, these are the next octets to arrive; ask
        only once.
    """
    return octets[1:] if octets[:1] == b"\n" else octets


def encode_object(members: Mapping[str, str]) -> bytes:
    """
    @return: as Go's C{json.Encoder} writes it, line feed included; it is to be written alone, and in one piece.
    """
    return encode_strings(members) + b"\n"


def _refusal(answer: Mapping[str, Any]) -> Rejected | None:
    """
    @return: the refusal; C{None} for success.  Agents send C{error}, the genuine server reads C{message}.
    """
    if answer.get("status") == "ok":
        return None
    return Rejected(answer.get("message") or answer.get("error") or answer.get("status") or "no reason given")


ENVELOPES = ObjectCodec(encode_object, ObjectReader, leftover_filter, own_frame=True)
"""The format in which a server sends targets, and reads answers."""

REPLIES = ObjectCodec(encode_strings, ObjectReader, leftover_filter, own_frame=True)
"""The format of a device's answers: without a line feed, which servers since 0.27.0-rc.6 pass on as data."""

ANSWERS = AnswerFormat(lambda parameters: {"status": "ok"}, lambda reason, code: {"error": reason}, _refusal)
"""C{{"status":"ok"}} or C{{"error":"..."}}."""


def asking(target: Target) -> JSONInitiator:
    """
    @return: the server's half of what follows the L{name_of} a target.
    """
    members = encode_target(target)
    if isinstance(target, HTTPProxy):
        return JSONInitiator(members, answers=ANSWERS, limit=REPLY, codec=ENVELOPES)
    return JSONInitiator(members, release=Release.ON_FIRST_OCTET, codec=ENVELOPES)


def asked(name: bytes) -> JSONResponder:
    """
    @return: the device's half of what follows a name; L{decode_target_untrusted} decodes what it receives.
    """
    return JSONResponder(answers=ANSWERS if name == HTTP_PROXY else None, limit=ENVELOPE, codec=REPLIES)


def name_of(target: Target) -> bytes:
    """
    @return: the name of the protocol for a target.
    """
    return {SSHOpen: SSH_OPEN, SSHClose: SSH_CLOSE, HTTPProxy: HTTP_PROXY}[target.__class__]


def encode_target(target: Target) -> dict[str, str]:
    """
    @return: the members of the object.
    @raise UsageError: the port is not between 1 and 65 535.
    """
    if not isinstance(target, HTTPProxy):
        return {"id": target.session}
    if not 0 < target.port < 65536:
        raise UsageError(f"{target.port} is not a port number")
    return {"id": target.request, "host": target.host, "port": str(target.port)}


def decode_target_untrusted(name: bytes, members: Mapping[str, str]) -> Target:
    """
    @param members: of the object; unknown members are ignored, missing ones are empty.
    @raise BadTarget: the name is unknown, or the port is invalid.
    """
    identifier = members.get("id", "")
    if name == SSH_OPEN:
        return SSHOpen(identifier)
    if name == SSH_CLOSE:
        return SSHClose(identifier)
    if name == HTTP_PROXY:
        return HTTPProxy(members.get("host", ""), decode_port_untrusted(members.get("port", "")), identifier)
    raise BadTarget("devices have no protocol of this name", name=name[:64])


def decode_port_untrusted(text: str) -> int:
    """
    @raise BadTarget: it is not a decimal number from 1 to 65 535.
    """
    port = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 0 < port < 65536:
        raise BadTarget("the port is invalid", port=text[:16])
    return port
