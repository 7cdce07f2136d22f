"""
The numbers of C{[godoxy]} and C{[[godoxy.service]]}: what becomes different when one is changed.
"""

from __future__ import annotations

import json
from base64 import b64decode

from twisted.internet.defer import Deferred

from tests.changed_settings import changes
from tests.dialect.godoxy.edge_support import AgentDouble, GodoxyEdgeCase, tcp, web
from tunnelstack.dialect.godoxy.edge_agent import DOWN, UP


class EdgeLimitTests(GodoxyEdgeCase):
    """
    What an agent notices, or its operator.
    """

    @changes("edge [godoxy] health_seconds")
    def test_healthSecondsApply(self) -> None:
        for seconds, examinations in ((30.0, 4), (10.0, 12)):
            double = AgentDouble(self.network)
            self.begin(web(), healthSeconds=seconds)
            before = len(double.asked("/health"))
            self.network.passTime(120)
            self.assertIn(len(double.asked("/health")) - before, (examinations - 1, examinations))
            self.end()
            double.stop()

    @changes("edge [godoxy] probe_seconds")
    def test_probeSecondsApply(self) -> None:
        """
        An agent that was never reached and does not answer is reported after so long.
        """
        for seconds in (5.0, 2.0):
            double = AgentDouble(self.network)
            double.answers["/info"] = lambda request: Deferred()
            self.begin(web(), probeSeconds=seconds)
            self.network.passTime(seconds - 0.5, 0.5)
            self.assertEqual(self.report()["reason"], "")
            self.network.passTime(1, 0.5)
            self.assertEqual(self.report()["state"], DOWN)
            self.assertIn(f"not answered within {seconds:g} seconds", self.report()["reason"])
            self.end()
            double.stop()

    @changes("edge [[godoxy.service]] response_seconds")
    def test_responseSecondsAreSent(self) -> None:
        """
        It is the agent that waits; the edge sends it the number with each request, in nanoseconds.
        """
        for seconds in (0.0, 3.0):
            double = AgentDouble(self.network)
            self.begin(web(responseSeconds=seconds))
            self.assertEqual(self.report()["state"], UP)
            self.get("wiki.edge.test")
            config = double.asked("/proxy/http")[-1].head.field(b"x-proxy-config")
            assert config is not None
            self.assertEqual(json.loads(b64decode(config)).get("response_header_timeout", 0), seconds * 10**9)
            self.end()
            double.stop()

    @changes("edge [godoxy] ending_seconds")
    def test_aVisitorThatHasEndedWaitsSoLongForOctets(self) -> None:
        agent = AgentDouble(self.network)
        self.begin(tcp(), endingSeconds=20.0)
        visitor = self.visit(b"x", 25565)
        visitor.transport.loseWriteConnection()
        self.network.passTime(15)
        agent.streams[0].transport.write(b"late")
        self.network.passTime(19)
        self.assertEqual((visitor.got, visitor.lost), (b"late", None))
        self.network.passTime(22)
        self.assertIsNotNone(visitor.lost)
