"""
HTTP/1.1 messages as octets: one reader and one writer, for requests and for responses.

Both find where a message ends: after a length, after the last chunk, or with the connection.  Neither uses a transport or a
clock.

Source: RFC 9112, sections 6, 7 and 9.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tunnelstack.errors import UsageError
from tunnelstack.wire.http1.chunked import ChunkedDecoder, encode_chunk, encode_last_chunk
from tunnelstack.wire.http1.framing import (
    CHUNKED,
    UNTIL_CLOSE,
    framing_untrusted,
    is_ordinary,
    outgoing_framing,
    without,
)
from tunnelstack.wire.http1.head import (
    DEFAULT_LIMITS,
    HTTP_1_1,
    BadMessage,
    Fields,
    HeadLimits,
    RequestHead,
    ResponseHead,
    encode_request,
    encode_response,
    find_end_untrusted,
    read_request_untrusted,
    read_response_untrusted,
    request_prefix,
)
from tunnelstack.wire.http1.lenient import begins_like_a_response, find_end_lenient, read_response_lenient

REMEMBERED_OCTETS = 2048
"""Octets of the longest head that is compared with the next one of its connection."""

REMEMBERED_HEADS = 128
"""First heads that are remembered of the connections of a server."""

ReadRequest = tuple[bytes, bytes, RequestHead]
"""A head's octets, those up to its last value, and its record."""

_PLAIN_VALUE = re.compile(rb"[!-~\x80-\xff]+")
"""A value that can take the place of another one without a further look at it."""


class BodyLengthMismatch(UsageError):
    """
    The body that is written is longer or shorter than its C{Content-Length}.
    """


