"""
The page of configuration is made from the records, and its examples are files that can be used.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config.reader import AGENT_SECTIONS, EDGE_SECTIONS, parseAgent, parseEdge

DOCS = Path(__file__).resolve().parent.parent / "docs"


def script() -> Any:
    """
    C{docs/configuration.py}, loaded.
    """
    spec = importlib.util.spec_from_file_location("configuration", DOCS / "configuration.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PageTests(SynchronousTestCase):
    """
    docs/reference/configuration.md.
    """

    def test_thePageIsWhatTheRecordsSay(self) -> None:
        written = (DOCS / "reference" / "configuration.md").read_text()
        self.assertEqual(written, script().page(), "run: python docs/configuration.py")

    def test_everyTableIsThere(self) -> None:
        page = script().page()
        for sections in (EDGE_SECTIONS, AGENT_SECTIONS):
            for name, (_, many) in sections.items():
                self.assertIn(f"\n### {f'[[{name}]]' if many else f'[{name}]'}\n", page)

    def test_theExamplesCanBeUsed(self) -> None:
        edge = parseEdge((DOCS / "examples" / "edge.toml").read_text(), "edge.toml")
        self.assertEqual((len(edge.tokens), len(edge.certificates), len(edge.checkers), len(edge.routes)), (1, 1, 1, 1))
        agent = parseAgent((DOCS / "examples" / "agent.toml").read_text(), "agent.toml")
        self.assertEqual((len(agent.edges), len(agent.services)), (1, 2))

    def test_theExamplesAreOnThePage(self) -> None:
        page = (DOCS / "reference" / "configuration.md").read_text()
        for name in ("edge.toml", "agent.toml"):
            self.assertIn((DOCS / "examples" / name).read_text(), page)
