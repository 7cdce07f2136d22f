"""
The administration interface of an edge: HTTP with JSON, for operators and their programs, and the dashboard.

The Unix socket in the state folder, which only the edge's own user can open, may read and change.  The address that C{[admin]}
of the configuration names may read, because it has no authentication; with the token of C{[admin]} it may change as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger

from tunnelstack.control.config.records import AdminConfig
from tunnelstack.control.config.sources import readToken
from tunnelstack.control.secret_files import TokenFile
from tunnelstack.edge import dashboard
from tunnelstack.edge.admin_access import AdminAccess
from tunnelstack.edge.admin_answers import (
    AdminError,
    AdminFactory,
    Answer,
    JSONObject,
    ListHandler,
    PostHandler,
)
from tunnelstack.edge.dashboard.feed import StatusFeed
from tunnelstack.edge.list_query import ListQuery
from tunnelstack.edge.listeners import endpointOf, isSecure
from tunnelstack.edge.running_edge import RunningEdge
from tunnelstack.edge.sample_report import sampleSteps
from tunnelstack.edge.slices import SlicedWork, Steps
from tunnelstack.edge.status import Record, agentSteps, routeSteps, statusSteps
from tunnelstack.edge.stream_report import snapshotSteps, streamSteps
from tunnelstack.interfaces import IReactor
from tunnelstack.pages.event_stream import EventStream
from tunnelstack.pages.resources import PageFiles
from tunnelstack.settings.state_dir import ADMIN_SOCKET, socketPath
from tunnelstack.transport.peers import addressText
from tunnelstack.waiters import Waiters

RETRY_SECONDS = 2.0
"""Seconds until an edge tries again to listen on the socket that another edge holds."""

NO_METRICS = "this edge has no metrics: set enabled = true in [metrics], and restart it"


def adminEndpoint(reactor: IReactor, config: AdminConfig) -> IStreamServerEndpoint | None:
    """
    @return: where the read-only interface listens; C{None} if it is not configured.
    @raise ConfigurationError: the endpoint string is invalid.
    """
    return endpointOf(reactor, config.listen, "[admin] listen: ") if config.listen else None


def publicAccess(config: AdminConfig) -> AdminAccess:
    """
    @return: who may use the configured listener.
    @raise ConfigurationError: the token cannot be read.
    """
    token = TokenFile(config.tokenFile, readToken(config.tokenFile)) if config.tokenFile else None
    return AdminAccess(token, config.hosts)


class AdminService(Service):
    """
    The administration interface of one edge.

    @ivar stop: called to drain and stop the edge; set by the owner of the process.
    @ivar reload: called to read the configuration again; set by the owner of the process.  Returns the sentences of
        L{EdgeService.reload<tunnelstack.edge.service.EdgeService.reload>}, or a C{Deferred} of them.
    @ivar getHandlers: functions without arguments that answer GET requests, by path.
    @ivar listHandlers: functions that answer GET requests for a part of a list, by path.
    @ivar files: the files of the dashboard.
    @ivar work: reads lists and snapshots.
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
        self.work = SlicedWork(edge.clock)
        self.files = PageFiles(Path(dashboard.__file__).resolve().parent / "static")
        self._feed = StatusFeed(edge.clock, self.work, partial(snapshotSteps, edge))
        self.stop: Callable[[], object] | None = None
        self.reload: Callable[[], Iterable[str] | Deferred[Iterable[str]]] | None = None
        self.getHandlers: Mapping[bytes, Callable[[], Answer]] = {
            b"/health": lambda: (200, {"healthy": True}),
            b"/ready": self._ready,
            b"/metrics": self._metrics,
            **{path: _ok(read) for path, read in edge.dialects.getHandlers.items()},
        }
        self.listHandlers: Mapping[bytes, ListHandler] = {
            b"/status": lambda query: statusSteps(edge),
            b"/agents": self._agents,
            b"/routes": partial(routeSteps, edge),
            b"/streams": partial(streamSteps, edge),
            b"/samples": lambda query: sampleSteps(edge.public.site.samples, query),
        }
        self.postHandlers: Mapping[bytes, PostHandler] = {
            b"/tokens/reload": self._reloadTokens,
            b"/tokens/revoke": self._revoke,
            b"/reload": self._reload,
            b"/drain": self._drain,
            b"/agents/drain": self._drainAgent,
            b"/agents/disconnect": self._disconnectAgent,
            **edge.dialects.postHandlers,
        }

    # Listening

    @property
    def addresses(self) -> list[IAddress]:
        """
        The addresses of the configured listeners.
        """
        return [port.getHost() for port in self._public]

    @inlineCallbacks
    def listen(self) -> Generator[Deferred[IListeningPort], IListeningPort, None]:
        """
        Listen on the configured address and on the socket in the state folder.

        @return: a C{Deferred}; it fails with L{ConfigurationError} if the configured endpoint is invalid, or there is no token
            in the file.
        """
        endpoint = adminEndpoint(self._edge.clock, self._edge.config.admin)
        if endpoint is not None:
            factory = AdminFactory(self._edge.clock, self, publicAccess(self._edge.config.admin))
            port = yield endpoint.listen(factory)
            self._public.append(port)
            scheme = "https" if isSecure(self._edge.config.admin.listen) else "http"
            self.log.info("{scheme}://{where}/", scheme=scheme, where=addressText(port.getHost()), status="dashboard")
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
        factory = AdminFactory(self._edge.clock, self, AdminAccess(writable=True))
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
        self._feed.end()
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

    def follow(self) -> EventStream:
        """
        @return: the stream of events for one more page.
        @raise Refusal: too many pages are open.
        """
        return self._feed.follow()

    def _agents(self, query: ListQuery) -> Steps[Record]:
        """
        As L{agentSteps}; the round trips to the agents of a part of the list are measured as well.
        """
        found = yield from agentSteps(self._edge, query)
        if query.limit is not None:
            presences, shown = self._edge.agents.presences, {agent["session"] for agent in found["agents"]}
            self._edge.roundTrips.measure([each for each in presences if each.number in shown], presences)
        return found

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

    def _drainAgent(self, arguments: JSONObject) -> object:
        self._edge.agents.drain(_session(arguments))
        return {"draining": True}

    def _disconnectAgent(self, arguments: JSONObject) -> object:
        self._edge.agents.disconnect(_session(arguments))
        return {"disconnected": True}


def _session(arguments: JSONObject) -> int:
    number = arguments.get("session")
    if not isinstance(number, int) or isinstance(number, bool):
        raise AdminError(400, 'the session is missing: send {"session": NUMBER}, with a number of GET /agents')
    return number


def _ok(read: Callable[[], object]) -> Callable[[], Answer]:
    return lambda: (200, read())
