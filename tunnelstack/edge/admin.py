"""
The administration interface of an edge: HTTP with JSON, for operators and their programs.

The Unix socket in the state folder, which only the edge's own user can open, may read and change.  The address that C{[admin]}
of the configuration names is read-only, because it has no authentication.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.control.config.records import AdminConfig
from tunnelstack.edge.listeners import endpointOf
from tunnelstack.edge.running_edge import RunningEdge
from tunnelstack.edge.status import agentsOf, outboundAgentsOf, routesOf, statusOf, streamsOf
from tunnelstack.errors import Denied, TunnelError
from tunnelstack.exchange.bounded_factory import BoundedHTTPFactory
from tunnelstack.exchange.piecewise_response import PiecewiseResponse
from tunnelstack.exchange.whole_message import JSON, WholeMessageServer, WholeRequest, WholeResponse
from tunnelstack.interfaces import IReactor
from tunnelstack.settings.state_dir import ADMIN_SOCKET, socketPath
from tunnelstack.waiters import Waiters

MAX_CONNECTIONS = 64
"""Connections of one listener at the same time."""

MAX_BODY_OCTETS = 4096
"""Octets of a request's body; no command needs more."""

RETRY_SECONDS = 2.0
"""Seconds until an edge tries again to listen on the socket that another edge holds."""

DENIED = {"unknown": 404, "malformed": 400}
"""HTTP status for the code of a L{Denied}; 409 for the others."""

Answer = tuple[int, object] | PiecewiseResponse
"""HTTP status, and the value that is encoded as JSON; or a response of another kind."""

NO_METRICS = "this edge has no metrics: set enabled = true in [metrics], and restart it"

JSONObject = Mapping[str, Any]

PostHandler = Callable[[JSONObject], object]
"""Answers a POST request: gives a value that is encoded as JSON, or a C{Deferred} of one."""


