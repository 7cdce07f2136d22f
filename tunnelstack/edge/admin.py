"""
Where operators and their programs ask an edge what it is doing, and tell it to do something else: HTTP and JSON.

The edge's own user may do everything through a Unix socket in the state folder.  Wherever else the configuration lets it
listen, everybody may read and nobody may change anything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.edge.status import agentsOf, routesOf, statusOf, streamsOf
from tunnelstack.errors import ConfigurationError, Denied, TunnelError
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.exchange.whole_message import JSON, WholeMessageServer, WholeRequest, WholeResponse
from tunnelstack.settings.state_dir import ADMIN_SOCKET, socketPath

MAX_CONNECTIONS = 64
"""Connections at a time."""

MAX_BODY_OCTETS = 4096
"""Octets of a request's body; what is to be done is said in few words."""

DENIED = {"unknown": 404, "malformed": 400}
"""The status of a L{Denied} by its code, where it is not 409."""

Answer = tuple[int, Any]
"""A status, and what JSON is made of."""


class AdminError(TunnelError):
    """
    The answer is not 200.

    @ivar status: what it is.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class AdminService(Service):
    """
    The administration of one edge.

    @ivar stop: called when the edge is asked to drain and end; a process that can be stopped sets it.
    @ivar reload: called when it is asked to read its configuration again; returns sentences.
    """

    log = Logger()

    def __init__(self, edge: Any) -> None:
        """
        @param edge: the L{EdgeService<tunnelstack.edge.service.EdgeService>}.
        """
        self._edge = edge
        self._listening: list[Any] = []                # the socket of the state folder
        self._public: list[Any] = []
        self._folder = -1
        self.stop: Callable[[], object] | None = None
        self.reload: Callable[[], Any] | None = None
        self.getHandlers: Mapping[bytes, Callable[[], Answer]] = {
            b"/health": lambda: (200, {"healthy": True}),
            b"/ready": self._ready,
            b"/status": lambda: (200, statusOf(edge)),
            b"/agents": lambda: (200, {"agents": agentsOf(edge)}),
            b"/routes": lambda: (200, {"routes": routesOf(edge)}),
            b"/streams": lambda: (200, {"streams": streamsOf(edge)}),
            **{path: _ok(read) for path, read in edge.dialects.getHandlers.items()},
        }
        self.postHandlers: Mapping[bytes, Callable[[Mapping[str, Any]], Any]] = {
            b"/tokens/reload": self._reloadTokens,
            b"/tokens/revoke": self._revoke,
            b"/reload": self._reload,
            b"/drain": self._drain,
            **edge.dialects.postHandlers,
        }

    # Listening

    @property
    def addresses(self) -> list[Any]:
        """
        Where everybody may read.
        """
        return [port.getHost() for port in self._public]

    @inlineCallbacks
    def listen(self) -> Any:
        """
        Listen where the configuration says, and in the state folder.

        @return: a C{Deferred}; it fails with L{ConfigurationError} where the configuration cannot be followed.
        """
        text = self._edge.config.admin.listen
        if text:
            try:
                endpoint = serverFromString(self._edge.clock, text)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                raise ConfigurationError(f"[admin] listen: {text!r} is no endpoint to listen on: {error}") from None
            self._public.append((yield endpoint.listen(AdminFactory(self._edge.clock, self, writable=False))))
        if self._edge.config.stateDirectory:
            self._listenInFolder(Path(self._edge.config.stateDirectory))

    def _listenInFolder(self, folder: Path) -> None:
        """
        The socket for this user.  Another edge may have it, which is no reason not to start.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path, self._folder = socketPath(folder / ADMIN_SOCKET)
            factory = AdminFactory(self._edge.clock, self, writable=True)
            self._listening.append(self._edge.clock.listenUNIX(path, factory, mode=0o600, wantPID=True))
        except (OSError, CannotListenError) as error:
            self.log.warn(
                "nothing can be asked at {socket}, which another edge may have: {reason}", socket=str(folder / ADMIN_SOCKET),
                reason=str(error),
            )

    @inlineCallbacks
    def stopService(self) -> Any:
        """
        Listen no more.
        """
        yield super().stopService()
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

    # Changing

    def _reloadTokens(self, asked: Mapping[str, Any]) -> Any:
        if self._edge.credentials is None:
            raise AdminError(409, "this edge does not know its agents by tokens of ours")
        self._edge.credentials.reload()
        return {"reloaded": True}

    def _revoke(self, asked: Mapping[str, Any]) -> Any:
        which, keys = asked.get("token"), self._edge.credentials
        if not (isinstance(which, str) and which):
            raise AdminError(400, 'say which: {"token": "ID or NAME"}')
        if keys is None or keys.store is None:
            raise AdminError(409, "this edge keeps no tokens")
        gone = keys.store.revoke(which)
        if not gone:
            raise AdminError(404, f"no token {which} is kept here; those of the configuration file are taken out there")
        keys.reload()
        return {"revoked": [{"id": record.id, "name": record.name} for record in gone]}

    def _reload(self, asked: Mapping[str, Any]) -> Any:
        if self.reload is None:
            raise AdminError(409, "this edge has nothing to read again")
        return maybeDeferred(self.reload).addCallback(lambda sentences: {"changed": list(sentences)})

    def _drain(self, asked: Mapping[str, Any]) -> Any:
        if self.stop is None:
            raise AdminError(409, "this edge cannot be stopped from here")
        self._edge.clock.callLater(0, self.stop)       # behind the answer
        return {"draining": True, "seconds": self._edge.config.drainSeconds}


