"""
What else the HTTP of a ShellHub server answers: requests to close an SSH session, and health checks.

Source: shellhub C{ssh/http/handlers.go}, C{HandleSSHClose} and C{HandleHealthcheck}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tunnelstack.dialect.shellhub.connections import DeviceConnections
from tunnelstack.dialect.shellhub.http_server import RequestRefused, Response, Route, messageResponse
from tunnelstack.errors import PeerError
from tunnelstack.exchange.whole_message import WholeRequest, WholeResponse
from tunnelstack.transport.error_text import errorText
from tunnelstack.wire.records.shellhub_bootstrap import HEALTH, SESSIONS, decode_close_untrusted

NOT_FOUND = "session not found"


class SessionRoutes:
    """
    Closes sessions at the request of their device, and answers health checks.

    C{POST /api/sessions/UID/close} and C{DELETE /api/sessions/UID} need the token of the device, which may close its own
    sessions only.  Operators use the administration interface.
    """

    def __init__(self, connections: DeviceConnections) -> None:
        self._connections = connections

    def routes(self) -> list[Route]:
        """
        @return: the routes.
        """
        return [
            Route(HEALTH, {b"GET": self._health, b"HEAD": self._health}),
            Route(SESSIONS, {b"POST": self._closeByPost, b"DELETE": self._closeByDelete}, prefix=True),
        ]

    def _health(self, request: WholeRequest) -> WholeResponse:
        if self._connections.edge.stopping:
            return messageResponse(503, "this edge is about to stop")
        return WholeResponse(200, b"OK", b"text/plain; charset=UTF-8")

    def _closeByPost(self, request: WholeRequest) -> Response:
        match _segments(request):
            case [uid, "close"] if uid:
                return self._close(uid, request)
        return messageResponse(404, NOT_FOUND)

    def _closeByDelete(self, request: WholeRequest) -> Response:
        match _segments(request):
            case [uid] if uid:
                return self._close(uid, request)
        return messageResponse(404, NOT_FOUND)

    def _close(self, uid: str, request: WholeRequest) -> Response:
        try:
            device = self._connections.bootstrap.authenticateDevice(request.exchange)
            named = decode_close_untrusted(request.body)
        except RequestRefused as refused:
            return refused.response
        except PeerError:
            return messageResponse(400, "the request is invalid")
        if named and named != device.uid:
            return messageResponse(403, "the session is not one of this device")
        tunnel = self._connections.find(device.tenant, device.uid)
        if tunnel is None or uid not in tunnel.sshSessions:
            return messageResponse(404, NOT_FOUND)
        closed: Deferred[WholeResponse] = tunnel.closeSession(uid).addCallbacks(_closed, self._failed)
        return closed

    def _failed(self, failure: Failure) -> WholeResponse:
        self._connections.log.warn("a session could not be closed: {reason}", reason=errorText(failure))
        return messageResponse(502, "the device could not be reached")


def _closed(result: None) -> WholeResponse:
    return WholeResponse(200)


def _segments(request: WholeRequest) -> list[str]:
    """
    @return: the segments of the path below L{SESSIONS}.
    """
    return request.path.decode("latin-1")[len(SESSIONS) + 1:].split("/")
