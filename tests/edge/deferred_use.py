"""
An edge for development in a process of its own, where every part that is loaded late is used once: C{python -m
tests.edge.deferred_use patient|impatient}.

It prints one line of JSON: what was loaded before and after, and what was answered.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

from attrs import evolve
from twisted.internet.address import IPv4Address

from tunnelstack.control.auth.token_store import TOKENS_FILE, TokenStore
from tunnelstack.control.config.dev_edge import readDevEdge, writeDevEdge
from tunnelstack.control.config.records import EdgeAddress, EdgeConfig, Route
from tunnelstack.control.config.upkeep import HealthCheck
from tunnelstack.dialect.session_tunnel import SessionTunnel
from tunnelstack.edge.deferred import DEFERRED
from tunnelstack.edge.service import EdgeService
from tunnelstack.interfaces import IReactor
from tunnelstack.records import UDPPurpose
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.testing import Caller, Network

PORT, SOCKET = 8080, 9000


class Machine(Network):
    """
    A network on which the Unix socket has a port.

    @ivar datagrams: the protocol of the latest UDP port.
    """

    datagrams: Any = None

    def listenUNIX(self, address: str, factory: Any, **options: Any) -> Any:
        return self.listenTCP(SOCKET, factory)

    def listenUDP(self, port: int, protocol: Any, *arguments: Any, **options: Any) -> Mock:
        self.datagrams = protocol
        return Mock()


class UsedEdge:
    """
    The edge.

    @ivar answers: the first line and the body of each response, in the order of the requests.
    """

    def __init__(self, folder: Path, patient: bool) -> None:
        self._network = Machine()
        self._state = StateDirectory(folder)
        self._config = EdgeConfig(listen=(f"tcp:{PORT}",), stateDirectory=str(folder), dev=True)
        self._edge = EdgeService(cast(IReactor, self._network), self._config, patient=patient)
        self._edge.startService()
        self._network.settle()
        self.answers: list[tuple[str, str]] = []

    def use(self) -> None:
        """
        Use everything that is loaded late.
        """
        for port, path in ((SOCKET, "/ready"), (SOCKET, "/agents"), (PORT, "/")):
            self._ask(port, path)
        routes = (Route(host="shop.example", to="shop", visitors=("allow 10.0.0.0/8",)),)
        self._edge.reload(evolve(self._config, routes=routes))
        self._ask(PORT, "/", "shop.example")
        self._edge.report()
        self._edge.agents.udpPorts._listen(2000, "game", "")
        self._network.datagrams.datagramReceived(b"x", ("10.0.0.1", 4000))
        SessionTunnel.datagramEndpointFor(Mock(), UDPPurpose(service="game"))
        self._edge.roundTrips.of(0)
        self._edge.health._target(Mock(), HealthCheck(to="shop"), "shop", "shop.example")
        writeDevEdge(self._state, EdgeAddress(url="http://localhost:1", token="ts_0123abcd_secretsecretsecret"))
        readDevEdge(self._state)
        self._state.write(TOKENS_FILE, "")
        TokenStore(self._state).read()

    def _ask(self, port: int, path: str, host: str = "localhost") -> None:
        caller = Caller()
        self._network.join(caller, self._network.ports[port].factory, IPv4Address("TCP", "127.0.0.1", port))
        caller.transport.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        self._network.passTime(1)
        head, _, body = caller.got.decode().partition("\r\n\r\n")
        self.answers.append((head.partition("\r\n")[0], body))


def main() -> None:
    """
    Use an edge.
    """
    for name in DEFERRED:                     # what this module itself needs has loaded some of them
        sys.modules.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        used = UsedEdge(Path(folder), sys.argv[1] == "patient")
        before = set(sys.modules)
        used.use()
        sys.stdout.write(json.dumps({"before": sorted(before), "after": sorted(sys.modules), "answers": used.answers}) + "\n")


if __name__ == "__main__":
    main()
