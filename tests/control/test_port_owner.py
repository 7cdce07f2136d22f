"""
The holder of a port, on the running system.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tunnelstack.control.process.port_owner import PROC, portOwner


class HolderTests(SynchronousTestCase):
    """
    A port of this very process, and ports of nobody.
    """

    def test_theProcessThatHoldsThePortIsNamed(self) -> None:
        if not (PROC / "net" / "tcp").exists():
            raise SkipTest("this system does not say who holds a port")
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with self.subTest(host), socket.socket(family) as held:
                try:
                    held.bind((host, 0))
                except OSError:
                    continue
                held.listen()
                self.assertTrue(portOwner(held.getsockname()[1]).endswith(f", process {os.getpid()}"))

    def test_aConnectionIsNoHolder(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            self.assertEqual(portOwner(client.getsockname()[1]), "")

    def test_aSystemThatDoesNotSay(self) -> None:
        self.assertEqual(portOwner(1, Path(self.mktemp())), "")
