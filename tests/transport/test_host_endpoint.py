"""
From a host and a port to a connection.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ClientEndpoint,
    TCP6ServerEndpoint,
)
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import TestCase

from tunnelstack.transport.host_endpoint import LocalhostEndpoint, hostEndpoint, isLocalhost


class DialTests(TestCase):
    def test_namesOfThisMachineAreRecognized(self) -> None:
        for name in ("localhost", "LOCALHOST.", "app.localhost", "a.b.Localhost"):
            self.assertTrue(isLocalhost(name))
        for name in ("localhost.example", "notlocalhost", "127.0.0.1", ""):
            self.assertFalse(isLocalhost(name))

    def test_eachHostHasItsEndpoint(self) -> None:
        memory: Any = MemoryReactor()
        for host, kind in (
            ("192.0.2.1", TCP4ClientEndpoint),
            ("2001:db8::1", TCP6ClientEndpoint),
            ("edge.example", HostnameEndpoint),
            ("x.localhost", LocalhostEndpoint),
        ):
            self.assertIs(type(hostEndpoint(memory, host, 80)), kind)

    @inlineCallbacks
    def _reach(self, server: Any) -> Generator[Any, Any, None]:
        port = yield server.listen(Factory.forProtocol(Protocol))
        self.addCleanup(port.stopListening)
        protocol = yield hostEndpoint(reactor, "some.localhost", port.getHost().port).connect(
            Factory.forProtocol(Protocol)
        )
        self.assertEqual(protocol.transport.getPeer().host, port.getHost().host)
        protocol.transport.abortConnection()

    def test_localhostIsIPv4(self) -> Any:
        return self._reach(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))

    def test_localhostIsIPv6WhereNothingElseListens(self) -> Any:
        return self._reach(TCP6ServerEndpoint(reactor, 0, interface="::1"))

    @inlineCallbacks
    def test_aPortThatIsClosedRefuses(self) -> Generator[Any, Any, None]:
        port = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Protocol))
        number = port.getHost().port
        yield port.stopListening()
        yield self.assertFailure(
            hostEndpoint(reactor, "localhost", number).connect(Factory.forProtocol(Protocol)), ConnectError
        )
