"""
The resources of the inspector: the page, and the API that it uses.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qs

from twisted.internet.interfaces import IReactorTime

from tunnelstack.agent.inspector.access import Access
from tunnelstack.agent.inspector.content import contentOf
from tunnelstack.agent.inspector.curl import curlCommand
from tunnelstack.agent.inspector.har import harPieces
from tunnelstack.agent.inspector.recorded_request import RecordedBody, RecordedRequest
from tunnelstack.agent.inspector.recorder import RequestRecorder
from tunnelstack.agent.inspector.replay import CannotReplay, Replayer, readEdited
from tunnelstack.agent.inspector.report import detailOf, summaryOf
from tunnelstack.agent.inspector.request_events import RequestEvents
from tunnelstack.exchange.piecewise_response import PiecewiseResponse
from tunnelstack.exchange.whole_message import JSON, WholeRequest, WholeResponse
from tunnelstack.pages.event_stream import EventStream, EventStreams
from tunnelstack.pages.json_octets import JSONValue, asOctets
from tunnelstack.pages.resources import FIELDS, PAGE_FIELDS, PageFiles, Refusal, refusal
from tunnelstack.wire.http1.head import Fields
from tunnelstack.wire.http1.redaction import text_of

STATIC = Path(__file__).resolve().parent / "static"

BODY_POLICY = b"sandbox; default-src 'none'; frame-ancestors 'none'"
"""For octets of other sites."""

BODY_FIELDS: tuple[tuple[bytes, bytes], ...] = ((b"Content-Security-Policy", BODY_POLICY), *FIELDS)

Response = WholeResponse | PiecewiseResponse | EventStream


class InspectorResources:
    """
    Answers the requests for the inspector that are allowed.
    """

    def __init__(
        self, clock: IReactorTime, recorder: RequestRecorder, replayer: Replayer, access: Access, reveal: bool, version: str
    ) -> None:
        """
        @param reveal: show credentials.
        @param version: of this program.
        """
        self._clock = clock
        self._recorder = recorder
        self._replayer = replayer
        self._access = access
        self._reveal = reveal
        self._version = version
        self._files = PageFiles(STATIC)
        self._streams = EventStreams(clock)

    def stop(self) -> None:
        """
        End all streams.
        """
        self._streams.end()

    def respond(self, request: WholeRequest) -> Response:
        """
        Answer a request.
        """
        try:
            return self._respond(request)
        except Refusal as refused:
            return refusal(refused.status, str(refused))

    def _respond(self, request: WholeRequest) -> Response:
        path, method = request.path, request.head.method
        if path == b"/api/requests":
            if method == b"DELETE":
                self._recorder.forgetEnded()
                return self._json({})
            return self._list(method)
        if path.startswith(b"/api/requests/"):
            return self._request(request, path.split(b"/")[3:])
        _read(method)
        if path == b"/api/har":
            return self._har(request.head.target)
        if path == b"/api/events":
            return self._events()
        return self._file(request)

    # the page

    def _file(self, request: WholeRequest) -> WholeResponse:
        token = self._access.token
        if token is not None and token.inQuery(request.head):
            return WholeResponse(303, b"", fields=((b"Location", b"/"), (b"Set-Cookie", token.cookie()), *PAGE_FIELDS))
        found = self._files.find(request.path)
        if found is None:
            raise Refusal(404, "there is no such resource")
        return found

    # the API

    def _json(self, value: JSONValue) -> WholeResponse:
        return WholeResponse(200, asOctets(value) + b"\n", JSON, PAGE_FIELDS)

    def _list(self, method: bytes) -> WholeResponse:
        _read(method)
        recorder = self._recorder
        return self._json({
            "requests": [summaryOf(each) for each in recorder.newestFirst()], "forgotten": recorder.forgotten,
            "redacted": not self._reveal,
        })  # fmt: skip

    def _find(self, number: bytes) -> RecordedRequest:
        found = self._recorder.requests.get(int(number)) if number.isdigit() and len(number) < 19 else None
        if found is None:
            raise Refusal(404, "there is no request of this number, or it is not kept any more")
        return found

    def _request(self, request: WholeRequest, parts: list[bytes]) -> Response:
        found = self._find(parts[0])
        what = parts[1:]
        if what == [b"replay"]:
            return self._replay(request, found)
        _read(request.head.method)
        if not what:
            return self._json(detailOf(found, self._reveal))
        if what == [b"curl"]:
            text = curlCommand(found, self._reveal).encode("utf-8", "replace")
            return WholeResponse(200, text, fields=PAGE_FIELDS)
        if what == [b"request"]:
            return self._body(found, "request", found.head.fields, found.requestBody)
        if what == [b"response"]:
            fields = [] if found.response is None else found.response.fields
            return self._body(found, "response", fields, found.responseBody)
        raise Refusal(404, "there is no such resource")

    def _body(self, found: RecordedRequest, which: str, fields: Fields, body: RecordedBody) -> WholeResponse:
        content = contentOf(fields, body)
        isImage = which == "response" and re.fullmatch(r"image/[a-z0-9.+-]+", content.type) is not None
        kind = content.type.encode() if isImage else b"application/octet-stream"
        place = b"inline" if isImage else b'attachment; filename="%s-%d.bin"' % (which.encode(), found.id)
        return WholeResponse(200, content.octets, kind, ((b"Content-Disposition", place), *BODY_FIELDS))

    def _replay(self, request: WholeRequest, found: RecordedRequest) -> WholeResponse:
        if request.head.method != b"POST":
            raise Refusal(405, "use POST")
        try:
            edited = readEdited(json.loads(request.body or b"{}"), found)
        except (ValueError, RecursionError):
            raise Refusal(400, "the body is not JSON") from None
        except CannotReplay as wrong:
            raise Refusal(400, str(wrong)) from None
        try:
            return self._json({"id": self._replayer.replay(found, edited).id})
        except CannotReplay as wrong:
            raise Refusal(409, str(wrong)) from None

    def _har(self, target: bytes) -> PiecewiseResponse:
        wanted = parse_qs(text_of(target.partition(b"?")[2])).get("id", [])
        requests = [self._find(each.encode()) for each in wanted] if wanted else [*self._recorder.requests.values()]
        fields = ((b"Content-Disposition", b'attachment; filename="requests.har"'), *PAGE_FIELDS)
        return PiecewiseResponse(
            harPieces(requests, self._reveal, self._version), JSON, self._clock, fields=fields
        )

    def _events(self) -> EventStream:
        recorder, events = self._recorder, RequestEvents()

        def changed(request: RecordedRequest) -> None:
            events.changed(request)
            stream.wake()

        def forgotten() -> None:
            events.reset()
            stream.wake()

        def closed() -> None:
            recorder.onChange.remove(changed)
            recorder.onForget.remove(forgotten)

        stream = self._streams.open(events, closed)
        recorder.onChange.append(changed)
        recorder.onForget.append(forgotten)
        return stream


def _read(method: bytes) -> None:
    """
    @raise Refusal: the method is not one for reading.
    """
    if method not in (b"GET", b"HEAD"):
        raise Refusal(405, "use GET")
