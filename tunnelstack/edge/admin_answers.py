"""
The answers to requests for the administration of an edge.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.edge.admin_access import AdminAccess
from tunnelstack.edge.list_query import ListQuery, readQuery
from tunnelstack.edge.slices import SlicedWork, Steps
from tunnelstack.errors import Denied, TunnelError
from tunnelstack.exchange.bounded_factory import BoundedHTTPFactory
from tunnelstack.exchange.piecewise_response import PiecewiseResponse
from tunnelstack.exchange.whole_message import JSON, WholeMessageServer, WholeRequest, WholeResponse
from tunnelstack.pages.event_stream import EventStream
from tunnelstack.pages.resources import PAGE_FIELDS, AccessServer, PageFiles, Refusal
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.http1.head import RequestHead

MAX_CONNECTIONS = 64
"""Connections of one listener at the same time."""

MAX_BODY_OCTETS = 4096
"""Octets of a request's body; no command needs more."""

DENIED = {"unknown": 404, "malformed": 400}
"""HTTP status for the code of a L{Denied}; 409 for the others."""

Answer = tuple[int, object] | PiecewiseResponse
"""HTTP status, and the value that is encoded as JSON; or a response of another kind."""

Response = WholeResponse | PiecewiseResponse | EventStream

JSONObject = Mapping[str, Any]

PostHandler = Callable[[JSONObject], object]
"""Answers a POST request: gives a value that is encoded as JSON, or a C{Deferred} of one."""

ListHandler = Callable[[ListQuery], Steps[dict[str, Any]]]
"""Reads a part of a list."""


class AdminError(TunnelError):
    """
    A request is answered with an error.

    @ivar status: the HTTP status.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Administration(Protocol):
    """
    What can be asked for.

    @ivar getHandlers: functions without arguments that answer GET requests, by path.
    @ivar listHandlers: functions that answer GET requests for a part of a list, by path.
    @ivar postHandlers: functions of a decoded JSON object that answer POST requests, by path.
    @ivar files: the page.
    @ivar work: reads lists.
    """

    getHandlers: Mapping[bytes, Callable[[], Answer]]
    listHandlers: Mapping[bytes, ListHandler]
    postHandlers: Mapping[bytes, PostHandler]
    files: PageFiles
    work: SlicedWork

    def follow(self) -> EventStream:
        """
        @return: the stream of events for one more page.
        """


class AdminFactory(BoundedHTTPFactory):
    """
    Builds the connections of one listener, at most L{MAX_CONNECTIONS} at the same time.
    """

    def __init__(self, clock: IReactorTime, admin: Administration, access: AdminAccess) -> None:
        server = WholeMessageServer(
            _Answers(admin, access).respond, clock=clock, bodyOctets=MAX_BODY_OCTETS, refuse=_refusal
        )
        super().__init__(AccessServer(access.refusal, server), clock, MAX_CONNECTIONS)


class _Answers:
    """
    Answers the requests of one listener that are allowed.
    """

    log = Logger()

    def __init__(self, admin: Administration, access: AdminAccess) -> None:
        self._admin = admin
        self._access = access

    def respond(self, request: WholeRequest) -> Deferred[Response]:
        """
        @return: the response to one request; the C{Deferred} never fails.
        """
        answer: Deferred[Answer | Response] = maybeDeferred(self._find, request)
        return answer.addErrback(self._refused).addCallback(_response)

    def _find(self, request: WholeRequest) -> Any:
        found = self._read(request) if request.head.method in (b"GET", b"HEAD") else self._change(request)
        if found is not None:
            return found
        admin, path = self._admin, request.path
        if path in admin.getHandlers or path in admin.listHandlers:
            raise AdminError(405, "use GET")
        if path in admin.postHandlers:
            raise AdminError(405, "use POST")
        known = ", ".join(each.decode() for each in (*admin.getHandlers, *admin.listHandlers))
        raise AdminError(404, f"there is no such resource; the resources are {known}")

    # Reading

    def _read(self, request: WholeRequest) -> object:
        admin, path = self._admin, request.path
        read = admin.getHandlers.get(path)
        if read is not None:
            return read()
        readList = admin.listHandlers.get(path)
        if readList is not None:
            return admin.work.do(readList(readQuery(request.head.target))).addCallback(_ok)
        if path == b"/rights":
            return 200, {"change": self._access.mayChange(request.head), "token": self._access.token is not None}
        if path == b"/events":
            return admin.follow()
        return self._page(request.head) or admin.files.find(path)

    def _page(self, head: RequestHead) -> WholeResponse | None:
        """
        @return: the redirection of a browser that shows the token in the address of the page.
        """
        token = self._access.token
        if token is None or not token.inQuery(head):
            return None
        return WholeResponse(303, b"", fields=((b"Location", b"/"), (b"Set-Cookie", token.cookie()), *PAGE_FIELDS))

    # Changing

    def _change(self, request: WholeRequest) -> object:
        path, change = request.path, self._admin.postHandlers.get(request.path)
        if request.head.method != b"POST" or (change is None and path not in (b"/unlock", b"/lock")):
            return None
        refused = self._access.refusalToChange(request.head)
        if refused is not None:
            raise AdminError(*refused)
        if change is None:
            return self._lock(path == b"/lock")
        peer = addressText(request.exchange.peer)
        self.log.info("{path} is requested by {peer}", path=path.decode("latin-1"), peer=peer, status="admin")
        return maybeDeferred(change, _decodeObject(request.body)).addCallback(_ok)

    def _lock(self, lock: bool) -> WholeResponse:
        """
        Let a browser that has shown the token keep it as a cookie, or forget it.
        """
        token = self._access.token
        cookie = () if token is None else ((b"Set-Cookie", token.noCookie() if lock else token.cookie()),)
        return WholeResponse(200, b"{}\n", JSON, (*cookie, *PAGE_FIELDS))

    def _refused(self, failure: Failure) -> Answer:
        error = failure.value
        if isinstance(error, AdminError | Refusal):
            return error.status, {"error": str(error)}
        if isinstance(error, Denied):
            return DENIED.get(error.code, 409), {"error": error.sentence}
        if isinstance(error, TunnelError):
            return 409, {"error": str(error)}
        self.log.failure("an administration request failed", failure=failure)
        return 500, {"error": "internal error; the cause is in the log of the edge"}


def _ok(value: object) -> Answer:
    return 200, value


def _decodeObject(body: bytes) -> JSONObject:
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise AdminError(400, "the body is not a JSON object")
    return value


def _response(answer: Answer | Response) -> Response:
    return _jsonResponse(*answer) if isinstance(answer, tuple) else answer


def _jsonResponse(status: int, value: object) -> WholeResponse:
    return WholeResponse(status, json.dumps(value).encode() + b"\n", JSON, PAGE_FIELDS)


def _refusal(status: int, sentence: str) -> WholeResponse:
    return _jsonResponse(status, {"error": sentence})
