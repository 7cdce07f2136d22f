"""
Targets, as people write them.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.agent.target import Target, failureReason, probe
from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.host_endpoint import LocalhostEndpoint


class TargetTests(SynchronousTestCase):
    """
    From text to an endpoint.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()

    def test_portsAndHosts(self) -> None:
        for text, shown in (
            ("3000", "tcp:localhost:3000"),
            ("localhost:3000", "tcp:localhost:3000"),
            ("tcp:3000", "tcp:localhost:3000"),
            ("10.0.0.1:80", "tcp:10.0.0.1:80"),
            ("db.internal:5432", "tcp:db.internal:5432"),
            ("[::1]:80", "tcp:[::1]:80"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("tcp:host=10.0.0.1:port=80", "tcp:host=10.0.0.1:port=80"),
        ):
            target = Target(text)
            target.endpoint(self.reactor)
            self.assertEqual(target.shown, shown)
            self.assertEqual(target.authority, shown[4:] if "=" not in shown and shown.startswith("tcp") else "")

    def test_endpoints(self) -> None:
        for text, kind in (("3000", LocalhostEndpoint), ("10.0.0.1:80", TCP4ClientEndpoint), ("unix:/x", UNIXClientEndpoint)):
            self.assertIsInstance(Target(text).endpoint(self.reactor), kind)

    def test_mistakesAreSentences(self) -> None:
        for text in ("0", "65536", "localhost:0", "localhost:99999", "nonsense", "unix", "no such:thing:at all", "tcp:a:b"):
            with self.assertRaises(ConfigurationError, msg=text):
                Target(text).endpoint(self.reactor)


class ProbeTests(SynchronousTestCase):
    """
    Whether somebody listens.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.probed = probe(Target("127.0.0.1:3000").endpoint(self.reactor), self.reactor)
        self.connector = self.reactor.tcpClients[0]

    def test_whoListensIsLeftAlone(self) -> None:
        aborted: list[bool] = []

        class Transport:
            def abortConnection(self) -> None:
                aborted.append(True)

        factory: Any = self.connector[2]
        factory.buildProtocol(None).makeConnection(Transport())
        self.assertEqual((self.successResultOf(self.probed), aborted), ("", [True]))

    def test_nobodyListens(self) -> None:
        self.connector[2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.assertEqual(self.successResultOf(self.probed), "nothing listens")

    def test_nobodyAnswers(self) -> None:
        self.reactor.connectors[0].stopConnecting = lambda: None
        self.reactor.advance(3)
        self.assertEqual(self.successResultOf(self.probed), "no answer")


class WhyTests(SynchronousTestCase):
    """
    Failures to connect, in words.
    """

    def test_words(self) -> None:
        for error, words in (
            (ConnectionRefusedError(), "nothing listens"), (TimeoutError(), "no answer"),
            (DNSLookupError(), "the host name cannot be resolved"),
            (ZeroDivisionError(), "it cannot be reached (ZeroDivisionError)"),
        ):  # fmt: skip
            self.assertEqual(failureReason(Failure(error)), words)