class AdminFactory(ServerFactory):
    """
    Builds the connections of one listener.
    """

    noisy = False

    def __init__(self, clock: Any, admin: AdminService, *, writable: bool) -> None:
        """
        @param writable: whether those who come here may change something.
        """
        self._clock = clock
        self._server = WholeMessageServer(
            _Answers(admin, writable).respond, clock=clock, bodyOctets=MAX_BODY_OCTETS, refuse=_refusal
        )
        self._openConnections = 0

    def buildProtocol(self, address: object) -> HTTPServerProtocol | None:
        """
        C{None} when there are too many.
        """
        if self._openConnections >= MAX_CONNECTIONS:
            return None
        self._openConnections += 1
        return _CountedConnection(self._server, self._connectionClosed, clock=self._clock)

    def _connectionClosed(self) -> None:
        self._openConnections -= 1


class _CountedConnection(HTTPServerProtocol):
    """
    One that is counted.
    """

    def __init__(self, server: Any, closed: Callable[[], None], *, clock: Any) -> None:
        super().__init__(server, clock=clock)
        self._connectionClosed = closed

    def connectionLost(self, reason: Any) -> None:  # type: ignore[override]
        super().connectionLost(reason)
        self._connectionClosed()


class _Answers:
    """
    Answers requests.
    """

    def __init__(self, admin: AdminService, writable: bool) -> None:
        self._admin = admin
        self._writable = writable

    def respond(self, request: WholeRequest) -> Deferred[WholeResponse]:
        """
        Answer one request.
        """
        asked: Deferred[Any] = maybeDeferred(self._find, request)
        return asked.addErrback(self._refused).addCallback(_response)

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
            raise AdminError(405, "this can only be read")
        if path in self._admin.postHandlers:
            raise AdminError(
                *(
                    (405, "use POST")
                    if self._writable
                    else (403, "this address is read-only; use the Unix socket")
                )
            )
        known = ", ".join(path.decode() for path in self._admin.getHandlers)
        raise AdminError(404, f"there is no such resource; there are {known}")

    def _refused(self, failure: Failure) -> Answer:
        error: Any = failure.value
        if isinstance(error, AdminError):
            return error.status, {"error": str(error)}
        if isinstance(error, Denied):
            return DENIED.get(error.code, 409), {"error": error.sentence}
        if isinstance(error, TunnelError):
            return 409, {"error": str(error)}
        self._admin.log.failure("an administration request failed", failure=failure)
        return 500, {"error": "internal error; the log of the edge has the cause"}


def _ok(read: Callable[[], Any]) -> Callable[[], Answer]:
    return lambda: (200, read())


def _decodeObject(body: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(body or b"{}")
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise AdminError(400, "the body is no JSON object")
    return said


def _response(answer: Answer) -> WholeResponse:
    status, value = answer
    return WholeResponse(status, json.dumps(value).encode() + b"\n", JSON, ((b"Cache-Control", b"no-store"),))


def _refusal(status: int, sentence: str) -> WholeResponse:
    return _response((status, {"error": sentence}))
