"""
Local servers that do not answer: they are logged once, and once more when they answer again.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.agent.local_server import LocalServer
from tunnelstack.control.config.records import ServiceConfig
from tunnelstack.testing import EdgeAndAgent


class LocalServerTests(SynchronousTestCase):
    """
    One server.
    """

    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.server = LocalServer("db", "tcp:localhost:5432", "so")
        self.server.log = Logger("tunnelstack.agent", observer=self.events.append)      # type: ignore[arg-type]

    def logged(self) -> list[tuple[str, bool]]:
        found = [(str(formatEvent(event)), event["down"]) for event in self.events]
        self.events.clear()
        return found

    def test_changesAreLogged(self) -> None:
        self.server.reached()
        self.assertEqual(self.logged(), [])
        for _ in range(3):
            self.server.failed(Failure(ConnectionRefusedError()))
        self.assertEqual(self.logged(), [("nothing listens on localhost:5432; so", True)])
        for _ in range(3):
            self.server.reached()
        self.assertEqual(self.logged(), [("localhost:5432 answers again", False)])
        self.server.failed(Failure(DNSLookupError()))
        self.assertEqual(self.logged(), [("cannot connect to localhost:5432: the host name cannot be resolved; so", True)])

    def test_aServerMayNotBeThereYet(self) -> None:
        self.server.notReached("nothing listens")
        self.assertEqual(self.logged(), [("nothing listens on localhost:5432 yet; so", True)])


class PublishedTests(SynchronousTestCase):
    """
    Services of connections, with an edge and an agent.
    """

    def test_aServiceIsDownUntilItsServerAnswers(self) -> None:
        for kind in ("tcp", "ssh"):
            both = EdgeAndAgent(ServiceConfig(name="db", kind=kind, target="5432"), allow=("tcp:*", "ssh", "dial:*"))
            events: list[dict[str, Any]] = []
            globalLogPublisher.addObserver(events.append)              # type: ignore[arg-type]
            self.addCleanup(globalLogPublisher.removeObserver, events.append)
            both.start()
            [served] = [entry.served for entry in both.agent._configured._entries.values()]
            self.assertEqual([event["down"] for event in events if "down" in event], [True], kind)
            both.network.listenTCP(5432, Factory.forProtocol(Protocol))
            assert served.server is not None
            self.assertEqual(served.server.down, "nothing listens")
            connecting = served.handler.connect(None)                  # type: ignore[union-attr]
            both.settle()
            self.successResultOf(connecting)
            self.assertEqual([event["down"] for event in events if "down" in event], [True, False], kind)
            globalLogPublisher.removeObserver(events.append)
            both.stop()
