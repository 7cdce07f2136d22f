"""
The promises of tunnels, by both versions of ShellHub.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.shellhub.support import TENANT, Hub
from tests.promises.tunnels import WEB, TunnelPromises
from tunnelstack.records import HTTPPurpose


class Version2Tests(TunnelPromises, SynchronousTestCase):
    """
    Streams of yamux.
    """

    purpose = HTTPPurpose(port=WEB)
    version = 2

    def connectTunnel(self) -> Any:
        hub = Hub(self.cut)
        self.useNetwork(hub.network)
        self.addCleanup(hub.stop)
        return hub.connections.find(TENANT, hub.device(self.version).uid)


class Version1Tests(Version2Tests):
    """
    A WebSocket for each stream.
    """

    version = 1


class CutVersion1Tests(Version1Tests):
    cut = 1000


class CutVersion2Tests(Version2Tests):
    cut = 1000
