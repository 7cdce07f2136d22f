"""
The page of metrics is made from the table in the code, and the dashboard asks only for metrics that exist.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.metrics.families import FAMILIES, PER_SERVICE, PROCESS

DOCS = Path(__file__).resolve().parent.parent / "docs"
DASHBOARD = DOCS / "dashboards" / "tunnelstack.json"

NAMES = {name for family in (*FAMILIES, *PER_SERVICE) for name in family.sampleNames} | set(PROCESS)


def script() -> Any:
    """
    C{docs/metrics.py}, loaded.
    """
    spec = importlib.util.spec_from_file_location("metrics", DOCS / "metrics.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PageTests(SynchronousTestCase):
    """
    docs/reference/metrics.md.
    """

    def test_thePageIsWhatTheCodeSays(self) -> None:
        written = (DOCS / "reference" / "metrics.md").read_text()
        self.assertEqual(written, script().page(), "run: python docs/metrics.py")


class DashboardTests(SynchronousTestCase):
    """
    docs/dashboards/tunnelstack.json.
    """

    def setUp(self) -> None:
        self.dashboard = json.loads(DASHBOARD.read_text())

    def expressions(self) -> Iterator[str]:
        for panel in self.dashboard["panels"]:
            yield from (target["expr"] for target in panel.get("targets", ()))

    def test_everyMetricExists(self) -> None:
        wrong = {
            name for text in self.expressions() for name in re.findall(r"\b(?:tunnelstack|process)_\w+", text)
        } - NAMES  # fmt: skip
        self.assertEqual(wrong, set())
        variable = self.dashboard["templating"]["list"][1]["query"]["query"]
        self.assertIn(re.findall(r"tunnelstack_\w+", variable)[0], NAMES)

    def test_countersAreShownAsRatesOnly(self) -> None:
        for text in self.expressions():
            for name in re.findall(r"\w+_total\b", text):
                self.assertRegex(text, rf"rate\({name}\{{")

    def test_everyLabelExists(self) -> None:
        labels = {label for family in (*FAMILIES, *PER_SERVICE) for label in family.labels} | {"instance", "le"}
        for text in self.expressions():
            for group in re.findall(r"by \(([^)]*)\)", text):
                self.assertLessEqual(set(re.split(r", *", group)), labels, text)

    def test_everyPanelHasAPlaceOfItsOwn(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in self.dashboard["panels"]:
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            self.assertFalse(cells & taken, panel["title"])
            taken |= cells
        self.assertEqual(len({panel["id"] for panel in self.dashboard["panels"]}), len(self.dashboard["panels"]))
