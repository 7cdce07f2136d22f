"""
What the programs load before they are ready: each part that is not used would cost every process its memory and its time.
"""

from __future__ import annotations

import re

from tests.system.stage import Program, Stage

HEAVY = (
    "twisted.web", "twisted.conch", "twisted.mail", "h2", "hpack", "opentelemetry", "sqlite3", "xml", "multiprocessing",
    "http.server", "httptools", "uvloop", "tunnelstack.demo", "tunnelstack.handler.ssh", "tunnelstack.transport.dtls",
    "tunnelstack.wire.http2.connection", "tunnelstack.exchange.http2_client", "tunnelstack.exchange.http2_server",
    "tunnelstack.control.tracing.otlp", "tunnelstack.edge.ssh.gateway", "tunnelstack.agent.inspector",
)
"""Modules and packages that are loaded when they are needed first."""

IMPORT = re.compile(r"import time: +\d+ \| +\d+ \| *(\S+)$")


class StartTests(Stage):
    """
    Programs in their default configuration.
    """

    def assertLight(self, program: Program) -> None:
        """
        Nothing of L{HEAVY} is loaded by a program that has reported that it is ready.
        """
        loaded = {match[1] for line in list(program.err) if (match := IMPORT.match(line))}
        self.assertIn("twisted.internet.ssl", loaded)
        self.assertEqual([name for name in sorted(loaded) if f"{name}.".startswith(tuple(f"{each}." for each in HEAVY))], [])

    def test_anEdgeLoadsNoPartThatItDoesNotUse(self) -> None:
        edge = self.startEdge(PYTHONPROFILEIMPORTTIME="1")
        self.assertLight(edge)
        self.assertNotIn("tunnelstack.agent.service", edge.said())

    def test_anAgentLoadsNoPartThatItDoesNotUse(self) -> None:
        self.startEdge()
        agent = self.startAgent("http", str(self.origin()), "--name", "site", PYTHONPROFILEIMPORTTIME="1")
        self.assertLight(agent)
        self.assertNotIn("tunnelstack.edge.service", agent.said())
