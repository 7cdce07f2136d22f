"""
The messages of an upgraded connection, and the events of a stream of events, as they pass.
"""

from __future__ import annotations

from tunnelstack.agent.inspector.recorded_request import SERVER, VISITOR, RecordedMessage, RecordedRequest
from tunnelstack.agent.inspector.recorder import RequestRecorder
from tunnelstack.errors import PeerError
from tunnelstack.wire.http1.head import ResponseHead
from tunnelstack.wire.server_sent_events import EventStreamReader
from tunnelstack.wire.websocket_messages import WebSocketMessageReader, deflate_parameters


class WebSocketLog:
    """
    Records the messages of both directions of a WebSocket connection.
    """

    def __init__(self, recorder: RequestRecorder, request: RecordedRequest, head: ResponseHead) -> None:
        """
        @param head: of the response that changed the protocol.
        """
        self._recorder = recorder
        self._request = request
        deflate = deflate_parameters(head.field(b"sec-websocket-extensions") or b"")
        keep = recorder.keep
        self._readers: dict[str, WebSocketMessageReader] = {
            VISITOR: WebSocketMessageReader(keep, None if deflate is None else deflate.client_takeover),
            SERVER: WebSocketMessageReader(keep, None if deflate is None else deflate.server_takeover),
        }

    def receive(self, sender: str, octets: bytes) -> None:
        """
        Octets of one direction.  Once they cannot be read, only their number is recorded.
        """
        reader = self._readers.get(sender)
        if reader is None or self._request.forgotten:
            return
        try:
            messages = reader.receive_data(octets)
        except PeerError:
            del self._readers[sender]
            return
        for message in messages:
            self._recorder.messageReceived(self._request, RecordedMessage(
                sender, self._request.times.elapsed, message.kind, message.octets, message.kept, message.cut,
            ))  # fmt: skip


class EventLog:
    """
    Records the events of a response.
    """

    def __init__(self, recorder: RequestRecorder, request: RecordedRequest) -> None:
        self._recorder = recorder
        self._request = request
        self._reader = EventStreamReader(recorder.keep)

    def receive(self, sender: str, octets: bytes) -> None:
        """
        Octets of the body.
        """
        if self._request.forgotten:
            return
        for event in self._reader.receive_data(octets):
            self._recorder.messageReceived(self._request, RecordedMessage(
                sender, self._request.times.elapsed, "text", event.octets, event.kept, event.cut,
            ))  # fmt: skip
