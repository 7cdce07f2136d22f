"""
C{tunnelstack demo}, as its first user meets it.
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.ports import freePort
from tests.system.stage import Program, Stage, until


class DemoTests(Stage):
    """
    Three processes, and an end.
    """

    def demo(self, *arguments: str, **environ: str) -> Program:
        program = self.program("tunnelstack", "demo", *arguments, **environ)
        self.addCleanup(lambda: program.process.poll() is None and program.end(signal.SIGTERM))
        return program

    def started(self) -> Program:
        self.port = freePort()
        demo = self.demo(DEMO_PORT=str(self.port))
        demo.hears("^Ctrl-C stops all three")
        return demo

    def children(self, program: Program) -> list[str]:
        tasks = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children")
        if not tasks.exists():
            raise SkipTest("this system does not say who started whom")
        return tasks.read_text().split()

    def test_showsAPageThroughATunnel(self) -> None:
        self.started()
        page = self.visit("demo")
        self.assertEqual(page.status, 200)
        self.assertIn(b"This page came through a tunnel", page.body)
        self.assertIn(b"X-Forwarded-For", page.body)
        self.assertEqual(len(self.visit("demo", "/octets/3000000").body), 3_000_000)
        self.assertEqual(self.visit("demo", "/echo", method="POST", body=b"there and back").body, b"there and back")

    def test_endsWithEverythingItStarted(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            demo = self.started()
            children = self.children(demo)
            self.assertEqual(len(children), 3)
            self.assertEqual(demo.end(number), 0, demo.said())
            until(lambda left=children: not any(os.path.exists(f"/proc/{child}") for child in left))

    def test_itsProcessesEndWithItEvenIfItIsKilled(self) -> None:
        """
        The kind of H1: a process that nobody can see any more serves the public no more.
        """
        demo = self.started()
        children = self.children(demo)
        demo.tell(signal.SIGKILL)
        until(lambda: not any(os.path.exists(f"/proc/{child}") for child in children))

    def test_aTakenPortIsNamed(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
            demo = self.demo("--port", str(port))
            self.assertEqual(demo.ends(), 75, demo.said())
        self.assertIn(f"port {port} is taken", demo.said())

    def test_aPartThatEndsEndsTheDemo(self) -> None:
        demo = self.started()
        os.kill(int(self.children(demo)[1]), signal.SIGKILL)
        self.assertNotEqual(demo.ends(), 0)
        self.assertIn("has ended unexpectedly; stopping the demo", demo.said())

    def test_wrongArgumentsAreRejected(self) -> None:
        for arguments in (("--port", "many"), ("--port", "70000"), ("what",)):
            self.assertEqual(self.demo(*arguments).ends(), 64)
