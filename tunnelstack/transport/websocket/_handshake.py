"""
The opening handshake of both sides, without any I/O: requests and responses as heads of L{tunnelstack.wire.http1}.

Source: RFC 6455, section 4.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import sha1
from http import HTTPStatus
from urllib.parse import urlsplit

from attrs import frozen

from tunnelstack.errors import ConfigurationError, UsageError
from tunnelstack.settings.record import Record
from tunnelstack.transport.websocket.errors import HandshakeRejected, UpgradeFailed, UpgradeRefused
from tunnelstack.wire.http1.chunked import ChunkedDecoder
from tunnelstack.wire.http1.framing import (
    CHUNKED,
    UNTIL_CLOSE,
    request_framing_untrusted,
    response_framing_untrusted,
    tokens,
)
from tunnelstack.wire.http1.head import (
    HTTP_1_1,
    BadMessage,
    Fields,
    RequestHead,
    ResponseHead,
    encode_request,
    encode_response,
    find_end_untrusted,
    read_response_untrusted,
    values,
)
from tunnelstack.wire.printable_text import printable, quoted

BODY_LIMIT = 4 * 1024     # octets of a refusal's body that are kept
SECURE = {"ws": False, "http": False, "wss": True, "https": True}
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
UNPRINTABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
VERSION = b"13"
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"     # RFC 6455, section 1.3


@frozen(eq=False, repr=False)
class WebSocketLocation(Record):
    """
    Where a WebSocket is.

    @ivar secure: whether TLS comes first.
    @ivar host: a name or an address, without brackets.
    @ivar port: of the server.
    @ivar resource: path and query, as in the request.
    """

    secure: bool
    host: str
    port: int
    resource: str

    @property
    def authority(self) -> str:
        """
        Host and port for the Host field; the scheme's own port is left out.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


@frozen(eq=False, repr=False)
class UpgradeRequest(Record):
    """
    A valid request for a WebSocket.

    @ivar resource: path and query.
    @ivar key: its C{Sec-WebSocket-Key}.
    @ivar subprotocols: what the client offers, the best first.
    """

    resource: str
    key: bytes
    subprotocols: list[str]


def parseLocation(url: str) -> WebSocketLocation:
    """
    @param url: C{ws}, C{wss}, C{http} or C{https}.
    @raise ConfigurationError: not such a URL.
    """
    try:
        parts = urlsplit(url)
        secure = SECURE.get(parts.scheme)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{quoted(url)} is not a URL: {error}") from None
    if secure is None:
        raise ConfigurationError(f"{quoted(url)} does not begin with ws://, wss://, http:// or https://")
    if not parts.hostname or port == 0:
        raise ConfigurationError(f"{quoted(url)} names no host or no port to connect to")
    if parts.username is not None:
        raise ConfigurationError("a URL must not contain a password; send a header instead")
    resource = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    if not resource.isascii() or not parts.hostname.isascii() or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ConfigurationError(f"{quoted(url)} contains characters that must be escaped")
    return WebSocketLocation(secure, parts.hostname, port or (443 if secure else 80), resource)


def checkHeaders(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """
    @raise UsageError: a name is not a token, or a value would end its line.
    """
    checked = list(headers)
    for name, value in checked:
        if not TOKEN.fullmatch(name):
            raise UsageError("not a name of a header field", name=name)
        if UNPRINTABLE.search(value):
            raise UsageError("the value of a header field contains characters that cannot be sent", name=name)
    return checked


def encodeFields(headers: Iterable[tuple[str, str]]) -> Fields:
    """
    @param headers: from L{checkHeaders}.
    """
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


# The client's side


def encodeRequest(
    location: WebSocketLocation, key: bytes, headers: list[tuple[str, str]], subprotocols: list[str]
) -> bytes:
    """
    @param key: the C{Sec-WebSocket-Key}, 24 octets.
    @param headers: further fields; a C{Host} among them replaces ours.
    """
    fields: Fields = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Key", key),
        (b"Sec-WebSocket-Version", VERSION),
        *encodeFields(headers),
    ]
    if subprotocols:
        fields.append((b"Sec-WebSocket-Protocol", ", ".join(subprotocols).encode("latin-1")))
    if not any(name.lower() == "host" for name, _ in headers):
        fields.insert(0, (b"Host", location.authority.encode("ascii")))
    return encode_request(RequestHead(b"GET", location.resource.encode("ascii"), fields))


