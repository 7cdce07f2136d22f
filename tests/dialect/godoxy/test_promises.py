"""
The promises of tunnels, by GoDoxy, whose edge dials the agent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.dialect.godoxy.agent_support import Host, authorityPEM, clientPEM, identityOf, writeCertificates
from tests.dialect.godoxy.edge_support import GodoxyEdgeCase, web
from tests.promises.tunnels import WEB, TunnelPromises
from tunnelstack.dialect.godoxy.agent import GoDoxyAgent
from tunnelstack.dialect.godoxy.agent_settings import AgentSettings
from tunnelstack.dialect.godoxy.certificates import Credentials
from tunnelstack.records import HTTPPurpose


class GodoxyTests(TunnelPromises, GodoxyEdgeCase):
    """
    Requests to the agent's API, which forwards them.
    """

    edgePort = 8890
    purpose = HTTPPurpose(service="wiki")
    lossSeconds = 60

    def setUp(self) -> None:
        GodoxyEdgeCase.setUp(self)
        self.own = Credentials((identityOf(authorityPEM()).certificate,), identityOf(clientPEM()))
        self.connectExchanges()

    def connectTunnel(self) -> Any:
        self.useNetwork(self.network)
        files = writeCertificates(Path(self.mktemp()))
        settings = AgentSettings(targets=(f"localhost:{WEB}",), datagrams=False, **files)
        agent = GoDoxyAgent(Host(self.network), settings)     # type: ignore[arg-type]
        agent.startService()
        self.begin(web(target=f"localhost:{WEB}"))
        self.addCleanup(agent.stopService)
        return self.edge.registry.agent("nas")

    def sever(self) -> None:
        del self.network.ports[self.edgePort]
        super().sever()
