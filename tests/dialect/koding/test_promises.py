"""
The promises of tunnels, by koding/tunnel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.koding.support import edgeTables
from tests.promises.tunnels import WEB, TunnelPromises
from tests.wire.vectors_koding import IDENTIFIER
from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.dialect.koding.settings import AgentSettings
from tunnelstack.testing import EdgeAndAgent


class KodingTests(TunnelPromises, SynchronousTestCase):
    """
    A stream for each exchange, which is announced first.
    """

    def connectTunnel(self) -> Any:
        self.both = both = EdgeAndAgent(edge={"domain": "edge.test", "dialects": edgeTables()}, cut=self.cut)
        self.useNetwork(both.network)
        both.edge.startService()
        file = Path(self.mktemp())
        file.write_text(IDENTIFIER + "\n")
        table = AgentSettings(url=f"http://127.0.0.1:{both.PORT}", identifierFile=str(file), http=(str(WEB),))
        config = AgentConfig(dialects={"koding": {"koding": (table,)}}, drainSeconds=5.0)
        both.agent = AgentService(both.network, config, plugins=False, random=lambda: 0.5)     # type: ignore[arg-type]
        both.agent.startService()
        self.addCleanup(both.stop)
        self.settle()
        (tunnel,) = both.edge.registry
        return tunnel


class CutKodingTests(KodingTests):
    cut = 1000
