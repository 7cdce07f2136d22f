"""
The promises of tunnels, by the native dialect.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.promises.tunnels import WEB, TunnelPromises
from tunnelstack.control.config.records import ServiceConfig
from tunnelstack.records import HTTPPurpose
from tunnelstack.testing import EdgeAndAgent


class NativeTests(TunnelPromises, SynchronousTestCase):
    """
    An edge and an agent of ours.
    """

    purpose = HTTPPurpose(service="site")

    def connectTunnel(self) -> Any:
        both = EdgeAndAgent(ServiceConfig(name="site", kind="http", target=f"localhost:{WEB}"), cut=self.cut)
        self.useNetwork(both.network)
        both.start()
        self.addCleanup(both.stop)
        return both.edge.registry.pick("site")


class CutNativeTests(NativeTests):
    cut = 1000
