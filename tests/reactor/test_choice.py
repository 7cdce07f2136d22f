"""
Which reactor a program of ours runs on: looked at in processes of their own, since a process has one.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from importlib.util import find_spec
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

EDGE = """
import sys
from tunnelstack.commands import main
main.runReactor = lambda reactor, *rest: print(type(reactor).__name__)
sys.argv = ["tunnel-edge", "--dev"]
main.tunnelEdge()
"""

LOADED = """
import os, sys
from tunnelstack.reactor import choice
choice.install(os.environ)
print(sorted({"unittest", "twisted.application", "twisted.plugins"} & set(sys.modules)))
"""

SAID = """
import os
from tunnelstack.reactor import choice
choice.install(os.environ)
choice.install(os.environ)
from twisted.internet import reactor
print(type(reactor).__name__)
"""


def said(script: str = SAID, **environ: str) -> str:
    """
    @param script: what to run.
    @return: the name of the reactor's class, or the last line of what went wrong.
    """
    kept = {name: value for name, value in os.environ.items() if name != "TUNNELSTACK_REACTOR"}
    run = subprocess.run([sys.executable, "-c", script], env=kept | environ, capture_output=True, text=True, timeout=60)
    return (run.stdout or run.stderr).strip().splitlines()[-1]


class ChoiceTests(SynchronousTestCase):
    """
    By the environment.
    """

    @skipUnless(hasattr(select, "epoll"), "this system has no epoll")
    def test_unlessSomethingElseIsSaid(self) -> None:
        self.assertEqual(said(), "BusyPollReactor")
        self.assertEqual(said(TUNNELSTACK_REACTOR=""), "BusyPollReactor")

    @skipUnless(hasattr(select, "epoll"), "this system has no epoll")
    def test_ourProgramsAsk(self) -> None:
        self.assertEqual(said(EDGE), "BusyPollReactor")
        self.assertEqual(said(EDGE, TUNNELSTACK_REACTOR="poll"), "PollReactor")

    def test_anyReactorOfTwistedMayBeChosen(self) -> None:
        self.assertEqual(said(TUNNELSTACK_REACTOR="select"), "SelectReactor")

    @skipUnless(find_spec("uvloop"), "uvloop is not installed")
    def test_uvloopCanBeChosen(self) -> None:
        self.assertEqual(said(TUNNELSTACK_REACTOR="uvloop"), "AsyncioSelectorReactor")

    @skipUnless(hasattr(select, "epoll"), "this system has no epoll")
    def test_pluginsAreNotSearchedForOurs(self) -> None:
        self.assertEqual(said(LOADED, TUNNELSTACK_REACTOR="busypoll"), "[]")

    def test_oneThatIsNotThere(self) -> None:
        words = said(TUNNELSTACK_REACTOR="bussypoll")
        self.assertIn("TUNNELSTACK_REACTOR: there is no reactor 'bussypoll'; the reactors are asyncio, ", words)
        self.assertIn("busypoll", words)

    def test_oneThatDoesNotWorkHere(self) -> None:
        self.assertIn("TUNNELSTACK_REACTOR: cf does not work here: ", said(TUNNELSTACK_REACTOR="cf"))
