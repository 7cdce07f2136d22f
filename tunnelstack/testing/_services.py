"""
A whole edge and a whole agent on a network without sockets, and who visits them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tunnelstack.agent.service import AgentService
from tunnelstack.control.auth.tokens import newToken
from tunnelstack.control.config.records import (
    AgentConfig,
    EdgeAddress,
    EdgeConfig,
    ServiceConfig,
    TokenRecord,
)
from tunnelstack.edge.service import EdgeService
from tunnelstack.testing._network import Network


class Caller(Protocol):
    """
    A client that collects what it hears.

    @ivar got: all octets so far.
    @ivar lost: why the connection ended, C{None} while it has not.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class EdgeAndAgent:
    """
    A whole edge and a whole agent in one process, without sockets, in virtual time.

    Their settings are those of the real services; the network is the only thing that is not::

        both = EdgeAndAgent()
        both.agent.publish(Service(name="echo", kind="http", perVisitor=True), Factory.forProtocol(Echo))
        both.start()
        visitor = both.visit(b"hello")                # octets to the edge's port
        visitor.got                                   # what came back

    @ivar network: the L{Network}, a reactor to everything here.
    @ivar edge: the L{EdgeService<tunnelstack.edge.service.EdgeService>}.
    @ivar agent: the L{AgentService<tunnelstack.agent.service.AgentService>}.
    @ivar token: what the agent shows.
    """

    PORT = 8080

    def __init__(
        self,
        *services: ServiceConfig,
        allow: Iterable[str] = ("http:*", "stream:*", "tcp:*", "dial:*"),
        share: bool = False,
        cut: int | None = None,
        edge: dict[str, Any] | None = None,
        agent: dict[str, Any] | None = None,
    ) -> None:
        """
        @param services: of the agent.
        @param allow: rights of the agent's token.
        @param share: whether its processes may hold a name together.
        @param cut: the most octets of one delivery (see L{Wire}).
        @param edge: further settings of L{EdgeConfig}.
        @param agent: further settings of L{AgentConfig}.
        """
        self.network = Network(cut)
        new = newToken()
        self.token = new.token
        record = TokenRecord(name="laptop", tokenSha256=new.tokenSha256, allow=tuple(allow), share=share, id=new.id)
        settings = {"listen": (f"tcp:{self.PORT}",), "tokens": (record,), **(edge or {})}
        self.edge = EdgeService(self.network, EdgeConfig(**settings))
        self.agent = self.another(*services, **(agent or {}))

    def another(self, *services: ServiceConfig, token: str = "", **settings: Any) -> AgentService:
        """
        One more agent of this edge, not started yet.

        @param token: what it shows; the first agent's unless given.
        @param settings: of L{AgentConfig}.
        """
        edges = (EdgeAddress(url=f"http://localhost:{self.PORT}", token=token or self.token),)
        config = AgentConfig(**{"edges": edges, "services": services, **settings})
        return AgentService(self.network, config, plugins=False, random=lambda: 0.5)

    def start(self) -> None:
        """
        Start both, and go on until nobody has anything left to say.
        """
        self.edge.startService()
        self.agent.startService()
        self.network.settle()

    def settle(self) -> None:
        """
        Go on until nobody has anything left to say.
        """
        self.network.settle()

    def visit(self, octets: bytes = b"", port: int = PORT) -> Caller:
        """
        Connect to a port of the edge and say something.

        @return: the visitor, when there is nothing left to say.
        """
        caller = Caller()
        self.network.join(caller, self.network.ports[port].factory, IPv4Address("TCP", "127.0.0.1", port))
        caller.transport.write(octets)
        self.settle()
        return caller

    def get(self, host: str, path: str = "/") -> bytes:
        """
        Ask for a page in the name of a visitor.

        @return: the response, head and body.
        """
        return self.visit(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()).got

    def stop(self) -> None:
        """
        Stop both, at once.
        """
        stopping = [service.stopService() for service in (self.agent, self.edge) if service.running]
        for _ in range(120):
            if all(stopped is None or stopped.called for stopped in stopping):
                return
            self.network.passTime(1)
        raise AssertionError("edge and agent did not stop in two minutes")
