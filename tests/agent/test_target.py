"""
Targets, as people write them.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
)
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

    def test_portsAndHostsBecomeEndpoints(self) -> None:
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

    def test_whatPeopleTypeIsATarget(self) -> None:
        """
        The kind: a place that a person copies from a browser or from a server's output, or types without thinking.
        """
        for kind, text, shown in (
            ("http", ":3000", "tcp:localhost:3000"), ("http", "localhost", "tcp:localhost:80"),
            ("http", "http://localhost:3000", "tcp:localhost:3000"), ("http", "HTTP://LocalHost:3000/", "tcp:LocalHost:3000"),
            ("http", "http://localhost", "tcp:localhost:80"), ("http", "http://:3000", "tcp:localhost:3000"),
            ("http", "http://[::1]:3000/", "tcp:[::1]:3000"), ("http", "::1", "tcp:[::1]:80"),
            ("http", "localhost:3000/", "tcp:localhost:3000"), ("http", "10.0.0.1", "tcp:10.0.0.1:80"),
            ("http", "inner.example.net", "tcp:inner.example.net:80"), ("http", "ws://localhost:3000", "tcp:localhost:3000"),
            ("http", "https://localhost:8443", "https://localhost:8443"), ("http", "https://a.net", "https://a.net:443"),
            ("http", "wss://a.net", "https://a.net:443"),
            ("tcp", ":22", "tcp:localhost:22"), ("tcp", "tcp://10.0.0.1:5432", "tcp:10.0.0.1:5432"),
            ("ssh", "10.0.0.1", "tcp:10.0.0.1:22"), ("ssh", "ssh://10.0.0.1", "tcp:10.0.0.1:22"),
            ("ssh", "localhost:2222", "tcp:localhost:2222"),
        ):  # fmt: skip
            target = Target(text, kind)
            target.endpoint(self.reactor)
            self.assertEqual((target.shown, target.secure), (shown, shown.startswith("https:")), text)

    def test_invalidTargetsAreRejected(self) -> None:
        for kind, text, told in (
            ("http", "http://localhost/app", "leave out the path"), ("http", "localhost:3000/app", "leave out the path"),
            ("http", "http://localhost:3000?a", "leave out the path"), ("http", "http://a:b@localhost", "without a user"),
            ("http", "http://", "http://HOST:PORT"), ("http", "http:///app", "http://HOST:PORT"),
            ("http", "http://localhost:99999", "the port must be"), ("http", "ftp://localhost", "of the kind http takes"),
            ("http", ":0", "the port must be"), ("http", "nonsense", "is not a target"),
            ("tcp", "http://localhost:80", "publish it as the kind http"), ("tcp", "localhost", "it has no port"),
            ("tcp", "tcp://localhost", "it has no port"), ("ssh", "https://a.net", "publish it as the kind http"),
        ):  # fmt: skip
            with self.assertRaises(ConfigurationError, msg=text) as caught:
                Target(text, kind).endpoint(self.reactor)
            self.assertIn(told, str(caught.exception))
            self.assertIn("is not a target" if "web server" not in str(caught.exception) else text, str(caught.exception))

    @given(st.one_of(st.text(max_size=30), st.from_regex(r"[a-z]{0,5}(://)?[a-z0-9.:\[\]@/?#-]{0,20}", fullmatch=True)))
    def test_everyTextIsATargetOrASentence(self, text: str) -> None:
        for kind in ("http", "tcp", "ssh"):
            try:
                target = Target(text, kind)
                target.endpoint(self.reactor)
            except ConfigurationError:
                continue
            self.assertTrue(target.shown)

    def test_eachFormOfATargetHasItsEndpoint(self) -> None:
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

    def test_aProbeReportsThatNothingListens(self) -> None:
        self.connector[2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.assertEqual(self.successResultOf(self.probed), "nothing listens")

    def test_aProbeEndsWithoutAnAnswer(self) -> None:
        self.reactor.connectors[0].stopConnecting = lambda: None
        self.reactor.advance(3)
        self.assertEqual(self.successResultOf(self.probed), "no answer")


class WhyTests(SynchronousTestCase):
    """
    Failures to connect, in words.
    """

    def test_eachFailureHasItsWords(self) -> None:
        for error, words in (
            (ConnectionRefusedError(), "nothing listens"), (TimeoutError(), "no answer"),
            (DNSLookupError(), "the host name cannot be resolved"),
            (ConnectError(101, "Network is unreachable"), "it cannot be reached: Network is unreachable"),
            (ConnectionLost(), "the connection was lost"),
        ):  # fmt: skip
            self.assertEqual(failureReason(Failure(error)), words)