class ResponseReader:
    """
    Reads the response to a request for a WebSocket.

    @ivar leftover: octets that follow the head of a 101.
    """

    def __init__(self) -> None:
        self.leftover = b""
        self._data = b""
        self._searched = 0
        self._refusal: RefusalResponse | None = None

    def receive(self, data: bytes) -> ResponseHead | None:
        """
        @return: the head of a 101, once it is complete.  Interim responses are skipped (RFC 9110, section 15.2).
        @raise UpgradeRefused: another final response, with all of its body that is kept.
        @raise UpgradeFailed: not HTTP/1, or a malformed head.
        """
        if self._refusal is None:
            self._data += data
            head = self._read()
            if head is None or head.status == HTTPStatus.SWITCHING_PROTOCOLS:
                return head
            self._refusal = RefusalResponse(head)
            data, self.leftover = self.leftover, b""
        if self._refusal.receive(data):
            raise self._refusal.error()
        return None

    def end(self) -> None:
        """
        The connection ended.

        @raise UpgradeRefused: it ended within the body of a refusal.
        """
        if self._refusal is not None:
            raise self._refusal.error()

    def _read(self) -> ResponseHead | None:
        try:
            while (end := self._findEnd()) >= 0:
                head = read_response_untrusted(self._data, end)
                self._data, self._searched = self._data[end:], 0
                if head.status >= HTTPStatus.OK or head.status == HTTPStatus.SWITCHING_PROTOCOLS:
                    self.leftover, self._data = self._data, b""
                    return head
        except BadMessage as bad:
            raise UpgradeFailed(f"the response cannot be read: {bad.args[0]}") from None
        return None

    def _findEnd(self) -> int:
        data = self._data
        if not data.startswith(b"HTTP/1."[: len(data)]):     # most other protocols never send an empty line
            raise UpgradeFailed("the peer does not use HTTP/1", began=data[:32])
        end = find_end_untrusted(data, self._searched)
        self._searched = len(data)
        return end


class RefusalResponse:
    """
    A final response other than 101, while its body arrives.
    """

    def __init__(self, head: ResponseHead) -> None:
        self._head = head
        self._body = b""
        self._chunks: ChunkedDecoder | None = None
        self._length = BODY_LIMIT
        try:
            length = response_framing_untrusted(head, b"GET").body
        except BadMessage:                    # the status is what counts: read until the connection ends
            length = UNTIL_CLOSE
        if length == CHUNKED:
            self._chunks = ChunkedDecoder()
        elif length != UNTIL_CLOSE:
            self._length = min(length, BODY_LIMIT)

    def receive(self, data: bytes) -> bool:
        """
        @return: whether all of the body that is kept has arrived.
        """
        ended = False
        if self._chunks is not None:
            try:
                data = self._chunks.receive_data(data)
                ended = self._chunks.ended
            except BadMessage:                # nothing is kept of a malformed body
                self._body, data, ended = b"", b"", True
        self._body = (self._body + data)[: self._length]
        return ended or len(self._body) >= self._length

    def error(self) -> UpgradeRefused:
        """
        The exception, with what has arrived of the body.
        """
        head = self._head
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.fields}
        return UpgradeRefused(head.status, head.reason.decode("latin-1"), headers, self._body.decode("utf-8", "replace"))


def checkResponse(head: ResponseHead, key: bytes, subprotocols: list[str]) -> str | None:
    """
    Verify a 101 (RFC 6455, section 4.1).

    @return: the subprotocol that the server chose.
    @raise UpgradeFailed: it is not a response to this request.
    """
    try:
        upgrade = response_framing_untrusted(head, b"GET").upgrade
    except BadMessage as bad:
        raise UpgradeFailed(f"the response cannot be read: {bad.args[0]}") from None
    if upgrade.lower() != b"websocket":
        raise UpgradeFailed("the response does not upgrade the connection to a WebSocket")
    if values(head.fields, b"sec-websocket-accept") != [acceptFor(key)]:
        raise UpgradeFailed("the Sec-WebSocket-Accept of the response does not belong to this request")
    if any(values(head.fields, b"sec-websocket-extensions")):
        raise UpgradeFailed("the server uses an extension that was not offered")
    chosen = [value.decode("latin-1") for value in values(head.fields, b"sec-websocket-protocol") if value]
    if not chosen:
        return None
    if len(chosen) > 1 or chosen[0] not in subprotocols:
        raise UpgradeFailed(f"the server chose a subprotocol that was not offered: {printable(', '.join(chosen))}")
    return chosen[0]