class MessageReader:
    """
    Reads the messages that arrive on one connection, one after the other.

    For each message: call L{receive} with what arrives, and L{read_request} or L{read_response} after it, until a head is
    returned.  Then call L{read_body} with what L{take_buffer} returns, and with whatever arrives, until L{ended} is true.
    Octets that follow the end of a message are kept in L{buffer}, where the next head begins.

    Clients and servers often send the same head for message after message, or change no more than the value of a request's
    last field, such as an identifier.  So a reader keeps the last head, if it is short and plain, as long as the connection
    lasts, and reads the same octets as the same record.  Code that changes a record therefore makes a new one.  Clients that
    connect for each request often send the same head each time: readers of the same limits may share the first heads of their
    connections.

    @ivar buffer: octets that were received and are not read yet.
    @ivar remaining: octets of the body that have not arrived yet; L{CHUNKED} or L{UNTIL_CLOSE} where that is not known.
    @ivar ended: the message is whole.
    @ivar trailers: fields that followed a body in chunks.
    @ivar irregular: a response was not as the grammar has it, so that no other is expected on the connection.
    """

    __slots__ = (
        "_chunks", "_first_heads", "_last_request", "_last_response", "_lenient", "_limits", "_searched", "buffer", "ended",
        "irregular", "remaining", "trailers",
    )  # fmt: skip

    def __init__(
        self, limits: HeadLimits = DEFAULT_LIMITS, *, lenient: bool = False, first_heads: dict[bytes, ReadRequest] | None = None
    ) -> None:
        """
        @param lenient: read chunks as those of a server that is not strict.
        @param first_heads: those of requests on other connections, by their octets: readers with the same limits may share it.
        """
        self._lenient = lenient
        self.irregular = False
        self._limits = limits
        self._searched = 0                  # octets of the buffer in which the end of a head is not
        self._chunks: ChunkedDecoder | None = None
        self._first_heads = first_heads
        self._last_request: ReadRequest | None = None
        self._last_response: tuple[bytes, bytes, ResponseHead] | None = None    # its octets, and the method that it answers
        self.buffer = b""
        self.remaining = 0
        self.ended = False
        self.trailers: Fields = []

    @property
    def length_known(self) -> bool:
        """
        More octets of the body are to come, and their number is known.
        """
        return self.remaining > 0

    def receive(self, octets: bytes) -> None:
        """
        Add octets to the buffer.
        """
        self.buffer = self.buffer + octets if self.buffer else octets

    def take_buffer(self) -> bytes:
        """
        @return: the buffer, which is empty afterwards.
        """
        octets, self.buffer = self.buffer, b""
        self._searched = 0
        return octets

    def read_request(self) -> RequestHead | None:
        """
        Read a head from the buffer.  Empty lines before it are skipped: some clients end a body with one.

        @return: the head with its C{framing}; C{None} if it is not whole.
        @raise BadMessage: it is not the head of a request.
        """
        octets = self.buffer
        if octets.startswith(b"\r\n"):
            octets = self._skip_empty_lines()
        limits, searched, last = self._limits, self._searched, self._last_request
        if last is None and self._first_heads and len(octets) <= REMEMBERED_OCTETS:
            self._last_request = last = self._first_heads.get(octets)
        # most heads are whole, and most messages have neither chunks nor trailers: what is done for those stands here
        if last is not None and octets.startswith(last[0]):
            head, end = last[2], len(last[0])
        elif (
            last is not None and octets.startswith(last[1])
            and (end := octets.find(b"\r\n\r\n", start := len(last[1]), limits.octets) + 4) >= 4
            and _PLAIN_VALUE.fullmatch(octets, start, end - 4)
        ):
            head = last[2]
            fields, prefix = head.fields[:-1], head.prefix or _prefix(head)
            fields.append((head.fields[-1][0], octets[start:end - 4]))
            head = RequestHead(head.method, head.target, fields, head.version, head.framing)
            head.prefix = prefix
        else:
            end = octets.find(b"\r\n\r\n", searched - 3 if searched > 3 else 0, limits.octets) + 4
            if end < 4 and (not octets or find_end_untrusted(octets, searched, limits) < 0):
                self._searched = len(octets)
                return None
            head = read_request_untrusted(octets, end, limits)
            head.framing = framing_untrusted(head)
            if end <= REMEMBERED_OCTETS:
                self._remember_request(octets[:end], head)
        self._searched = 0
        self.buffer = octets[end:]
        self.remaining = body = head.framing.body
        self.ended = not body
        if body == CHUNKED or self.trailers:
            self._prepare(body)
        return head

    def _remember_request(self, octets: bytes, head: RequestHead) -> None:
        """
        @param octets: of the head.
        """
        framing, (name, value) = head.framing, head.fields[-1] if head.fields else (b"", b"")
        if framing.body or framing.upgrade or framing.expect_continue:       # such records are changed as the message goes on
            self._last_request = None
            self._first_heads = None
            return
        start = len(octets) - 4 - len(value)
        varies = value and is_ordinary(name) and octets.startswith(value, start)
        self._last_request = last = octets, octets[:start] if varies else octets, head
        heads, self._first_heads = self._first_heads, None
        if heads is not None:
            if len(heads) >= REMEMBERED_HEADS:
                del heads[next(iter(heads))]
            heads[octets] = last

    def read_response(self, method: bytes) -> ResponseHead | None:
        """
        Read a head from the buffer.

        @param method: of the request that is answered.
        @return: the head with its C{framing}; C{None} if it is not whole.
        @raise BadMessage: it is not the head of a response.
        """
        octets, limits, searched, last = self.buffer, self._limits, self._searched, self._last_response
        if self.irregular:
            return self._read_irregular_response(method)
        if last is not None and not self.trailers and octets.startswith(last[0]) and method == last[1]:
            head = last[2]
            self._searched = 0
            self.buffer = octets[len(last[0]):]
            self.remaining = body = head.framing.body
            self.ended = not body
            return head
        try:
            end = octets.find(b"\r\n\r\n", searched - 3 if searched > 3 else 0, limits.octets) + 4
            if end < 4 and find_end_untrusted(octets, searched, limits) < 0:
                self._searched = len(octets)
                return None
            head = read_response_untrusted(octets, end, limits)
            head.framing = framing = framing_untrusted(head, method)
        except BadMessage:
            if not begins_like_a_response(octets):
                raise
            self.irregular = True
            self._searched = 0
            return self._read_irregular_response(method)
        self._searched = 0
        self.buffer = octets[end:]
        self.remaining = body = framing.body
        self.ended = not body
        if body == CHUNKED or self.trailers:
            self._prepare(body)
        # interim heads may be many, and those with fields of the connection are changed as the message goes on
        elif body >= 0 and end <= REMEMBERED_OCTETS and head.status >= 200 and not framing.hop_by_hop:
            self._last_response = octets[:end], method, head
        return head

    def _read_irregular_response(self, method: bytes) -> ResponseHead | None:
        octets = self.buffer
        end = find_end_lenient(octets, self._searched, self._limits)
        if end < 0:
            self._searched = len(octets)
            return None
        head = read_response_lenient(octets, end, method, self._limits)
        self._searched = 0
        self.buffer = octets[end:]
        self.remaining = body = head.framing.body
        self.ended = not body
        self._prepare(body)
        return head

    def _skip_empty_lines(self) -> bytes:
        octets, start = self.buffer, 0
        while octets.startswith(b"\r\n", start):
            start += 2
        self.buffer = octets = octets[start:]
        self._searched = 0
        return octets

    def _prepare(self, body: int) -> None:
        """
        A message with such a body has begun.
        """
        if body == CHUNKED:
            self._chunks = ChunkedDecoder(self._limits, lenient=self._lenient)
        if self.trailers:
            self.trailers = []

    def read_body(self, octets: bytes) -> bytes:
        """
        @param octets: what arrived; the buffer is empty.
        @return: the octets of the body among them.
        @raise BadMessage: they are not chunks.
        """
        remaining = self.remaining
        if remaining >= 0:
            if len(octets) > remaining:
                octets, self.buffer = octets[:remaining], octets[remaining:]
            self.remaining = remaining = remaining - len(octets)
            self.ended = not remaining
        elif self._chunks is not None:
            octets = self._read_chunks(self._chunks, octets)
        return octets

    def _read_chunks(self, chunks: ChunkedDecoder, octets: bytes) -> bytes:
        octets = chunks.receive_data(octets)
        if chunks.ended:
            self.ended, self.trailers, self.buffer = True, chunks.trailers, chunks.leftover
            self.irregular |= chunks.irregular
            self._chunks = None
            self.remaining = 0
        return octets

    def receive_eof(self) -> bool:
        """
        Nothing more arrives.

        @return: whether this is how the message ends.
        """
        self.ended = self.remaining == UNTIL_CLOSE
        return self.ended


