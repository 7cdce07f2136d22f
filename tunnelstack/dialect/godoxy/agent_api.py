"""
The HTTPS API of an agent::

    path                            answer
    /godoxy/agent/info              name, version, runtime, and which streams it takes
    /godoxy/agent/health            the health of a server, see agent_health
    /godoxy/agent/system_info       204: this agent collects no statistics
    /godoxy/agent/proxy/http/...    of the web server that the request names
    all others                      of the socket of Docker, if there is one

Source: godoxy C{agent/pkg/handler/handler.go}, v0.31.0.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.godoxy.agent_destinations import Destinations
from tunnelstack.dialect.godoxy.agent_docker import DockerServer
from tunnelstack.dialect.godoxy.agent_health import HealthExaminer
from tunnelstack.dialect.godoxy.agent_proxy import ProxyServer, isForwarded, textPage
from tunnelstack.dialect.godoxy.agent_settings import AgentSettings
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.exchange.whole_message import (
    JSON,
    WholeMessageServer,
    WholeRequest,
    WholeResponse,
    textResponse,
)
from tunnelstack.interfaces import IAgentHost, IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.waiters import Waiters
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.target import path_of
from tunnelstack.wire.records.godoxy_api import API_PATH
from tunnelstack.wire.records.godoxy_proxy import encode_agent_info

NAME = "godoxy"
"""What the requests are of, in the access log."""

API = API_PATH.encode()

VERSION = "v0.31.0"
"""The version of the genuine program whose protocol this is; main programs choose by it which header fields they send."""

BODY_OCTETS = 64 * 1024
"""Octets of a body that a request for the agent itself may have; they are not used."""


@implementer(IExchangeServer)
class AgentAPI:
    """
    Answers the requests of edges.
    """

    def __init__(self, host: IAgentHost, settings: AgentSettings, name: str, destinations: Destinations) -> None:
        self._clock = host.clock
        self._info = encode_agent_info(VERSION, name, settings.runtime, udp=settings.datagrams)
        self._health = HealthExaminer(host.clock, destinations)
        self._own = WholeMessageServer(self._respond, clock=host.clock, bodyOctets=BODY_OCTETS)
        self.proxy = ProxyServer(host.clock, destinations)
        self.docker: DockerServer | None = None
        if settings.dockerSocket:
            self.docker = DockerServer(host.clock, settings.dockerSocket, settings.dockerMethods)

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        exchange.context = self._clock.seconds()
        server: IExchangeServer = self._own
        if isForwarded(head.target):
            server = self.proxy
        elif self.docker is not None and not path_of(head.target).startswith(API + b"/"):
            server = self.docker
        return server.exchangeReceived(head, exchange)

    def close(self) -> None:
        """
        Close the connections to web servers and to the socket of Docker.
        """
        self.proxy.pools.close()
        if self.docker is not None:
            self.docker.pool.close()

    def _respond(self, request: WholeRequest) -> WholeResponse | Deferred[WholeResponse]:
        match request.path.removeprefix(API):
            case b"/info":
                return WholeResponse(200, self._info, JSON)
            case b"/health":
                return self._health.respond(request)
            case b"/system_info":
                return WholeResponse(204)
        return textResponse(404, "not found")


class APIConnections(Factory):
    """
    Builds the connections of the API, and closes them when the agent stops.
    """

    noisy = False

    def __init__(self, host: IAgentHost, api: AgentAPI, limit: int) -> None:
        """
        @param limit: how many connections may be open.
        """
        self._host = host
        self._api = api
        self._limit = limit
        self._open: set[APIConnection] = set()
        self._draining = False
        self._drained: Waiters[None] = Waiters()

    def __len__(self) -> int:
        return len(self._open)

    def buildProtocol(self, address: IAddress | None) -> HTTPServerProtocol | None:
        """
        @return: C{None} closes the connection: there are too many, or the agent stops.
        """
        if self._draining or len(self._open) >= self._limit:
            return None
        return APIConnection(self, self._api, self._host)

    def opened(self, connection: APIConnection) -> None:
        """
        A connection is there.
        """
        self._open.add(connection)

    def closed(self, connection: APIConnection) -> None:
        """
        It is lost.
        """
        self._open.discard(connection)
        self._checkDrained()

    def drain(self) -> Deferred[None]:
        """
        Serve no further request.

        @return: fires when the last connection is closed.
        """
        self._draining = True
        for connection in list(self._open):
            connection.drain()
        drained = self._drained.wait()
        self._checkDrained()
        return drained

    def close(self) -> None:
        """
        Close all connections at once.
        """
        for connection in list(self._open):
            connection.transport.abortConnection()

    def _checkDrained(self) -> None:
        if self._draining and not self._open:
            self._drained.fire(None)


class APIConnection(HTTPServerProtocol):
    """
    One connection.
    """

    def __init__(self, connections: APIConnections, api: AgentAPI, host: IAgentHost) -> None:
        """
        @param connections: where it is counted.
        """
        super().__init__(api, clock=host.clock, pages=textPage, done=self._answered)
        self._connections = connections
        self._host = host

    def connectionMade(self) -> None:
        self._connections.opened(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._connections.closed(self)

    def _answered(self, exchange: IServerExchange, now: float) -> None:
        began = exchange.context
        self._host.exchangeEnded(NAME, exchange, 0.0 if began is None else now - began)
