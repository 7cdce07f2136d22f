"""
Which protocol an agent speaks to a local web server.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.agent.options import Options
from tunnelstack.agent.origin_pool import originPool
from tunnelstack.agent.target import Target
from tunnelstack.control.config.records import ServiceConfig
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.http2_pool import HTTP2ExchangePool
from tunnelstack.exchange.negotiated_pool import NegotiatedPool
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.testing._network import Network

PLAIN, SECURE, H2C = "3000", "https://localhost:8443", "h2c://localhost:50051"


class PoolTests(SynchronousTestCase):
    """
    The table of docs/howto/grpc.md.
    """

    def pool(self, target: str, http2: str) -> Any:
        network: Any = Network()
        return originPool(network, Target(target, "http"), http2, str)

    def test_everyTargetHasItsPool(self) -> None:
        for target, http2, kind in (
            (PLAIN, "auto", ExchangePool), (PLAIN, "always", HTTP2ExchangePool), (PLAIN, "never", ExchangePool),
            ("unix:/run/app.sock", "auto", ExchangePool), (H2C, "auto", HTTP2ExchangePool), (H2C, "always", HTTP2ExchangePool),
            (SECURE, "auto", NegotiatedPool), (SECURE, "always", HTTP2ExchangePool), (SECURE, "never", ExchangePool),
        ):
            pool = self.pool(target, http2)
            self.assertIs(type(pool), kind, (target, http2))
            pool.close()

    def test_theSchemeIsThatOfTheTarget(self) -> None:
        for target, scheme in ((PLAIN, b"http"), (H2C, b"http"), (SECURE, b"https")):
            self.assertEqual(self.pool(target, "always").scheme, scheme)

    def test_aTargetOfHTTP2CannotBeSentHTTP1(self) -> None:
        with self.assertRaises(ConfigurationError) as wrong:
            self.pool(H2C, "never")
        self.assertIn("is HTTP/2", str(wrong.exception))


class SettingTests(SynchronousTestCase):
    """
    How it is set.
    """

    def service(self, *arguments: str) -> ServiceConfig:
        options = Options({"TUNNELSTACK_TOKEN": "x"})
        options.parseOptions(["--edge", "https://tunnels.example.net", *arguments])
        return options.config.services[0]

    def test_theOptionIsAlways(self) -> None:
        self.assertEqual(self.service("http", "3000", "--name", "a").http2, "auto")
        self.assertEqual(self.service("http", "3000", "--http2", "--name", "a").http2, "always")

    def test_theSchemeNamesHTTP2(self) -> None:
        target = Target("h2c://app.internal", "http")
        self.assertEqual((target.authority, target.h2c, target.secure), ("app.internal:80", True, False))
        self.assertFalse(Target("http://app.internal", "http").h2c)
