"""
Requests as an HTTP Archive, which browsers and other tools import.

Source: HAR 1.2, http://www.softwareishard.com/blog/har-12-spec/.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from tunnelstack.agent.inspector.content import Content, contentOf
from tunnelstack.agent.inspector.recorded_request import SERVER, WEBSOCKET, RecordedRequest
from tunnelstack.pages.json_octets import JSONObject, JSONValue, asOctets
from tunnelstack.wire.http1.head import Fields
from tunnelstack.wire.http1.redaction import NONE, STANDARD, shown_fields, text_of

WEBSOCKET_OPCODES = {"text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}


def harPieces(requests: Iterable[RecordedRequest], reveal: bool, version: str) -> Iterator[bytes]:
    """
    @param requests: the oldest first.
    @param version: of this program.
    @return: the archive, a piece for each request.
    """
    creator = asOctets({"name": "tunnelstack", "version": version})
    yield b'{"log":{"version":"1.2","creator":' + creator + b',"pages":[],"entries":['
    between = b""
    for request in requests:
        yield between + asOctets(harEntry(request, reveal))
        between = b","
    yield b"]}}"


def harEntry(request: RecordedRequest, reveal: bool) -> JSONObject:
    """
    @return: the entry of one request.
    """
    entry: JSONObject = {
        "startedDateTime": datetime.fromtimestamp(request.began, UTC).isoformat(timespec="milliseconds"),
        "time": _milliseconds(request.seconds or 0.0), "request": _request(request, reveal),
        "response": _response(request, reveal), "cache": {}, "timings": _timings(request),
        "_service": request.service, "_id": request.id,
    }  # fmt: skip
    if request.failure:
        entry["comment"] = request.failure
    if request.kind == WEBSOCKET:
        entry["_webSocketMessages"] = [
            {
                "type": "receive" if message.sender == SERVER else "send", "time": request.began + message.at,
                "opcode": WEBSOCKET_OPCODES[message.kind],
                "data": message.kept.decode("utf-8", "replace") if message.kind == "text" else b64encode(message.kept).decode(),
            }
            for message in request.messages
        ]
    return entry


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _pairs(fields: Fields, reveal: bool) -> list[JSONValue]:
    return [{"name": name, "value": value} for name, value in shown_fields(fields, NONE if reveal else STANDARD)]


def _request(request: RecordedRequest, reveal: bool) -> JSONObject:
    head = request.head
    scheme = "https" if head.field(b"x-forwarded-proto") == b"https" else "http"
    target = text_of(head.target)
    url = target if "://" in target.partition("?")[0] else f"{scheme}://{text_of(head.field(b'host') or b'')}{target}"
    query = target.partition("?")[2]
    made: JSONObject = {
        "method": text_of(head.method), "url": url, "httpVersion": f"HTTP/{head.version[0]}.{head.version[1]}",
        "cookies": [], "headers": _pairs(head.fields, reveal), "headersSize": -1, "bodySize": request.requestBody.octets,
        "queryString": [{"name": name, "value": value} for name, value in parse_qsl(query, keep_blank_values=True)],
    }  # fmt: skip
    if request.requestBody.octets:
        content = contentOf(head.fields, request.requestBody)
        made["postData"] = {"mimeType": content.type, "params": [], **_text(content)}
    return made


def _response(request: RecordedRequest, reveal: bool) -> JSONObject:
    head = request.response
    if head is None:
        return {
            "status": 0, "statusText": "", "httpVersion": "HTTP/1.1", "cookies": [], "headers": [], "redirectURL": "",
            "content": {"size": 0, "mimeType": ""}, "headersSize": -1, "bodySize": -1,
        }  # fmt: skip
    content = contentOf(head.fields, request.responseBody)
    return {
        "status": head.status, "statusText": text_of(head.reason), "httpVersion": f"HTTP/{head.version[0]}.{head.version[1]}",
        "cookies": [], "headers": _pairs(head.fields, reveal), "headersSize": -1, "bodySize": request.responseBody.octets,
        "redirectURL": text_of(head.field(b"location") or b""),
        "content": {"size": request.responseBody.octets, "mimeType": content.type, **_text(content)},
    }  # fmt: skip


def _text(content: Content) -> JSONObject:
    comment: JSONObject = {"comment": content.why} if content.why else {}
    if content.text is not None:
        return {"text": content.text, **comment}
    return {"text": content.body64, "encoding": "base64", **comment}


def _timings(request: RecordedRequest) -> JSONObject:
    times, seconds = request.times, request.seconds or 0.0
    connect = max(0.0, times.opened)
    begin = max(connect, times.whole)
    first = times.first if times.first >= 0 else seconds
    return {
        "blocked": -1, "dns": -1, "ssl": -1, "connect": _milliseconds(connect) if times.opened >= 0 else -1,
        "send": _milliseconds(max(0.0, begin - connect)), "wait": _milliseconds(max(0.0, first - begin)),
        "receive": _milliseconds(max(0.0, seconds - first)),
    }  # fmt: skip
