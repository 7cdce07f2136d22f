"""
The administration interface of an edge: HTTP with JSON, for operators and their programs, and the dashboard.

The Unix socket in the state folder, which only the edge's own user can open, may read and change.  The address that C{[admin]}
of the configuration names may read, because it has no authentication; with the token of C{[admin]} it may change as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger

from tunnelstack.control.config.records import AdminConfig
from tunnelstack.control.config.sources import readToken
from tunnelstack.control.secret_files import TokenFile
from tunnelstack.edge.listeners import endpointOf, isSecure
from tunnelstack.interfaces import IReactor
from tunnelstack.settings.state_dir import ADMIN_SOCKET, socketPath
from tunnelstack.transport.peers import addressText
from tunnelstack.waiters import Waiters

if TYPE_CHECKING:
    from tunnelstack.edge.admin_answers import AdminFactory
    from tunnelstack.edge.administration import EdgeAdministration
    from tunnelstack.edge.running_edge import RunningEdge

RETRY_SECONDS = 2.0
"""Seconds until an edge tries again to listen on the socket that another edge holds."""


def adminEndpoint(reactor: IReactor, config: AdminConfig) -> IStreamServerEndpoint | None:
    """
    @return: where the read-only interface listens; C{None} if it is not configured.
    @raise ConfigurationError: the endpoint string is invalid.
    """
    return endpointOf(reactor, config.listen, "[admin] listen: ") if config.listen else None


def adminToken(config: AdminConfig) -> TokenFile | None:
    """
    @return: what lets requests to the configured listener change something; C{None} if it may only be read.
    @raise ConfigurationError: the token cannot be read.
    """
    return TokenFile(config.tokenFile, readToken(config.tokenFile)) if config.tokenFile else None


class _SocketFactory(ServerFactory):
    """
    Builds the connections to the socket in the state folder, which many edges for development never have: what answers them is
    made when the first one comes.
    """

    noisy = False

    def __init__(self, make: Callable[[], AdminFactory]) -> None:
        self._make = make

    @cached_property
    def _factory(self) -> AdminFactory:
        return self._make()

    def buildProtocol(self, address: IAddress | None) -> Protocol | None:
        return self._factory.buildProtocol(address)


class AdminService(Service):
    """
    The administration interface of one edge.

    @ivar stop: called to drain and stop the edge; set by the owner of the process.
    @ivar reload: called to read the configuration again; set by the owner of the process.  Returns the sentences of
        L{EdgeService.reload<tunnelstack.edge.service.EdgeService.reload>}, or a C{Deferred} of them.
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

    @cached_property
    def administration(self) -> EdgeAdministration:
        """
        What can be asked for.  It is made when it is needed.
        """
        from tunnelstack.edge.administration import EdgeAdministration  # see L{tunnelstack.edge.deferred}

        return EdgeAdministration(self._edge, self)

    def _makeFactory(
        self, token: Callable[[], str] | None = None, hosts: Collection[str] = (), *, writable: bool = False
    ) -> AdminFactory:
        """
        @return: the factory of one listener.  The parameters are those of L{AdminAccess}.
        """
        from tunnelstack.edge.admin_access import AdminAccess
        from tunnelstack.edge.admin_answers import AdminFactory

        return AdminFactory(self._edge.clock, self.administration, AdminAccess(token, hosts, writable=writable))

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
            config = self._edge.config.admin
            port = yield endpoint.listen(self._makeFactory(token=adminToken(config), hosts=config.hosts))
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
        factory = _SocketFactory(partial(self._makeFactory, writable=True))
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
        if "administration" in vars(self):
            self.administration.end()
        retry, self._retry = self._retry, None
        if retry is not None:
            retry.cancel()
        listening = [*self._listening, *self._public]
        self._listening, self._public = [], []
        yield DeferredList([maybeDeferred(port.stopListening) for port in listening], consumeErrors=True)
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1
