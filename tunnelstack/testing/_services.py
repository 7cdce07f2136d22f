"""
An edge and an agent on a network without sockets, and their visitors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

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
from tunnelstack.interfaces import IReactor
from tunnelstack.testing._network import Network
from tunnelstack.testing._transport import MemoryTransport


class Caller(Protocol):
    """
    A client that collects the octets it receives.

    @ivar got: all octets received.
    @ivar lost: the reason when the connection is lost, C{None} before.
    """

    transport: MemoryTransport

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.lost: Failure | None = None

    @property
    def got(self) -> bytes:
        self._pieces[:] = [b"".join(self._pieces)]        # joined when they are looked at: 60 MB come in 1 000 pieces
        return self._pieces[0]

    @got.setter
    def got(self, octets: bytes) -> None:
        self._pieces[:] = [octets]

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class EdgeAndAgent:
    """
    An edge and an agent in one process, without sockets, in virtual time.

    They are the real services with their real settings; only the network is replaced::

        both = EdgeAndAgent()
        both.agent.publish(Service(name="echo", kind="http", perVisitor=True), Factory.forProtocol(Echo))
        both.start()
        visitor = both.visit(b"hello")                # octets to the edge's port
        visitor.got                                   # the octets received

    @ivar network: the L{Network}, which is the reactor of both services.
    @ivar edge: the L{EdgeService<tunnelstack.edge.service.EdgeService>}.
    @ivar agent: the L{AgentService<tunnelstack.agent.service.AgentService>}.
    @ivar token: the agent's token.
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
        @param services: the services of the agent.
        @param allow: the rights of the agent's token.
        @param share: whether several processes of the agent may hold one name.
        @param cut: the most octets of one delivery (see L{Wire}).
        @param edge: further settings of L{EdgeConfig}.
        @param agent: further settings of L{AgentConfig}.
        """
        self.network = Network(cut)
        new = newToken()
        self.token = new.token
        record = TokenRecord(name="laptop", tokenSha256=new.tokenSha256, allow=tuple(allow), share=share, id=new.id)
        settings = {"listen": (f"tcp:{self.PORT}",), "tokens": (record,), **(edge or {})}
        self.edge = EdgeService(cast(IReactor, self.network), EdgeConfig(**settings))
        self.agent = self.another(*services, **(agent or {}))

    def another(self, *services: ServiceConfig, token: str = "", **settings: Any) -> AgentService:
        """
        Make one more agent of this edge.  It is not started.

        @param token: its token; by default the first agent's.
        @param settings: further settings of L{AgentConfig}.
        """
        edges = (EdgeAddress(url=f"http://localhost:{self.PORT}", token=token or self.token),)
        config = AgentConfig(**{"edges": edges, "services": services, **settings})
        return AgentService(cast(IReactor, self.network), config, plugins=False, random=lambda: 0.5)

    def start(self) -> None:
        """
        Start both, and L{settle}.
        """
        self.edge.startService()
        self.agent.startService()
        self.network.settle()

    def settle(self) -> None:
        """
        Run the network until nothing is left to deliver.  No time passes.
        """
        self.network.settle()

    def visit(self, octets: bytes = b"", port: int = PORT) -> Caller:
        """
        Connect to a port of the edge, send octets, and L{settle}.

        @return: the visitor.
        """
        caller = Caller()
        self.network.join(caller, self.network.ports[port].factory, IPv4Address("TCP", "127.0.0.1", port))
        caller.transport.write(octets)
        self.settle()
        return caller

    def get(self, host: str, path: str = "/") -> bytes:
        """
        Send a GET request to the public port.

        @return: the response, with its head.
        """
        return self.visit(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()).got

    def stop(self) -> None:
        """
        Stop both, and let time pass until they have stopped.

        @raise AssertionError: they have not stopped after two minutes of virtual time.
        """
        stopping = [service.stopService() for service in (self.agent, self.edge) if service.running]
        for _ in range(120):
            if all(stopped is None or stopped.called for stopped in stopping):
                self.settle()                 # connections that were closed last are closed at both ends
                return
            self.network.passTime(1)
        raise AssertionError("edge and agent did not stop in two minutes")
