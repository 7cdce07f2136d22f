"""
C{dev.toml}: which of several edges agents with C{--dev} find.

The kind of H2: a file that says where a process is belongs to the process that holds the lock, and to no other; it is gone when
that process is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config.dev_edge import readDevEdge
from tunnelstack.control.config.records import EdgeConfig
from tunnelstack.edge.admin import RETRY_SECONDS
from tunnelstack.edge.dev_file import DevEdgeFile
from tunnelstack.edge.service import EdgeService
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.testing import Network


class Machine(Network):
    """
    A network on which a Unix socket belongs to the first that listens, until it stops.
    """

    held = False

    def listenUNIX(self, address: str, factory: Any, *arguments: Any, **options: Any) -> Any:
        if self.held:
            raise CannotListenError(None, address, "Cannot acquire lock")
        self.held = True
        return self

    def stopListening(self) -> None:
        self.held = False


class DevEdgeFileTests(SynchronousTestCase):
    """
    Edges of one user on one machine.
    """

    def setUp(self) -> None:
        self.machine = Machine()
        self.state = StateDirectory(Path(self.mktemp()).absolute())

    def start(self, port: int) -> tuple[EdgeService, DevEdgeFile]:
        config = EdgeConfig(
            listen=(f"tcp:{port}:interface=127.0.0.1",), stateDirectory=str(self.state.folder), drainSeconds=1
        )
        edge = EdgeService(self.machine, config, authenticator=object())  # type: ignore[arg-type]
        file = DevEdgeFile(edge, self.state, f"token-{port}")
        for service in (edge, file):
            service.startService()
        self.machine.passTime(0.1)
        return edge, file

    def stop(self, edge: EdgeService, file: DevEdgeFile) -> None:
        for service in (file, edge):
            service.stopService()
        self.machine.passTime(2)

    def found(self) -> str:
        edge = readDevEdge(self.state)
        return "" if edge is None else edge.url

    def test_theFileIsThereAsLongAsTheEdge(self) -> None:
        edge, file = self.start(8080)
        self.assertEqual(self.found(), "http://localhost:8080")
        file.stopService()
        self.assertEqual(self.found(), "", "an edge that drains accepts no more agents")
        self.stop(edge, file)

    def test_theFirstOwnsIt(self) -> None:
        first, second = self.start(8080), self.start(9000)
        self.assertEqual(self.found(), "http://localhost:8080")
        self.stop(*second)
        self.assertEqual(self.found(), "http://localhost:8080")
        self.stop(*first)
        self.assertEqual(self.found(), "")

    def test_theNextOneTakesItOver(self) -> None:
        first, second = self.start(8080), self.start(9000)
        self.stop(*first)
        self.machine.passTime(RETRY_SECONDS)
        self.assertEqual(self.found(), "http://localhost:9000")
        self.stop(*second)
        self.assertEqual((self.found(), self.machine.held), ("", False))

    def test_oneThatStopsTakesNothingOver(self) -> None:
        first, second = self.start(8080), self.start(9000)
        self.stop(*second)
        self.stop(*first)
        self.machine.passTime(2 * RETRY_SECONDS)
        self.assertEqual((self.found(), self.machine.held), ("", False))
