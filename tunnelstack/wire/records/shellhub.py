"""
What a ShellHub server asks of a device, and how it is said in version 2: one JSON object whose values are all strings, behind a
protocol's name; and for a proxy another one for the answer.

Go's decoder, at the far end, reads further than the object and forgets what it read.  So nothing may follow an object until
the peer has spoken, and an object's line feed leaves together with it or never.

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
from tunnelstack.wire.negotiation.base import Release
from tunnelstack.wire.negotiation.json_object import AnswerFormat, JSONInitiator, JSONResponder, ObjectCodec

SSH_OPEN, SSH_CLOSE, HTTP_PROXY = b"/ssh/open/1.0.0", b"/ssh/close/1.0.0", b"/http/proxy/1.0.0"

CONNECTION = "/agent/connection"
"""Where agents of version 2 connect; for the paths of version 1 see L{tunnelstack.wire.records.shellhub_v1}."""

ENVELOPE = 4096
"""Octets of the longest object that a device takes (a genuine one has no bound)."""

REPLY = 512
"""Octets of the longest answer, as the genuine server has it."""

PING, PONG = 35.0, 15.0
"""Seconds between the server's pings, from the answer to the last one, and for an answer to come."""

HANDSHAKE = 30.0
"""Seconds from an open stream to the target's being ready."""

DIAL_FAILED = "failed to dial to the address and port"
"""What a device answers whose target is not to be had."""

_SPACE = re.compile(rb"[ \t\r\n]*")
_OUTSIDE = re.compile(rb"[ \t\r\n,:nul]*")            # between strings; a value that is no string has something else
_INSIDE = re.compile(rb'(?:[^"\\]|\\.)*', re.DOTALL)
_NULL = b"null"


class NotStrings(PeerError):
    """
    An object has a value that is no string.
    """


class TooLong(PeerError):
    """
    An object has more octets than its reader takes.
    """


class BadTarget(PeerError):
    """
    Nothing that a device could be asked for.
    """


@frozen
class SSHOpen:
    """
    Speak SSH on this stream, as its server.

    @ivar session: what the server calls it.
    """

    session: str


@frozen
class SSHClose:
    """
    End the stream of a session.

    @ivar session: as in L{SSHOpen}.
    """

    session: str


@frozen
class HTTPProxy:
    """
    Connect this stream to a TCP server.

    @ivar host: a name or an address (IPv6 without brackets).
    @ivar port: 1 to 65 535.
    @ivar request: the server's own identifier, for logs; version 1 has none.
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
        @return: what was fed behind the object; it is held here no longer.
        """
        rest, self._buffer = self._buffer, b""
        return rest

    def _end(self) -> int:
        """
        @return: the offset behind the object's last octet; C{-1} as long as it has not come.
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
                raise NotStrings("a value is no string", octet=octet)
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
            raise InvalidJSON("what comes is no JSON object", octets=seen)
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
        raise NotStrings("a value is no string")
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


def _refusal(answer: Mapping[str, Any]) -> str | None:
    """
    Agents say C{error}, the genuine server listens for C{message}: we take either.
    """
    if answer.get("status") == "ok":
        return None
    return answer.get("message") or answer.get("error") or answer.get("status") or "no reason given"


ENVELOPES = ObjectCodec(encode_object, ObjectReader, leftover_filter, own_frame=True)
"""How a server asks, and reads answers."""

REPLIES = ObjectCodec(encode_strings, ObjectReader, leftover_filter, own_frame=True)
"""How a device answers: without a line feed, which servers since 0.27.0-rc.6 take for the first octet of what follows."""

ANSWERS = AnswerFormat(lambda parameters: {"status": "ok"}, lambda reason: {"error": reason}, _refusal)
"""C{{"status":"ok"}} or C{{"error":"..."}}."""


def asking(target: Target) -> JSONInitiator:
    """
    The server's half, behind the target's L{name_of}.
    """
    members = encode_target(target)
    if isinstance(target, HTTPProxy):
        return JSONInitiator(members, answers=ANSWERS, limit=REPLY, codec=ENVELOPES)
    return JSONInitiator(members, release=Release.ON_FIRST_OCTET, codec=ENVELOPES)


def asked(name: bytes) -> JSONResponder:
    """
    The device's half, behind a name; L{decode_target_untrusted} reads what it hears.
    """
    return JSONResponder(answers=ANSWERS if name == HTTP_PROXY else None, limit=ENVELOPE, codec=REPLIES)


def name_of(target: Target) -> bytes:
    """
    @return: the protocol's name for what is asked.
    """
    return {SSHOpen: SSH_OPEN, SSHClose: SSH_CLOSE, HTTPProxy: HTTP_PROXY}[target.__class__]


def encode_target(target: Target) -> dict[str, str]:
    """
    @return: the members of the envelope.
    @raise UsageError: a port that is none.
    """
    if not isinstance(target, HTTPProxy):
        return {"id": target.session}
    if not 0 < target.port < 65536:
        raise UsageError(f"{target.port} is no port")
    return {"id": target.request, "host": target.host, "port": str(target.port)}


def decode_target_untrusted(name: bytes, members: Mapping[str, str]) -> Target:
    """
    @param members: an envelope's; those that are not known are ignored, those that are missing are empty.
    @raise BadTarget: a name that is not known, or a port that is none.
    """
    identifier = members.get("id", "")
    if name == SSH_OPEN:
        return SSHOpen(identifier)
    if name == SSH_CLOSE:
        return SSHClose(identifier)
    if name == HTTP_PROXY:
        return HTTPProxy(members.get("host", ""), decode_port_untrusted(members.get("port", "")), identifier)
    raise BadTarget("this is not to be had of a device", name=name[:64])


def decode_port_untrusted(text: str) -> int:
    """
    @raise BadTarget: no decimal number from 1 to 65 535.
    """
    port = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 0 < port < 65536:
        raise BadTarget("this is no port", port=text[:16])
    return port
