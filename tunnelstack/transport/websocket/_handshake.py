"""
What both sides of an upgrade say in HTTP/1.1, as octets: where to ask, how, and what a refusal looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

from attrs import frozen

from tunnelstack.errors import ConfigurationError, PeerError, Refused, UsageError
from tunnelstack.wire.printable_text import printable

HEAD_LIMIT = 32 * 1024    # octets of a head, either way
BODY_LIMIT = 4 * 1024     # octets of a refusal's body that are kept
HEAD_END = b"\r\n\r\n"
SECURE = {"ws": False, "http": False, "wss": True, "https": True}
STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([^\r\n]*))?\r\n")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
UNPRINTABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


class UpgradeRefused(Refused):
    """
    The server speaks HTTP and said no.

    @ivar status: its HTTP status, such as C{401}.
    @ivar reason: the words behind the status; may be empty.
    @ivar headers: the fields of its answer, names in lower case; of a repeated one, the last.
    @ivar body: at most 4 KiB of its body, as text.
    """

    def __init__(self, status: int, reason: str, headers: dict[str, str], body: str) -> None:
        super().__init__("the server refused the upgrade", status=status, reason=printable(reason))
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body


class UpgradeFailed(PeerError):
    """
    What answered is no WebSocket server, or not one for what was asked.
    """


@frozen
class WebSocketLocation:
    """
    Where a WebSocket is.

    @ivar secure: whether TLS comes first.
    @ivar host: a name or an address, without brackets.
    @ivar port: of the server.
    @ivar resource: path and query, as they stand in the request.
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


def parseLocation(url: str) -> WebSocketLocation:
    """
    Read an address of a WebSocket.

    @param url: C{ws}, C{wss}, C{http} or C{https}.
    @raise ConfigurationError: it is no such thing.
    """
    try:
        parts = urlsplit(url)
        secure = SECURE.get(parts.scheme)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{url!r} is not a URL: {error}") from None
    if secure is None:
        raise ConfigurationError(f"{url!r} does not begin with ws://, wss://, http:// or https://")
    if not parts.hostname or port == 0:
        raise ConfigurationError(f"{url!r} names no host or no port to connect to")
    if parts.username is not None:
        raise ConfigurationError("a password does not belong into a URL; send a header instead")
    resource = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    if not resource.isascii() or not parts.hostname.isascii() or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ConfigurationError(f"{url!r} holds characters that must be escaped")
    return WebSocketLocation(secure, parts.hostname, port or (443 if secure else 80), resource)


def checkHeaders(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """
    @raise UsageError: a name is no token, or a value would end its line.
    """
    checked = list(headers)
    for name, value in checked:
        if not TOKEN.fullmatch(name):
            raise UsageError("no name of a header field", name=name)
        if UNPRINTABLE.search(value):
            raise UsageError("a header field's value holds what cannot be sent", name=name)
    return checked


def requestHead(
    location: WebSocketLocation, key: bytes, headers: list[tuple[str, str]], subprotocols: list[str]
) -> bytes:
    """
    The request for an upgrade.

    @param key: the C{Sec-WebSocket-Key}, 24 octets.
    @param headers: further fields; a C{Host} among them replaces ours.
    """
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key.decode("ascii")),
        ("Sec-WebSocket-Version", "13"),
        *headers,
    ]
    if subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if not any(name.lower() == "host" for name, _ in headers):
        fields.insert(0, ("Host", location.authority))
    lines = [f"GET {location.resource} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def responseStatus(data: bytes) -> int | None:
    """
    The status of an answer, once its whole head has come.

    @raise UpgradeFailed: it is not HTTP, or its head does not end in time.
    """
    if not data.startswith(b"HTTP/1."[: len(data)]):
        raise UpgradeFailed("the peer does not speak HTTP/1", began=data[:32])
    end = data.find(HEAD_END, 0, HEAD_LIMIT)
    if end < 0:
        if len(data) >= HEAD_LIMIT:
            raise UpgradeFailed("the head of the answer is too long", limit=HEAD_LIMIT)
        return None
    match = STATUS.match(data)
    if match is None:
        raise UpgradeFailed("the peer's status line cannot be read", began=data[:32])
    return int(match[1])


class RefusalResponse:
    """
    An answer other than 101, while its body comes in.
    """

    def __init__(self, data: bytes) -> None:
        """
        @param data: what has come so far; the head is whole.
        """
        self._start = data.index(HEAD_END) + len(HEAD_END)
        status, *lines = data[: self._start - len(HEAD_END)].decode("latin-1").split("\r\n")
        _, code, *reason = status.split(" ", 2)
        self._status = int(code)
        self._reason = reason[0] if reason else ""
        pairs = (line.partition(":") for line in lines)
        self._headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self._chunked = self._headers.get("transfer-encoding", "").lower().endswith("chunked")
        length = self._headers.get("content-length", "")
        self._length = min(int(length), BODY_LIMIT) if length.isdecimal() and len(length) < 10 else BODY_LIMIT

    def complete(self, data: bytes) -> bool:
        """
        @return: whether all of the body that will be kept has come.
        """
        body = data[self._start :]
        if self._chunked:
            return len(body) >= BODY_LIMIT or body.endswith(b"0\r\n\r\n")
        return len(body) >= self._length

    def error(self, data: bytes) -> UpgradeRefused:
        """
        The exception, with what has come of the body.
        """
        body = data[self._start :]
        kept = unchunk(body) if self._chunked else body[: self._length]
        text = kept[:BODY_LIMIT].decode("utf-8", "replace")
        return UpgradeRefused(self._status, self._reason, self._headers, text)


def unchunk(data: bytes) -> bytes:
    """
    The octets of a body in chunks, as far as they have come; what does not parse ends it.
    """
    pieces: list[bytes] = []
    while True:
        line, found, data = data.partition(b"\r\n")
        size = line.partition(b";")[0].strip()
        if not found or not re.fullmatch(rb"[0-9A-Fa-f]{1,7}", size) or int(size, 16) == 0:
            return b"".join(pieces)
        length = int(size, 16)
        pieces.append(data[:length])
        data = data[length + 2 :]


def encodeRefusal(code: int, reason: str, headers: list[tuple[str, str]]) -> bytes:
    """
    An answer that refuses an upgrade; what is said to the peer stands in the body alone.
    """
    body = (reason + "\n").encode("utf-8", "replace")
    fields = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
        *headers,
    ]
    if code == HTTPStatus.UPGRADE_REQUIRED:
        fields += [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    lines = [f"HTTP/1.1 {int(code)} {HTTPStatus(code).phrase}", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
