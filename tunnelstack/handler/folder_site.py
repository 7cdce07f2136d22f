"""
The files of a folder as a web site: the responses to requests.

Source: RFC 9110, sections 9.3.1, 13.2 and 14.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from html import escape
from mimetypes import guess_type
from secrets import token_hex
from urllib.parse import quote_from_bytes, unquote_to_bytes

from attrs import frozen
from twisted.internet.interfaces import IPullProducer
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.handler.folder import Folder, OpenEntry
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.wire.http1.conditions import Validators, http_date, precondition, range_applies
from tunnelstack.wire.http1.head import Fields, RequestHead, ResponseHead, values
from tunnelstack.wire.http1.ranges import content_range, read_ranges
from tunnelstack.wire.http1.target import path_of, percent_encoded, split_absolute

INDEX = (b"index.html", b"index.htm")
"""Files that are sent for a folder; without one, its names are listed."""

PIECE = 64 * 1024
"""Octets that are read from a file at once."""

FRESH_SECONDS = 2.0
"""Seconds for which a file that has been modified may be modified again without a visible difference of its time."""

COMPRESSED = {
    "gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz", "br": "application/x-brotli",
    "compress": "application/x-compress",
}  # fmt: skip
"""Media types of compressed files.  They have no C{Content-Encoding}, which clients would undo."""

LISTING = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body {{ font: 1.1em/1.6 sans-serif; max-width: 44em; margin: 2em auto; padding: 0 1em }}</style></head>
<body>
<h1>{title}</h1>
<ul>
{items}</ul>
</body>
</html>
"""

Refuse = Callable[[IServerExchange, int, str, Fields], object]
"""Answers an exchange with an error page, from a status, a sentence (C{""} for the usual one) and further fields."""


@frozen
class FileBody:
    """
    The body of a response: octets, and ranges of a file.
    """

    parts: tuple[bytes | range, ...]

    @property
    def length(self) -> int:
        """
        In octets.
        """
        return sum(map(len, self.parts))


