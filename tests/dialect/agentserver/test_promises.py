"""
The promises of tunnels, by agentserver.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.agentserver.support import PORT, TOKEN, Proxy
from tests.promises.tunnels import WEB, TunnelPromises
from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.dialect.agentserver.settings import AgentSettings


class AgentserverTests(TunnelPromises, SynchronousTestCase):
    """
    A stream for each exchange, with typed heads.
    """

    def connectTunnel(self) -> Any:
        self.proxy = proxy = Proxy(cut=self.cut)
        self.useNetwork(proxy.network)
        self.addCleanup(proxy.stop)
        token = Path(self.mktemp())
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        record = AgentSettings(url=f"http://localhost:{PORT}", sandbox="sbx-1", tokenFile=str(token), target=str(WEB))
        config = AgentConfig(dialects={"agentserver": {"agentserver": (record,)}}, drainSeconds=1.0)
        agent = AgentService(proxy.network, config, plugins=False, random=lambda: 0.5)     # type: ignore[arg-type]
        agent.startService()
        self.addCleanup(agent.stopService)
        self.settle()
        return proxy.edge.registry.agent("demo")


class CutAgentserverTests(AgentserverTests):
    cut = 1000
