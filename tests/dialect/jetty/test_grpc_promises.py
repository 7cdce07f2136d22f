"""
The promises of tunnels, by gRPC.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.jetty.grpc_support import Pair
from tests.promises.tunnels import WEB, TunnelPromises
from tunnelstack.dialect.jetty.registration import Upstream
from tunnelstack.exchange.forward import Forwarder
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.testing import Network


class ServedTests(TunnelPromises, SynchronousTestCase):
    """
    The agent serves the requests itself, and answers with a page what its server does not answer.
    """



    def connectTunnel(self) -> Any:
        self.useNetwork(Network(self.cut))
        self.pair = Pair(self.network)
        self.link = self.pair.connect(self.server)
        self.settle()
        self.addCleanup(lambda: self.successResultOf(self.link).abort("the test is over"))
        return self.pair.tunnel

    def test_aWebServerThatIsNotThereIsAFailure(self) -> None:
        """
        There is none.
        """


class CutServedTests(ServedTests):
    cut = 1000


class ForwardedTests(TunnelPromises, SynchronousTestCase):
    """
    The agent forwards the requests to a web server.
    """

    def connectTunnel(self) -> Any:
        self.useNetwork(Network(self.cut))
        pool = ExchangePool(TCP4ClientEndpoint(self.network, "127.0.0.1", WEB), clock=self.network)   # type: ignore[arg-type]
        server = Forwarder(pool.exchange)
        self.pair = Pair(self.network)
        self.link = self.pair.connect(server, Upstream(serverFor=lambda target: server))
        self.settle()
        self.addCleanup(lambda: self.successResultOf(self.link).abort("the test is over"))
        return self.pair.tunnel


class CutForwardedTests(ForwardedTests):
    cut = 1000
