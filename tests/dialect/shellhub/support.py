"""
A ShellHub edge and devices of ours, without sockets and in virtual time.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from tests.promises.streams import Collect
from tunnelstack.control.config.records import EdgeConfig, Route
from tunnelstack.dialect.shellhub.bootstrap import Bootstrap
from tunnelstack.dialect.shellhub.connections import DeviceConnections
from tunnelstack.dialect.shellhub.device_book import DeviceStore, Tenant
from tunnelstack.dialect.shellhub.dialler import DeviceIdentity, DeviceStreams, ShellHubDialler
from tunnelstack.dialect.shellhub.hub import ShellHubEdge
from tunnelstack.dialect.shellhub.rsa_keys import newKey
from tunnelstack.edge.service import EdgeService
from tunnelstack.handler.target_allowlist import TargetAllowlist
from tunnelstack.testing import Caller, Network
from tunnelstack.transport.host_endpoint import hostEndpoint

TENANT = "00000000-0000-4000-0000-000000000000"
PORT = 8080
WEB = 9000


@cache
def key(number: int = 0) -> RSAPrivateKey:
    """
    A key that is made once for all tests.
    """
    return newKey()


class Sshd(Collect):
    """
    Says what an SSH server says first, and echoes.
    """

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.write(b"SSH-2.0-Go\r\n")  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.write(data.upper())  # type: ignore[union-attr]


class Hub:
    """
    An edge that ShellHub's agents come to.

    @ivar heard: devices, for each sign of life.
    @ivar gone: devices that went.
    """

    def __init__(
        self, cut: int | None = None, automatic: bool = True, tenants: tuple[Tenant, ...] = (), routes: tuple[Route, ...] = (),
        **settings: Any,
    ) -> None:
        self.network = Network(cut)
        self.heard: list[str] = []
        self.gone: list[str] = []
        self.book = DeviceStore(self.network, automatic=automatic, tenants=tenants)
        self.bootstrap = Bootstrap(self.book, key(), self.network, api="edge:80", ssh=lambda: "edge:2222", **settings)
        self.connections = DeviceConnections(
            self.bootstrap, onSeen=lambda device: self.heard.append(device.name),
            onLost=lambda device: self.gone.append(device.name),
        )  # fmt: skip
        config = EdgeConfig(listen=(f"tcp:{PORT}",), routes=routes)
        self.edge = EdgeService(self.network, config, dialects=[ShellHubEdge(self.connections)])
        self.edge.startService()
        self.settle()

    def settle(self) -> None:
        self.network.settle()

    def device(self, version: int = 2, mac: str = "02:42:ac:11:00:02", **options: Any) -> Device:
        """
        A device that is connected.
        """
        device = Device(self, version, mac, **options)
        device.dial()
        return device

    def visit(self, octets: bytes) -> Caller:
        caller = Caller()
        factory = self.network.ports[PORT].factory
        self.network.join(caller, factory, IPv4Address("TCP", "127.0.0.1", PORT))
        caller.transport.write(octets)
        self.settle()
        return caller

    def stop(self) -> None:
        done = self.edge.stopService()
        self.network.passTime(40)
        assert done is None or done.called


class Device:
    """
    An agent of ours.

    @ivar sshd: the SSH servers that were built.
    """

    def __init__(
        self, hub: Hub, version: int, mac: str, allow: tuple[str, ...] = ("localhost:*",), ssh: Any = None,
        installKey: str = "", hostname: str = "",
    ) -> None:
        self.hub = hub
        self.sshd: list[Sshd] = []
        self.link: Any = None
        identity = DeviceIdentity(key=key(1), tenant=TENANT, mac=mac, hostname=hostname, installKey=installKey)
        network = hub.network
        self.streams = DeviceStreams(
            network, ssh=ssh or self._factory(), allowed=TargetAllowlist(allow),
            endpoint=lambda host, port: hostEndpoint(network, host, port),
        )  # fmt: skip
        self.dialler = ShellHubDialler(
            network, f"http://localhost:{PORT}/", identity, self.streams, version=version, random=lambda: 0.5,
        )  # fmt: skip

    def _factory(self) -> Any:
        device = self

        class Serving(Factory):
            noisy = False

            def buildProtocol(self, address: Any) -> Sshd:
                device.sshd.append(Sshd())
                return device.sshd[-1]

        return Serving()

    def dialling(self) -> Deferred[Any]:
        attempt: Deferred[Any] = self.dialler.dial()
        self.hub.settle()
        return attempt

    def dial(self) -> None:
        links: list[Any] = []
        self.dialling().addCallbacks(links.append, lambda failure: failure.raiseException())
        (self.link,) = links

    @property
    def uid(self) -> str:
        assert self.dialler.registration.answer is not None
        return self.dialler.registration.answer.uid

    @property
    def up(self) -> bool:
        lost: list[Any] = []
        self.link.whenLost().addCallback(lost.append)
        return not lost


def request(line: str, *fields: str, body: bytes = b"") -> bytes:
    """
    A request to the edge itself.
    """
    lines = [f"{line} HTTP/1.1", "Host: localhost", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
