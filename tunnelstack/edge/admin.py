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
from zope.interface import implementer

from tunnelstack.control.config.state_dir import ADMIN_SOCKET, socketPath
from tunnelstack.edge.status import agentsOf, deviceOf, devicesOf, routesOf, statusOf, streamsOf
from tunnelstack.errors import ConfigurationError, Denied, TunnelError
from tunnelstack.exchange.error_page import REASONS
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

MAX_CONNECTIONS = 64
"""Connections at a time."""

MAX_BODY_OCTETS = 4096
"""Octets of a request's body; what is to be done is said in few words."""

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
            b"/devices": lambda: (200, {"devices": devicesOf(edge)}),
        }
        self.postHandlers: Mapping[bytes, Callable[[Mapping[str, Any]], Any]] = {
            b"/tokens/reload": self._reloadTokens,
            b"/tokens/revoke": self._revoke,
            b"/reload": self._reload,
            b"/drain": self._drain,
            b"/devices/accept": lambda asked: self._setDeviceStatus(asked, "accept"),
            b"/devices/reject": lambda asked: self._setDeviceStatus(asked, "reject"),
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

    def _setDeviceStatus(self, asked: Mapping[str, Any], verdict: str) -> Any:
        """
        Let a device in, or send it away.
        """
        which, devices = asked.get("device"), self._edge.devices
        if not (isinstance(which, str) and which):
            raise AdminError(400, 'say which: {"device": "NAMESPACE.NAME"}')
        if devices is None:
            raise AdminError(409, "this edge takes no devices; its configuration has no [shellhub]")
        try:
            device = getattr(devices, verdict)(which)
        except Denied as denied:
            raise AdminError(404, denied.sentence) from None
        return {"device": deviceOf(self._edge, device)}

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
        self._server = _AdminServer(admin, writable)
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


@implementer(IExchangeServer)
class _AdminServer:
    """
    Answers requests.
    """

    def __init__(self, admin: AdminService, writable: bool) -> None:
        self._admin = admin
        self._writable = writable

    def exchangeReceived(self, head: RequestHead, exchange: Any) -> _AdminRequest:
        """
        As in L{IExchangeServer}: answered when the request is whole.
        """
        return _AdminRequest(self, head, exchange)

    def answer(self, head: RequestHead, body: bytes, exchange: Any) -> None:
        """
        Answer one request.
        """
        asked: Deferred[Any] = maybeDeferred(self._find, head, body)
        asked.addErrback(self._refused)
        asked.addCallback(_sendJSON, exchange)

    def _find(self, head: RequestHead, body: bytes) -> Any:
        path = head.target.partition(b"?")[0]
        if head.method in (b"GET", b"HEAD"):
            read = self._admin.getHandlers.get(path)
            if read is not None:
                return read()
        elif head.method == b"POST" and self._writable:
            change = self._admin.postHandlers.get(path)
            if change is not None:
                return maybeDeferred(change, _decodeObject(body)).addCallback(lambda done: (200, done))
        if path in self._admin.getHandlers:
            raise AdminError(405, "this can only be read")
        if path in self._admin.postHandlers:
            raise AdminError(*((405, "say POST") if self._writable else (403, "here one may only read; use the Unix socket")))
        known = ", ".join(path.decode() for path in self._admin.getHandlers)
        raise AdminError(404, f"there is nothing of that name; there are {known}")

    def _refused(self, failure: Failure) -> Answer:
        error: Any = failure.value
        if isinstance(error, AdminError):
            return error.status, {"error": str(error)}
        if isinstance(error, TunnelError):
            return 409, {"error": str(error)}
        self._admin.log.failure("a question to the edge could not be answered", failure=failure)
        return 500, {"error": "the edge could not answer; its log says why"}


@implementer(IExchangeReceiver)
class _AdminRequest:
    """
    A request on its way in.
    """

    def __init__(self, server: _AdminServer, head: RequestHead, exchange: Any) -> None:
        self._server = server
        self._head = head
        self._exchange = exchange
        self._body = b""
        self._finished = False

    def informational(self, head: object) -> None:
        """
        Requests have none.
        """

    headReceived = informational

    def bodyReceived(self, octets: bytes) -> None:
        """
        Some of what is to be done.
        """
        self._body += octets
        if len(self._body) > MAX_BODY_OCTETS and not self._finished:
            self._finished = True
            _sendJSON((413, {"error": f"more than {MAX_BODY_OCTETS} octets"}), self._exchange)
            self._body = b""

    def ended(self, trailers: object) -> None:
        """
        That was all.
        """
        if not self._finished:
            self._server.answer(self._head, self._body, self._exchange)

    def failed(self, reason: object) -> None:
        """
        Nobody waits for an answer.
        """
        self._finished = True


def _decodeObject(body: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(body or b"{}")
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise AdminError(400, "the body is no JSON object")
    return said


def _sendJSON(answer: Answer, exchange: Any) -> None:
    status, said = answer
    body = json.dumps(said).encode() + b"\n"
    exchange.sendHead(
        ResponseHead(
            status, b"OK" if status == 200 else REASONS.get(status, b"Error"),
            [
                (b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body)),
                (b"Cache-Control", b"no-store"),
            ],
        )
    )  # fmt: skip
    exchange.write(body)
    exchange.end()