@implementer(IExchangeServer)
class FolderSite:
    """
    Serves the files of a folder.
    """

    log = Logger()

    def __init__(self, folder: Folder, now: Callable[[], float], refuse: Refuse) -> None:
        """
        @param now: gives seconds since 1970.
        @param refuse: makes error pages.
        """
        self._folder = folder
        self._now = now
        self._refuse = refuse

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        """
        Respond when the request has ended, which keeps the connection; at once to a request with a body, which is of no use.
        """
        trace = head.field(b"x-request-id")
        if trace is not None:
            exchange.trace = trace.decode("latin-1")
        request = _FileRequest(self, head, exchange)
        if exchange.framing.body:
            request.respond()
        return request

    def respond(self, head: RequestHead, exchange: IServerExchange) -> OpenEntry | None:
        """
        Respond to a request.

        @return: the file that the response is read from, as long as that is not finished.
        """
        if head.method not in (b"GET", b"HEAD"):
            self._refuse(exchange, 405, f"The method {head.method.decode()} is not possible here.", [(b"Allow", b"GET, HEAD")])
            return None
        try:
            return self._respond(head, exchange)
        except OSError as error:
            path, folder = percent_encoded(path_of(head.target)).decode(), self._folder.path
            self.log.error("cannot read {path} in {folder}: {reason}", path=path, folder=folder, reason=error.strerror)
            self._refuse(exchange, 503, "The file cannot be read at the moment.", [])
            return None

    def _respond(self, head: RequestHead, exchange: IServerExchange) -> OpenEntry | None:
        target = (split_absolute(head.target) or (b"", head.target))[1]
        path, mark, query = target.partition(b"?")
        names = [unquote_to_bytes(name) for name in path.split(b"/")]
        folderAsked = names[-1] == b""
        if not path.startswith(b"/"):
            entry = None
        else:
            entry = self._folder.open(names[1:-1] if folderAsked else names[1:])
        if entry is None or (folderAsked and not entry.isFolder):
            if entry is not None:
                entry.close()
            self._refuse(exchange, 404, "There is no such file here.", [])
            return None
        if not entry.isFolder:
            return self._sendFile(head, exchange, entry, names[-1])
        try:
            if folderAsked:
                return self._sendFolder(head, exchange, entry, names[1:-1])
        finally:
            entry.close()
        location = quote_from_bytes(names[-1], safe="").encode() + b"/" + mark + percent_encoded(query)
        fields: Fields = [(b"Location", location), (b"Content-Length", b"0")]
        exchange.respond(ResponseHead(301, b"Moved Permanently", [*self._date(), *fields]), b"")
        return None

    def _sendFolder(
        self, head: RequestHead, exchange: IServerExchange, folder: OpenEntry, names: list[bytes]
    ) -> OpenEntry | None:
        """
        Send the index of a folder, or the list of its names.
        """
        for name in INDEX:
            entry = folder.child(name)
            if entry is not None and not entry.isFolder:
                return self._sendFile(head, exchange, entry, name)
            if entry is not None:
                entry.close()
        page = listing(names, folder.names(top=not names))
        fields: Fields = [(b"Content-Type", b"text/html; charset=utf-8"), (b"Content-Length", b"%d" % len(page))]
        exchange.respond(ResponseHead(200, b"OK", [*self._date(), *fields]), page)
        return None

    def _sendFile(self, head: RequestHead, exchange: IServerExchange, file: OpenEntry, name: bytes) -> OpenEntry | None:
        validators = self._validators(file.stat)
        shared: Fields = [
            *self._date(), (b"ETag", validators.entity_tag), (b"Last-Modified", http_date(validators.modified)),
            (b"Accept-Ranges", b"bytes"),
        ]
        status = precondition(head, validators)
        if status:
            file.close()
            if status == 412:
                self._refuse(exchange, 412, "The file is not the one that the request is for.", [])
            else:
                exchange.respond(ResponseHead(304, b"Not Modified", shared), b"")
            return None
        ranges = self._ranges(head, validators, file.stat.st_size)
        if ranges is not None and not ranges:
            file.close()
            self._refuse(
                exchange, 416, "The file has no such range.", [(b"Content-Range", content_range(None, file.stat.st_size))]
            )
            return None
        try:
            self._send(exchange, file, shared, mediaType(name), ranges, head.method == b"HEAD")
        except OSError:
            file.close()
            raise
        return file if file.descriptor >= 0 else None

    def _ranges(self, head: RequestHead, validators: Validators, length: int) -> list[range] | None:
        """
        @return: as from L{read_ranges}; C{None} if the request is for the whole file.
        """
        asked = values(head.fields, b"range")
        if head.method != b"GET" or not asked or not range_applies(head, validators):
            return None
        return read_ranges(b", ".join(asked), length)

    def _send(
        self, exchange: IServerExchange, file: OpenEntry, shared: Fields, kind: bytes, ranges: list[range] | None,
        headOnly: bool,
    ) -> None:
        """
        Send the whole file, or ranges of it.
        """
        length = file.stat.st_size
        if ranges is None:
            body, status, reason = FileBody((range(length),)), 200, b"OK"
            fields: Fields = [*shared, (b"Content-Type", kind)]
        elif len(ranges) == 1:
            body, status, reason = FileBody((ranges[0],)), 206, b"Partial Content"
            fields = [*shared, (b"Content-Type", kind), (b"Content-Range", content_range(ranges[0], length))]
        else:
            boundary = token_hex(16).encode()
            body, status, reason = multipart(ranges, length, kind, boundary), 206, b"Partial Content"
            fields = [*shared, (b"Content-Type", b"multipart/byteranges; boundary=" + boundary)]
        response = ResponseHead(status, reason, [*fields, (b"Content-Length", b"%d" % body.length)])
        if headOnly or body.length <= PIECE:
            octets = b"" if headOnly else b"".join(_read(file, part) for part in body.parts)
            file.close()
            exchange.respond(response, octets)
            return
        exchange.sendHead(response)
        exchange.registerProducer(_BodyProducer(exchange, file, body), False)

    def _validators(self, status: os.stat_result) -> Validators:
        """
        The entity tag is made of size and time of modification.  It is weak as long as the file could be modified again without
        a difference in them.
        """
        now = self._now()
        tag = b'"%x-%x"' % (status.st_mtime_ns & 2**64 - 1, status.st_size)
        return Validators(tag, int(min(status.st_mtime, now) // 1), now - status.st_mtime >= FRESH_SECONDS)

    def _date(self) -> Fields:
        return [(b"Date", http_date(int(self._now())))]


def mediaType(name: bytes) -> bytes:
    """
    @return: the media type of a file, from its name.
    """
    kind, encoding = guess_type(os.fsdecode(name), strict=False)
    if encoding is not None:
        kind = COMPRESSED.get(encoding)
    return (kind or "application/octet-stream").encode("ascii", "replace")


def listing(path: Iterable[bytes], names: Iterable[bytes]) -> bytes:
    """
    @param path: the names of the folders on the way.
    @param names: in the folder; those of folders end with a slash.
    @return: a page that links to them.
    """
    title = "/" + "".join(name.decode("utf-8", "replace") + "/" for name in path)
    items = "".join(
        f'<li><a href="{quote_from_bytes(name)}">{escape(name.decode("utf-8", "replace"))}</a></li>\n'
        for name in ((b"../", *names) if title != "/" else names)
    )
    return LISTING.format(title=escape(title), items=items).encode()


def multipart(ranges: list[range], length: int, kind: bytes, boundary: bytes) -> FileBody:
    """
    @param boundary: must not occur in the file.
    @return: a C{multipart/byteranges} body (RFC 9110, section 14.6).
    """
    parts: list[bytes | range] = []
    for part in ranges:
        parts.append(
            b"\r\n--%b\r\nContent-Type: %b\r\nContent-Range: %b\r\n\r\n" % (boundary, kind, content_range(part, length))
        )
        parts.append(part)
    return FileBody((*parts, b"\r\n--%b--\r\n" % boundary))


def _read(file: OpenEntry, part: bytes | range) -> bytes:
    """
    @return: the octets of a part, fewer if the file has become shorter.
    """
    if isinstance(part, bytes):
        return part
    octets = b""
    while len(octets) < len(part) and (piece := os.pread(file.descriptor, len(part) - len(octets), part.start + len(octets))):
        octets += piece
    return octets


@implementer(IPullProducer)
class _BodyProducer:
    """
    Writes a body from a file, one piece each time the client has read the last one.
    """

    log = Logger()

    def __init__(self, exchange: IServerExchange, file: OpenEntry, body: FileBody) -> None:
        self._exchange = exchange
        self._file = file
        self._parts = list(reversed(body.parts))

    def resumeProducing(self) -> None:
        """
        Write one piece; end the response after the last, or break it if the file has become shorter.
        """
        part = self._parts.pop()
        piece, rest = part[:PIECE], part[PIECE:]
        if rest:
            self._parts.append(rest)
        try:
            octets = _read(self._file, piece)
        except OSError as error:
            self.log.error("cannot read a file any more: {reason}", reason=error.strerror)
            octets = b""
        self._exchange.write(octets)
        if not self._parts or len(octets) < len(piece):
            self._file.close()
            self._exchange.end()

    def stopProducing(self) -> None:
        """
        The client has closed the connection.
        """
        self._file.close()


@implementer(IExchangeReceiver)
class _FileRequest:
    """
    One request.
    """

    def __init__(self, site: FolderSite, head: RequestHead, exchange: IServerExchange) -> None:
        self._site = site
        self._head = head
        self._exchange = exchange
        self._responded = False
        self._file: OpenEntry | None = None

    def respond(self) -> None:
        self._responded = True
        self._file = self._site.respond(self._head, self._exchange)

    def headReceived(self, head: object) -> None:
        """
        Only responses are received with their head.
        """

    informational = headReceived

    def bodyReceived(self, octets: bytes) -> None:
        """
        The body of a request is dropped.
        """

    def ended(self, trailers: object) -> None:
        if not self._responded:
            self.respond()

    def failed(self, reason: object) -> None:
        """
        The client does not wait any more.
        """
        if self._file is not None:
            self._file.close()