class MessageWriter:
    """
    Writes one message: a head, then any number of L{body}, then L{end}.

    @ivar remaining: octets of the body that are still to be written; L{CHUNKED} or L{UNTIL_CLOSE} where the head names no
        length.
    @ivar keep_alive: another message may follow on the connection.
    @ivar bodyless: the response has no body, whatever its head has about one; it is dropped.
    @ivar upgrade: the protocols that the head of a request offers.
    """

    __slots__ = ("bodyless", "keep_alive", "remaining", "upgrade")

    def __init__(self, keep_alive: bool = True) -> None:
        self.remaining = 0
        self.keep_alive = keep_alive
        self.bodyless = False
        self.upgrade = b""

    def request_head(self, head: RequestHead) -> bytes:
        """
        @return: the octets of the head of a request.
        """
        framing = outgoing_framing(head)
        self.remaining = framing.body
        if options := framing.options:
            self.upgrade = framing.upgrade
            head = RequestHead(head.method, head.target, [*head.fields, (b"Connection", b", ".join(options))])
        return encode_request(head)

    def response_head(self, head: ResponseHead, request: RequestHead) -> bytes:
        """
        Where the head names no length the body is sent in chunks, or to a client of HTTP/1.0 until the connection closes.

        @param request: what is answered.
        @return: the octets of the head of a response.
        """
        status, fields, framing = head.status, head.fields, outgoing_framing(head)
        if status == 204 or status == 304 or request.method == b"HEAD":
            self.bodyless = True
            fields = without(fields, b"transfer-encoding", *((b"content-length",) if status == 204 else ()))
        elif framing.body >= 0:
            self.remaining = framing.body
        elif request.version == HTTP_1_1:
            self.remaining = CHUNKED
            if framing.body != CHUNKED:
                fields = [*fields, (b"Transfer-Encoding", b"chunked")]
        else:
            self.remaining, self.keep_alive = UNTIL_CLOSE, False
            fields = without(fields, b"transfer-encoding")
        fields = connection_fields(fields, framing.options, request, self.keep_alive)
        return encode_response(ResponseHead(status, head.reason, fields))

    def switching_head(self, head: ResponseHead) -> bytes:
        """
        @return: the octets of a head with status 101, after which everything is written as it is.
        """
        self.switch()
        fields = [*without(head.fields, b"content-length", b"transfer-encoding"), (b"Connection", b"Upgrade")]
        return encode_response(ResponseHead(head.status, head.reason, fields))

    def switch(self) -> None:
        """
        The connection changes its protocol: everything is written as it is, until it closes.
        """
        self.remaining = UNTIL_CLOSE

    def body(self, octets: bytes) -> bytes:
        """
        @param octets: at least one.
        @return: what is sent of them.
        @raise BodyLengthMismatch: the body is longer than its length in the head.
        """
        remaining = self.remaining
        if self.bodyless:
            return b""
        if remaining >= 0:
            self.remaining = remaining = remaining - len(octets)
            if remaining < 0:
                raise BodyLengthMismatch("the body is longer than its Content-Length", octets=-remaining)
        elif remaining == CHUNKED:
            return encode_chunk(octets)
        return octets

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
        """
        @param trailers: they are sent after a body in chunks, and dropped after any other.
        @return: what ends the message.
        @raise BodyLengthMismatch: the body is shorter than its length in the head.
        """
        remaining = self.remaining
        if remaining > 0:
            raise BodyLengthMismatch("the body is shorter than its Content-Length", octets=remaining)
        return encode_last_chunk(list(trailers)) if remaining == CHUNKED else b""


def _prefix(head: RequestHead) -> bytes:
    """
    Keep the prefix of a head for the heads that are made from it.
    """
    head.prefix = prefix = request_prefix(head)
    return prefix


def connection_fields(fields: Fields, options: tuple[bytes, ...], request: RequestHead, keep_alive: bool) -> Fields:
    """
    @param options: of C{Connection}, without those that concern its end.
    @return: the fields of a response with the C{Connection} that it needs.
    """
    if not keep_alive:
        options = (*options, b"close")
    elif request.version != HTTP_1_1:
        options = (*options, b"keep-alive")
    return [*fields, (b"Connection", b", ".join(options))] if options else fields
