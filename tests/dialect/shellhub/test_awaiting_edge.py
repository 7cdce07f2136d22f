"""
An edge for development: ShellHub is loaded when the first device comes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.shellhub.support import PORT, TENANT, Hub
from tunnelstack.control.config.records import EdgeConfig
from tunnelstack.dialect.shellhub import device_book, rsa_keys
from tunnelstack.dialect.shellhub.defaults import developmentTables
from tunnelstack.dialect.shellhub.edge import KEPT, AwaitingEdge, makeDialects
from tunnelstack.dialect.shellhub.hub import ShellHubEdge
from tunnelstack.dialect.shellhub.settings import EdgeSettings
from tunnelstack.edge.service import EdgeService
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.state_dir import StateDirectory


class AwaitingHub(Hub):
    """
    An edge of which no device has asked anything.
    """

    def __init__(self, patient: bool = True) -> None:
        super().__init__()
        self.stop()
        config = EdgeConfig(listen=(f"tcp:{PORT}",), dialects={"shellhub": developmentTables()}, dev=True)
        self.edge = EdgeService(self.network, config, patient=patient)
        self.edge.startService()
        self.settle()

    @property
    def dialect(self) -> Any:
        """
        That of ShellHub.
        """
        return next(each for each in self.edge.dialects if each.name == "shellhub")


class AwaitingEdgeTests(SynchronousTestCase):
    def hub(self) -> AwaitingHub:
        hub = AwaitingHub()
        self.addCleanup(hub.stop)
        return hub

    def test_nothingIsLoadedBeforeADeviceComes(self) -> None:
        dialect = self.hub().dialect
        self.assertIsInstance(dialect, AwaitingEdge)
        self.assertIsNone(dialect.keyFor("device"))
        dialect.close()
        self.assertNotIn("_loaded", vars(dialect))

    def test_anEdgeThatMayNotWaitLoadsItAtOnce(self) -> None:
        hub = AwaitingHub(patient=False)
        self.addCleanup(hub.stop)
        self.assertIn("_loaded", vars(hub.dialect))
        self.assertIsNotNone(hub.dialect.hub.connections.edge)

    def test_theFirstDeviceIsServed(self) -> None:
        for version in (1, 2):
            with self.subTest(version=version):
                hub = self.hub()
                device = hub.device(version)
                self.assertIsNotNone(hub.dialect.hub.connections.find(TENANT, device.uid))
                hub.stop()

    def test_theDoorsAndTheAdministrationAreThoseOfTheHub(self) -> None:
        hub = self.hub()
        awaiting = hub.dialect
        made = awaiting.hub
        self.assertIsInstance(made, ShellHubEdge)

        def described(dialect: Any) -> set[tuple[bytes, bytes, bool]]:
            return {(door.path, door.method, door.prefix) for door in dialect.doors(hub.edge.agents)}

        self.assertEqual(described(awaiting), described(made))
        self.assertEqual(awaiting.getHandlers.keys(), made.getHandlers.keys())
        self.assertEqual(awaiting.postHandlers.keys(), made.postHandlers.keys())
        self.assertEqual(set(KEPT), {device_book.FILE, rsa_keys.FILE})

    def test_theAdministrationMayComeFirst(self) -> None:
        hub = self.hub()
        self.assertEqual(hub.dialect.getHandlers[b"/devices"](), {"devices": []})
        hub.device()
        (device,) = hub.dialect.getHandlers[b"/devices"]()["devices"]
        self.assertEqual(device["status"], "accepted")

    def test_anEdgeWaitsUnlessDevicesCameBefore(self) -> None:
        state = StateDirectory(Path(self.mktemp()))
        edge: Any = Mock(clock=Clock(), state=state, authority="edge:80", sshAddress=lambda: "")
        (awaiting,) = makeDialects(edge, developmentTables())
        self.assertIsInstance(awaiting, AwaitingEdge)
        self.assertFalse(state.folder.exists())
        rsa_keys.signingKey(state)
        (hub,) = makeDialects(edge, developmentTables())
        self.assertIsInstance(hub, ShellHubEdge)
        state.remove("signing.pem")
        state.write("devices.json", "[]")
        self.assertIn("devices.json", str(self.assertRaises(ConfigurationError, makeDialects, edge, developmentTables())))

    def test_anEdgeThatIsConfiguredForDevicesDoesNotWait(self) -> None:
        edge: Any = Mock(clock=Clock(), state=None, authority="edge:80", sshAddress=lambda: "")
        (hub,) = makeDialects(edge, {"shellhub": (EdgeSettings(),)})
        self.assertIsInstance(hub, ShellHubEdge)