class AdminError(TunnelError):
    """
    A request is answered with an error.

    @ivar status: the HTTP status.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def adminEndpoint(reactor: IReactor, config: AdminConfig) -> IStreamServerEndpoint | None:
    """
    @return: where the read-only interface listens; C{None} if it is not configured.
    @raise ConfigurationError: the endpoint string is invalid.
    """
    return endpointOf(reactor, config.listen, "[admin] listen: ") if config.listen else None


class AdminService(Service):
    """
    The administration interface of one edge.

    @ivar stop: called to drain and stop the edge; set by the owner of the process.
    @ivar reload: called to read the configuration again; set by the owner of the process.  Returns the sentences of
        L{EdgeService.reload<tunnelstack.edge.service.EdgeService.reload>}, or a C{Deferred} of them.
    @ivar getHandlers: functions without arguments that answer GET requests, by path.
    @ivar postHandlers: functions of a decoded JSON object that answer POST requests, by path.
    """

    log = Logger()

    def __init__(self, edge: RunningEdge) -> None:
        self._edge = edge
        self._listening: list[IListeningPort] = []     # the socket of the state folder
        self._public: list[IListeningPort] = []
        self._folder = -1
        self._retry: IDelayedCall | None = None
        self._owned: Waiters[None] = Waiters()
        self.stop: Callable[[], object] | None = None
        self.reload: Callable[[], Iterable[str] | Deferred[Iterable[str]]] | None = None
        self.getHandlers: Mapping[bytes, Callable[[], Answer]] = {
            b"/health": lambda: (200, {"healthy": True}),
            b"/ready": self._ready,
            b"/status": lambda: (200, statusOf(edge)),
            b"/agents": lambda: (200, {"agents": agentsOf(edge), "outbound": outboundAgentsOf(edge)}),
            b"/routes": lambda: (200, {"routes": routesOf(edge)}),
            b"/streams": lambda: (200, {"streams": streamsOf(edge)}),
            b"/metrics": self._metrics,
            **{path: _ok(read) for path, read in edge.dialects.getHandlers.items()},
        }
        self.postHandlers: Mapping[bytes, PostHandler] = {
            b"/tokens/reload": self._reloadTokens,
            b"/tokens/revoke": self._revoke,
            b"/reload": self._reload,
            b"/drain": self._drain,
            **edge.dialects.postHandlers,
        }

    # Listening

    @property
    def addresses(self) -> list[IAddress]:
        """
        The addresses of the read-only listeners.
        """
        return [port.getHost() for port in self._public]

    @inlineCallbacks
    def listen(self) -> Generator[Deferred[IListeningPort], IListeningPort, None]:
        """
        Listen on the configured address and on the socket in the state folder.

        @return: a C{Deferred}; it fails with L{ConfigurationError} if the configured endpoint is invalid.
        """
        endpoint = adminEndpoint(self._edge.clock, self._edge.config.admin)
        if endpoint is not None:
            self._public.append((yield endpoint.listen(AdminFactory(self._edge.clock, self, writable=False))))
        if self._edge.config.stateDirectory:
            self._listenInFolder(Path(self._edge.config.stateDirectory))

    def _listenInFolder(self, folder: Path) -> None:
        """
        Listen on the socket for the edge's own user.  A failure is only logged, because a second edge with the same state
        folder may run without the socket.
        """
        where = str(folder / ADMIN_SOCKET)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path, self._folder = socketPath(folder / ADMIN_SOCKET)
            self._own(path)
        except OSError as error:
            self.log.warn("administration is not available at {socket}: {reason}", socket=where, reason=error.strerror)
        except CannotListenError as error:
            if isinstance(error.socketError, OSError):
                reason = error.socketError.strerror
                self.log.warn("administration is not available at {socket}: {reason}", socket=where, reason=reason)
                return
            self.log.warn(
                "another edge holds {socket}: until it ends, tunnelstack status and the other commands reach that one",
                socket=where,
            )
            self._retry = self._edge.clock.callLater(RETRY_SECONDS, self._ownLater, path)

    def _own(self, path: str) -> None:
        """
        Listen on the socket.

        @raise CannotListenError: another edge holds it, or it cannot be made.
        """
        factory = AdminFactory(self._edge.clock, self, writable=True)
        self._listening.append(self._edge.clock.listenUNIX(path, factory, mode=0o600, wantPID=True))
        self._owned.fire(None)

    def _ownLater(self, path: str) -> None:
        """
        Listen on the socket if the edge that held it has ended.
        """
        self._retry = None
        try:
            self._own(path)
        except CannotListenError:
            self._retry = self._edge.clock.callLater(RETRY_SECONDS, self._ownLater, path)

    def whenOwned(self) -> Deferred[None]:
        """
        Call this before the edge is started.

        @return: fires once this edge listens on the socket in the state folder, which only one edge at a time can do.
        """
        return self._owned.wait()

    @inlineCallbacks
    def stopService(self) -> Generator[Any, Any, None]:
        yield super().stopService()
        retry, self._retry = self._retry, None
        if retry is not None:
            retry.cancel()
        listening = [*self._listening, *self._public]
        self._listening, self._public = [], []
        yield DeferredList([maybeDeferred(port.stopListening) for port in listening], consumeErrors=True)
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    # Reading

    def _ready(self) -> Answer:
        state = self._edge.state
        return 200 if state == "ready" else 503, {"ready": state == "ready", "state": state}

    def _metrics(self) -> Answer:
        if self._edge.metrics is None:
            raise AdminError(404, NO_METRICS)
        return self._edge.metrics.response()

    # Changing

    def _reloadTokens(self, arguments: JSONObject) -> object:
        if self._edge.credentials is None:
            raise AdminError(409, "this edge authenticates agents by other means than tokens")
        self._edge.credentials.reload()
        return {"reloaded": True}

    def _revoke(self, arguments: JSONObject) -> object:
        which, keys = arguments.get("token"), self._edge.credentials
        if not (isinstance(which, str) and which):
            raise AdminError(400, 'the token is missing: send {"token": "ID or NAME"}')
        if keys is None or keys.store is None:
            raise AdminError(409, "this edge has no token store")
        revoked = keys.store.revoke(which)
        if not revoked:
            raise AdminError(
                404, f"the token store has no token {which}; remove tokens of the configuration file from the file"
            )
        keys.reload()
        return {"revoked": [{"id": record.id, "name": record.name} for record in revoked]}

    def _reload(self, arguments: JSONObject) -> object:
        if self.reload is None:
            raise AdminError(409, "this edge has no configuration to reload")
        return maybeDeferred(self.reload).addCallback(lambda sentences: {"changed": list(sentences)})

    def _drain(self, arguments: JSONObject) -> object:
        if self.stop is None:
            raise AdminError(409, "this edge cannot be stopped by a request")
        self._edge.clock.callLater(0, self.stop)       # after the response was written
        return {"draining": True, "seconds": self._edge.config.drainSeconds}


class AdminFactory(BoundedHTTPFactory):
    """
    Builds the connections of one listener, at most L{MAX_CONNECTIONS} at the same time.
    """

    def __init__(self, clock: IReactorTime, admin: AdminService, *, writable: bool) -> None:
        """
        @param writable: whether requests of this listener may change something.
        """
        server = WholeMessageServer(
            _Answers(admin, writable).respond, clock=clock, bodyOctets=MAX_BODY_OCTETS, refuse=_refusal
        )
        super().__init__(server, clock, MAX_CONNECTIONS)


class _Answers:
    """
    Answers the requests of one listener.
    """

    def __init__(self, admin: AdminService, writable: bool) -> None:
        self._admin = admin
        self._writable = writable

    def respond(self, request: WholeRequest) -> Deferred[WholeResponse | PiecewiseResponse]:
        """
        @return: the response to one request; the C{Deferred} never fails.
        """
        answer: Deferred[Answer] = maybeDeferred(self._find, request)
        return answer.addErrback(self._refused).addCallback(_response)

    def _find(self, request: WholeRequest) -> Any:
        path, method = request.path, request.head.method
        if method in (b"GET", b"HEAD"):
            read = self._admin.getHandlers.get(path)
            if read is not None:
                return read()
        elif method == b"POST" and self._writable:
            change = self._admin.postHandlers.get(path)
            if change is not None:
                return maybeDeferred(change, _decodeObject(request.body)).addCallback(lambda done: (200, done))
        if path in self._admin.getHandlers:
            raise AdminError(405, "use GET")
        if path in self._admin.postHandlers:
            raise AdminError(
                *(
                    (405, "use POST")
                    if self._writable
                    else (403, "this address is read-only; use the Unix socket")
                )
            )
        known = ", ".join(path.decode() for path in self._admin.getHandlers)
        raise AdminError(404, f"there is no such resource; the resources are {known}")

    def _refused(self, failure: Failure) -> Answer:
        error = failure.value
        if isinstance(error, AdminError):
            return error.status, {"error": str(error)}
        if isinstance(error, Denied):
            return DENIED.get(error.code, 409), {"error": error.sentence}
        if isinstance(error, TunnelError):
            return 409, {"error": str(error)}
        self._admin.log.failure("an administration request failed", failure=failure)
        return 500, {"error": "internal error; the cause is in the log of the edge"}


def _ok(read: Callable[[], object]) -> Callable[[], Answer]:
    return lambda: (200, read())


def _decodeObject(body: bytes) -> JSONObject:
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise AdminError(400, "the body is not a JSON object")
    return value


def _response(answer: Answer) -> WholeResponse | PiecewiseResponse:
    return answer if isinstance(answer, PiecewiseResponse) else _jsonResponse(*answer)


def _jsonResponse(status: int, value: object) -> WholeResponse:
    return WholeResponse(status, json.dumps(value).encode() + b"\n", JSON, ((b"Cache-Control", b"no-store"),))


def _refusal(status: int, sentence: str) -> WholeResponse:
    return _jsonResponse(status, {"error": sentence})
