"""
The SSH front door of a whole edge: for whom it vouches, and where devices are told that it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.conch.ssh.keys import FingerprintFormats
from twisted.trial.unittest import SynchronousTestCase

from tests.handler.sshwire import HOST_KEY, OTHER_KEY, USER_KEY
from tunnelstack.control.config.records import EdgeConfig, SSHConfig
from tunnelstack.dialect.shellhub.settings import EdgeSettings
from tunnelstack.edge.service import EdgeService
from tunnelstack.edge.ssh.gateway import Login
from tunnelstack.testing import Caller, Network

FINGERPRINT = FingerprintFormats.SHA256_BASE64


class EntranceTests(SynchronousTestCase):
    """
    An edge in virtual time.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.hostKeys = self.folder / "host_keys"
        self.hostKeys.write_bytes(HOST_KEY.toString("OPENSSH"))
        self.hostKeys.chmod(0o600)
        self.authorized = self.folder / "keys"
        lines = [key.public().toString("OPENSSH", comment=comment) for key, comment in (
            (USER_KEY, b"alice@desk"), (OTHER_KEY, b"bob at home"),
        )]  # fmt: skip
        self.authorized.write_bytes(b"\n".join(lines) + b"\n")
        self.authorized.chmod(0o600)
        self.network = Network()

    def edge(self, *listen: str, vouch: tuple[str, ...] = ()) -> EdgeService:
        ssh = SSHConfig(
            listen=listen, hostKeysFile=str(self.hostKeys), authorizedKeysFile=str(self.authorized), vouch=vouch,
        )  # fmt: skip
        edge = EdgeService(self.network, EdgeConfig(
            listen=("tcp:8080",), domain="edge.example", ssh=ssh, drainSeconds=0,
            dialects={"shellhub": {"shellhub": (EdgeSettings(),)}},
        ))  # fmt: skip
        edge.startService()
        self.addCleanup(lambda: (edge.stopService(), self.network.passTime(1)))
        self.network.settle()
        return edge

    def told(self) -> Any:
        """
        What devices are told of the door.
        """
        caller = Caller()
        port = self.network.ports[8080]
        self.network.join(caller, port.factory, port.getHost())
        caller.transport.write(b"GET /info HTTP/1.1\r\nHost: edge.example\r\n\r\n")
        self.network.settle()
        return json.loads(caller.got.partition(b"\r\n\r\n")[2])["endpoints"]["ssh"]

    def test_devicesAreToldThePortThatIsOpen(self) -> None:
        self.edge("tcp:2222", "tcp:2223")
        self.assertEqual(self.told(), "edge.example:2222")

    def test_aPortThatTheSystemChoseIsReported(self) -> None:
        edge = self.edge("tcp:0")
        (address,) = edge.ssh.addresses
        self.assertNotEqual(address.port, 0)
        self.assertEqual(self.told(), f"edge.example:{address.port}")

    def test_withoutAGatewayNothingIsLogged(self) -> None:
        self.edge()
        self.assertEqual(self.told(), "")

    def vouched(self, edge: EdgeService, key: Any, user: str, device: str = "lab.bench") -> bool:
        edge.dialects.keyFor = lambda device: f"key of {device}"  # type: ignore[assignment,return-value,method-assign]
        vouch = self.network.ports[2222].factory.vouch
        given = vouch(Login(user, device), key.public())
        self.assertIn(given, (None, f"key of {device}"))
        return given is not None

    def test_itVouchesForWhomTheConfigurationNames(self) -> None:
        edge = self.edge("tcp:2222", vouch=("alice@desk root@lab.*", "bob?at?home guest@lab.bench"))
        self.assertTrue(self.vouched(edge, USER_KEY, "root"))
        self.assertTrue(self.vouched(edge, OTHER_KEY, "guest"))
        for key, user, device in (
            (USER_KEY, "guest", "lab.bench"), (USER_KEY, "root", "field.bench"), (OTHER_KEY, "root", "lab.bench"),
            (OTHER_KEY, "guest", "lab.other"), (HOST_KEY, "root", "lab.bench"),
        ):
            self.assertFalse(self.vouched(edge, key, user, device), (user, device))

    def test_aFingerprintIsAName(self) -> None:
        digest = USER_KEY.public().fingerprint(FINGERPRINT).rstrip("=")
        edge = self.edge("tcp:2222", vouch=(f"SHA256:{digest} *@*",))
        self.assertTrue(self.vouched(edge, USER_KEY, "root"))
        self.assertFalse(self.vouched(edge, OTHER_KEY, "root"))

    def test_everyKeyForEveryoneIfThatIsSaid(self) -> None:
        edge = self.edge("tcp:2222", vouch=("*@*",))
        self.assertTrue(self.vouched(edge, USER_KEY, "root"))
        self.assertTrue(self.vouched(edge, OTHER_KEY, "anybody", "a.b"))
        self.assertFalse(self.vouched(edge, HOST_KEY, "root"))

    def test_withoutAWordNoKeyIsTaken(self) -> None:
        edge = self.edge("tcp:2222")
        self.assertFalse(self.vouched(edge, USER_KEY, "root"))
        self.assertIsNone(self.network.ports[2222].factory.known)
