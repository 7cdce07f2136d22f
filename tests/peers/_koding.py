"""
Both ends of koding/tunnel, ours and the genuine ones, behind one interface.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import TestCase

from tests.peers._go import GoError, GoPeer
from tests.peers._ours import pause
from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.records import AgentConfig, EdgeConfig
from tunnelstack.dialect.koding.agent import KodingAgent
from tunnelstack.dialect.koding.edge import KodingEdge
from tunnelstack.dialect.koding.host_store import digestOf
from tunnelstack.dialect.koding.settings import AgentSettings, EdgeSettings, HostSettings, PortSettings
from tunnelstack.edge.service import EdgeService


class Ends(TestCase):
    """
    A Go program that has local servers and visitors, and one end.

    @ivar go: the program.
    """

    timeout = 120

    def setUp(self) -> None:
        self.go = GoPeer.start(self, "koding")

    def visit(self, do: str, port: int, host: str, **asked: Any) -> Any:
        return self.go.call(do, timeout=60, port=port, host=host, **asked)

    @inlineCallbacks
    def failing(self, waiting: Any) -> Any:
        error: GoError = yield self.assertFailure(waiting, GoError)
        return error

    @inlineCallbacks
    def until(self, condition: Any, seconds: float = 30.0) -> Any:
        end = reactor.seconds() + seconds
        while not condition():
            self.assertLess(reactor.seconds(), end, "it did not happen in time")
            yield pause(0.01)


class OurEdge(Ends):
    """
    Our edge, and genuine clients.
    """

    @inlineCallbacks
    def begin(
        self, hosts: dict[str, str], ports: dict[int, tuple[str, str]] | None = None, openSeconds: float = 10.0
    ) -> Any:
        """
        @param hosts: identifiers of hosts.
        @param ports: hosts and addresses of TCP ports.
        """
        self.tables = {
            "koding": (EdgeSettings(openSeconds=openSeconds),),
            "koding.host": tuple(HostSettings(host=h, identifierSha256=digestOf(i.encode())) for h, i in hosts.items()),
            "koding.port": tuple(PortSettings(port=p, host=h, address=a) for p, (h, a) in (ports or {}).items()),
        }
        config = EdgeConfig(
            listen=("tcp:0:interface=127.0.0.1",), domain="edge.test", portsInterface="127.0.0.1", drainSeconds=1.0,
            dialects={"koding": self.tables},
        )
        self.edge = EdgeService(reactor, config)
        ready = self.edge.whenReady()
        self.edge.startService()
        yield ready
        self.addCleanup(self.edge.stopService)
        self.port = self.edge.addresses[0].port  # type: ignore[attr-defined]

    @property
    def dialect(self) -> KodingEdge:
        return next(each for each in self.edge.dialects if isinstance(each, KodingEdge))

    @inlineCallbacks
    def client(self, identifier: str, http: int = 0, tcp: dict[int, int] | None = None, **asked: Any) -> Any:
        """
        @param http: the port of the local server.
        @param tcp: ports of local servers by those that are asked for.
        @return: the number of a genuine client that is connected.
        """
        settings: dict[str, Any] = {"http": f"127.0.0.1:{http}"} if http else {}
        if tcp is not None:
            settings["tcp"] = {str(port): f"127.0.0.1:{to}" for port, to in tcp.items()}
        said = yield self.go.call("client", identifier=identifier, server=f"127.0.0.1:{self.port}", **settings, **asked)
        return said["number"]


    @inlineCallbacks
    def statesToTheEnd(self, number: int) -> Any:
        """
        @return: the states of a genuine client, once it is closed.
        """
        while True:
            said = yield self.go.call("states", number=number)
            states = [each.split()[-1] for each in said["states"]]
            if states[-1:] == ["ClientClosed"]:
                return states
            yield pause(0.01)


class OurAgent(Ends):
    """
    Our agent, and the genuine server.
    """

    @inlineCallbacks
    def begin(self, hosts: dict[str, str], port: int = 0) -> Any:
        """
        @param hosts: identifiers of hosts.
        @param port: of the server.
        """
        said = yield self.go.call("serve", hosts=hosts, port=port)
        self.port = said["port"]

    @inlineCallbacks
    def client(
        self, identifier: str, http: int | tuple[str, ...] = 0, tcp: dict[int, int] | None = None, wait: bool = True
    ) -> Any:
        """
        @param http: the port of the local server, or targets.
        @param tcp: ports of local servers by those that are asked for.
        @return: our agent, which is connected.
        """
        path = Path(self.mktemp())
        path.write_text(identifier)
        table = AgentSettings(
            url=f"http://127.0.0.1:{self.port}", identifierFile=str(path),
            http=http if isinstance(http, tuple) else (str(http),),
            tcp=tuple(f"{port}={to}" for port, to in (tcp or {}).items()),
        )
        config = evolve(AgentConfig(), dialects={"koding": {"koding": (table,)}}, drainSeconds=2.0)
        agent = AgentService(reactor, config, plugins=False)
        self.addCleanup(lambda: agent.stopService() if agent.running else None)
        before = yield self.connections(identifier)
        agent.startService()
        while wait and (yield self.connections(identifier)) == before:
            yield pause(0.01)
        return agent

    @inlineCallbacks
    def connections(self, identifier: str) -> Any:
        """
        @return: how many times a client has connected to the server.
        """
        said = yield self.go.call("states", number=0)
        return sum(each.startswith(f"{identifier} ") and each.endswith(" ClientConnected") for each in said["states"])

    def dialectOf(self, agent: AgentService) -> KodingAgent:
        dialect: Any = agent.links[0].dialect
        return dialect
