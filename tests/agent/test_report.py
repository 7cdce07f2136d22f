"""
The state of an agent, in its log.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config.records import ServiceConfig
from tunnelstack.testing import EdgeAndAgent


class ReportTests(SynchronousTestCase):
    """
    What SIGUSR2 asks for.
    """

    def test_sessionsAndServicesAreReported(self) -> None:
        both = EdgeAndAgent(ServiceConfig(name="site", target="3000"))
        both.start()
        before, up = self.reported(both), {"edge": "localhost:8080", "up": True, "streams": 1}
        self.assertEqual(before[0] | up, before[0])
        self.assertEqual(before[1], {"service": "http:site", "granted": True, "url": "http://site.localhost:8080"})
        both.edge.stopService()
        both.network.passTime(40)
        self.assertEqual(
            self.reported(both),
            [
                {"edge": "localhost:8080", "dialect": "tunnelstack/1", "up": False},
                {"service": "http:site", "granted": False, "url": ""},
            ],
        )
        both.agent.stopService()

    def reported(self, both: EdgeAndAgent) -> list[Any]:
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        try:
            both.agent.report()
        finally:
            globalLogPublisher.removeObserver(events.append)
        return [event["report"] for event in events if event.get("status") == "state"]