def acceptFor(key: bytes) -> bytes:
    """
    The C{Sec-WebSocket-Accept} for a key.
    """
    return b64encode(sha1(key + MAGIC, usedforsecurity=False).digest())


# The server's side


def readRequest(head: RequestHead) -> UpgradeRequest:
    """
    Verify a request for a WebSocket (RFC 6455, section 4.2.1).  C{Origin} is not examined: it protects servers that
    authenticate browsers by cookies, and the servers here authenticate by other fields.

    @raise HandshakeRejected: it is not one.
    """
    if head.method != b"GET":
        raise HandshakeRejected(HTTPStatus.METHOD_NOT_ALLOWED, "a WebSocket is requested with GET")
    if head.version != HTTP_1_1:
        raise HandshakeRejected(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "a WebSocket needs HTTP/1.1")
    _checkUpgrade(head)
    versions: list[bytes] = []
    keys: list[bytes] = []
    protocols: list[bytes] = []
    wanted = {b"sec-websocket-version": versions, b"sec-websocket-key": keys, b"sec-websocket-protocol": protocols}
    for name, value in head.fields:
        if (found := wanted.get(name.lower())) is not None:
            found.append(value)
    _checkVersion(versions)
    if len(keys) != 1 or not _isKey(keys[0]):
        raise HandshakeRejected(HTTPStatus.BAD_REQUEST, "the Sec-WebSocket-Key is missing or malformed")
    offered = b",".join(protocols).decode("latin-1").split(",")
    return UpgradeRequest(
        head.target.decode("latin-1"), keys[0], [known for each in offered if (known := each.strip(" \t"))]
    )


def _checkUpgrade(head: RequestHead) -> None:
    try:
        framing = head.framing or request_framing_untrusted(head)
    except BadMessage as bad:
        raise HandshakeRejected(bad.status, bad.args[0]) from None
    if head.field(b"upgrade") is None:
        raise HandshakeRejected(HTTPStatus.UPGRADE_REQUIRED, "the Upgrade field is missing")
    if b"websocket" not in tokens(framing.upgrade):
        raise HandshakeRejected(HTTPStatus.BAD_REQUEST, "Connection and Upgrade do not request a WebSocket")
    if framing.body:                          # it would be read as frames here, and as a body elsewhere
        raise HandshakeRejected(HTTPStatus.BAD_REQUEST, "a request for a WebSocket has no body")


def _checkVersion(versions: list[bytes]) -> None:
    """
    Version 8 has the same frames (RFC 6455, section 4.4); it is rejected because no client that is in use sends it.
    """
    if len(versions) != 1:
        raise HandshakeRejected(HTTPStatus.BAD_REQUEST, "exactly one Sec-WebSocket-Version is required")
    if versions[0] != VERSION:
        raise HandshakeRejected(HTTPStatus.UPGRADE_REQUIRED, "only version 13 of the WebSocket protocol is supported")


def _isKey(key: bytes) -> bool:
    """
    Whether it is 16 octets in base64.
    """
    try:
        return len(b64decode(key, validate=True)) == 16
    except ValueError:
        return False


def encodeAcceptance(request: UpgradeRequest, subprotocol: str | None, headers: Iterable[tuple[str, str]]) -> bytes:
    """
    The response 101.
    """
    fields: Fields = [(b"Upgrade", b"WebSocket"), (b"Connection", b"Upgrade"), *encodeFields(headers)]
    if subprotocol is not None:
        fields.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
    fields.append((b"Sec-WebSocket-Accept", acceptFor(request.key)))
    return encode_response(ResponseHead(HTTPStatus.SWITCHING_PROTOCOLS, b"Switching Protocols", fields))


def encodeRejection(status: int, reason: str) -> bytes:
    """
    A response that rejects a request; the reason is its body.
    """
    body = (reason + "\n").encode("utf-8", "replace")
    fields: Fields = [
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Content-Length", b"%d" % len(body)),
        (b"Connection", b"close"),
    ]
    if status == HTTPStatus.UPGRADE_REQUIRED:
        fields += [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", VERSION)]
    return encode_response(ResponseHead(status, HTTPStatus(status).phrase.encode(), fields)) + body
