"""
Requests as JSON, for the page and for programs.
"""

from __future__ import annotations

from base64 import b64encode

from tunnelstack.agent.inspector.content import contentOf, mediaType
from tunnelstack.agent.inspector.recorded_request import RecordedBody, RecordedMessage, RecordedRequest
from tunnelstack.pages.json_octets import JSONObject, JSONValue
from tunnelstack.wire.http1.head import Fields, ResponseHead, first
from tunnelstack.wire.http1.redaction import NONE, STANDARD, shown_fields, text_of


def summaryOf(request: RecordedRequest) -> JSONObject:
    """
    @return: a request in the list.
    """
    head, response, times = request.head, request.response, request.times
    visitor = text_of(head.field(b"x-forwarded-for") or b"").partition(",")[0].strip()
    return {
        "id": request.id, "began": round(request.began, 6), "method": text_of(head.method), "target": text_of(head.target),
        "host": text_of(head.field(b"host") or b""), "service": request.service,
        "trace": text_of(head.field(b"x-request-id") or b""), "visitor": visitor, "status": request.status,
        "state": request.state, "kind": request.kind, "type": "" if response is None else mediaType(response.fields)[0],
        "sent": request.responseBody.octets, "received": request.requestBody.octets,
        "seconds": None if request.seconds is None else round(request.seconds, 6),
        "first": round(times.first, 6) if times.first >= 0 else None, "replayOf": request.replayOf,
    }  # fmt: skip


def stepsOf(request: RecordedRequest) -> list[JSONValue]:
    """
    @return: the steps that were done, in their order, with the seconds since the head of the request.
    """
    times = request.times
    steps = (
        ("origin connect", times.opened), ("request read", times.whole), ("first octet", times.first),
        ("end", -1.0 if request.seconds is None else request.seconds),
    )
    return [[name, round(seconds, 6)] for name, seconds in steps if seconds >= 0]


def detailOf(request: RecordedRequest, reveal: bool) -> JSONObject:
    """
    @param reveal: show credentials.
    @return: all that is kept of a request.
    """
    head, response = request.head, request.response
    line = f"{text_of(head.method)} {text_of(head.target)} HTTP/{head.version[0]}.{head.version[1]}"
    return {
        **summaryOf(request), "failure": request.failure, "steps": stepsOf(request),
        "request": _message(line, head.fields, request.requestBody, reveal),
        "response": None if response is None else _message(
            statusLine(response), response.fields, request.responseBody, reveal
        ),
        "messages": [messageOf(each) for each in request.messages], "messagesForgotten": request.messagesForgotten,
    }  # fmt: skip


def statusLine(head: ResponseHead) -> str:
    """
    @return: the first line of a response.
    """
    return f"HTTP/{head.version[0]}.{head.version[1]} {head.status} {text_of(head.reason)}".rstrip()


def _message(line: str, fields: Fields, body: RecordedBody, reveal: bool) -> JSONObject:
    content = contentOf(fields, body)
    shown = shown_fields(fields, NONE if reveal else STANDARD)
    return {
        "line": line, "fields": [list(field) for field in shown], "octets": body.octets,
        "kept": len(body.kept), "text": content.text, "body64": content.body64, "type": content.type, "cut": body.cut,
        "why": "" if content.isShown else content.why, "coding": text_of(first(fields, b"content-encoding") or b""),
    }  # fmt: skip


def messageOf(message: RecordedMessage) -> JSONObject:
    """
    @return: a message of a connection.
    """
    text: str | None = None
    if message.kind == "close":
        code, reason = int.from_bytes(message.kept[:2], "big"), message.kept[2:].decode("utf-8", "replace")
        text = f"{code} {reason}".rstrip() if len(message.kept) > 1 else ""
    elif message.kind != "binary":
        text = message.kept.decode("utf-8", "replace")
    return {
        "from": message.sender, "at": round(message.at, 6), "kind": message.kind, "octets": message.octets, "text": text,
        "body64": b64encode(message.kept).decode() if text is None else None, "cut": message.cut,
    }  # fmt: skip
