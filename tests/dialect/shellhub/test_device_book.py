"""
The book of devices, and the key that signs what they are given.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.dialect.shellhub.device_book import (
    ACCEPTED,
    FILE,
    MAX_PENDING,
    PENDING,
    REJECTED,
    Device,
    DeviceStore,
    Tenant,
)
from tunnelstack.dialect.shellhub.rsa_keys import parseSigningKey, signingKey
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.settings.state_dir import StateDirectory

KEY = Tenant(id="t1", namespace="lab", installKeys=(sha256(b"open").hexdigest().upper(),))


class BookTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.state = StateDirectory(Path(self.mktemp()))
        self.book = self.again()
        self.told: list[Device] = []
        self.book.watch(self.told.append)

    def again(self, automatic: bool = False) -> DeviceStore:
        return DeviceStore(self.clock, self.state, automatic=automatic, tenants=(KEY,))

    def ask(self, uid: str = "a" * 64, hostname: str = "box", tenant: str = "t1", **more: str) -> Device:
        return self.book.register(uid=uid, tenant=tenant, hostname=hostname, publicKey="PEM", **more)

    def test_waitsUntilAnOperatorAccepts(self) -> None:
        device = self.ask()
        self.assertEqual((device.agent, device.status, device.known), ("lab.box", PENDING, 1000))
        self.assertEqual(self.book.accept("lab.box").status, ACCEPTED)
        self.assertEqual(self.ask().status, ACCEPTED)
        self.assertEqual(self.book.reject("aaaaaaaa").status, REJECTED)
        self.assertEqual([each.status for each in self.told], [ACCEPTED, REJECTED])

    def test_aRejectedDeviceIsNotLetInByAKey(self) -> None:
        self.ask()
        self.book.reject("lab.box")
        self.assertEqual(self.ask(installKey="open").status, REJECTED)

    def test_anInstallKeyLetsIn(self) -> None:
        self.assertEqual(self.ask(installKey="shut").status, PENDING)
        self.assertEqual(self.ask(installKey="open").status, ACCEPTED)
        self.assertEqual(self.ask(uid="b" * 64, installKey="open").status, ACCEPTED)

    def test_strangersAreNotListenedTo(self) -> None:
        self.assertEqual(self.assertRaises(Denied, self.ask, tenant="t2").code, "unknown")
        self.book.automatic = True
        self.assertEqual(self.ask(tenant="t2").agent, "dev.box")

    def test_aForgottenDeviceIsUnknown(self) -> None:
        self.ask()
        self.book.forget("lab.box")
        self.assertIsNone(self.book.find("t1", "a" * 64))
        self.assertIsNone(self.book.findByName("lab.box"))
        self.assertEqual([each.status for each in self.told], [REJECTED])
        self.assertEqual(self.assertRaises(Denied, self.book.accept, "lab.box").code, "unknown")

    def test_anAmbiguousPrefixIsRefused(self) -> None:
        self.ask(uid="c" * 63 + "1")
        self.ask(uid="c" * 63 + "2")
        self.assertIn("several", self.assertRaises(Denied, self.book.accept, "cccccccc").sentence)
        self.assertRaises(Denied, self.book.accept, "ccc")

    def test_namesAreMadeOfHostnames(self) -> None:
        for number, (hostname, name) in enumerate((
            ("My Laptop.local", "my-laptop-local"), ("--", "000000000001"), ("", "000000000002"), ("x" * 90, "x" * 50),
            ("my_laptop.local", "my-laptop-local-00000000"),
        )):  # fmt: skip
            uid = f"{number:012d}" + "0" * 52
            self.assertEqual(self.ask(uid=uid, hostname=hostname).name, name)

    def test_pendingDevicesAreBounded(self) -> None:
        for number in range(MAX_PENDING):
            self.ask(uid=f"{number:064x}")
        self.assertEqual(self.assertRaises(Denied, self.ask).code, "limit")
        self.assertEqual(self.ask(installKey="open").status, ACCEPTED)
        self.assertEqual(self.assertRaises(Denied, self.ask, uid="b", about="x" * 5000).code, "malformed")

    def test_devicesAreWrittenToTheStateFolder(self) -> None:
        self.ask(about="Debian")
        self.assertIsNone(self.state.read(FILE))
        self.clock.advance(1)
        self.assertEqual(self.again().devices, self.book.devices)
        self.assertEqual(self.state.path(FILE).stat().st_mode & 0o777, 0o600)
        self.book.accept("lab.box")
        self.clock.advance(5)
        self.book.markSeen(self.ask())
        self.ask(about="Debian 13")
        self.book.flush()
        self.book.flush()
        (again,) = self.again().devices
        self.assertEqual((again.status, again.seen, again.about), (ACCEPTED, 1006, "Debian 13"))
        self.assertEqual(len(self.again()), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aMalformedFileIsAConfigurationError(self) -> None:
        for text in ("", "[]", '{"devices":[{}]}', '{"devices":[1]}'):
            self.state.write(FILE, text)
            self.assertIn(FILE, str(self.assertRaises(ConfigurationError, self.again)))

    def test_withoutAFolderNothingIsKept(self) -> None:
        book = DeviceStore(self.clock, automatic=True)
        book.register(uid="a", tenant="t", hostname="h", publicKey="")
        book.markSeen(Device(uid="?", tenant="t", namespace="n", name="n", publicKey=""))
        book.flush()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class KeyTests(SynchronousTestCase):
    def test_theKeyIsMadeOnceAndKept(self) -> None:
        state = StateDirectory(Path(self.mktemp()))
        first = signingKey(state)
        self.assertEqual(first.private_numbers(), signingKey(state).private_numbers())
        self.assertEqual(state.path("signing.pem").stat().st_mode & 0o777, 0o600)

    def test_weakAndMalformedKeysAreRejected(self) -> None:
        weak = generate_private_key(65537, 1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for pem in ("", "nonsense", weak.decode()):
            self.assertIn("a file", str(self.assertRaises(ConfigurationError, parseSigningKey, pem, "a file")))
