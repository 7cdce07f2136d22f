"""
What an edge for development loads late: it works when it is needed, and no other edge loads anything late.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config.records import EdgeConfig
from tunnelstack.edge.admin import AdminService
from tunnelstack.edge.deferred import DEFERRED

ROOT = Path(__file__).resolve().parent.parent.parent


def useEdge(how: str) -> dict[str, Any]:
    """
    @param how: C{patient} or C{impatient}.
    @return: what L{tests.edge.deferred_use} prints.
    """
    command = [sys.executable, "-m", "tests.edge.deferred_use", how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class DeferredTests(SynchronousTestCase):
    """
    In a process for each edge, because this one has loaded everything.
    """

    def assertAnswered(self, answers: list[list[str]]) -> None:
        ready, agents, page, shop = answers
        self.assertEqual([first for first, _ in answers[:3]], ["HTTP/1.1 200 OK"] * 3)
        self.assertEqual(json.loads(ready[1]), {"ready": True, "state": "ready"})
        self.assertEqual(json.loads(agents[1])["agents"], [])
        self.assertIn("No service is up.", page[1])
        self.assertEqual(shop[0], "HTTP/1.1 403 Forbidden", "the policy of the new route holds")

    def test_whatIsLoadedLateWorksTheFirstTime(self) -> None:
        used = useEdge("patient")
        self.assertAnswered(used["answers"])
        self.assertEqual(set(DEFERRED) & set(used["before"]), set())
        self.assertEqual(set(DEFERRED) - set(used["after"]), set(), "each of them is used there")

    def test_anEdgeThatMayNotWaitLoadsNothingLater(self) -> None:
        used = useEdge("impatient")
        self.assertAnswered(used["answers"])
        late = set(used["after"]) - set(used["before"])
        self.assertEqual(late, set())

    def test_aFactoryThatCannotBeLoadedIsNotForgotten(self) -> None:
        """
        The port logs what C{buildProtocol} raises, and the next connection tries again.
        """
        clock = Mock()
        edge = Mock(clock=clock, config=EdgeConfig(listen=(), stateDirectory=os.path.abspath(self.mktemp())))
        admin = AdminService(edge)
        admin.listen()
        self.addCleanup(admin.stopService)
        factory, made = clock.listenUNIX.call_args.args[1], Mock()
        self.patch(factory, "_make", Mock(side_effect=[ImportError("no such file"), made]))
        self.assertRaises(ImportError, factory.buildProtocol, None)
        self.assertIs(factory.buildProtocol(None), made.buildProtocol.return_value)
