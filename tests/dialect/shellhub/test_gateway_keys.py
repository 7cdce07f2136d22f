"""
The keys with which an SSH front door logs in at devices.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import execute
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.shellhub.support import Hub, key
from tunnelstack.dialect.shellhub.gateway_keys import GatewayKeys
from tunnelstack.wire.records.shellhub_identity import fingerprint


class VouchingTests(SynchronousTestCase):
    """
    What a device is told of a key, and for how long.
    """

    def setUp(self) -> None:
        self.hub = Hub()
        self.device = self.hub.device(hostname="bench")
        self.made = 0
        self.vouching = GatewayKeys(self.hub.bootstrap, self.make, execute)

    def make(self) -> Any:
        self.made += 1
        return key(2)

    def test_theDeviceIsToldThatTheKeyIsGoodForAWhile(self) -> None:
        (device,) = self.hub.book.devices
        given = self.vouching.keyFor(device.agent)
        assert given is not None
        blob = self.successResultOf(given).public().blob()
        self.assertIs(self.hub.bootstrap.vouchedKeys.find(fingerprint(blob), device.uid), key(2))
        self.assertIsNone(self.hub.bootstrap.vouchedKeys.find(fingerprint(blob), "another"))
        self.hub.network.passTime(61)
        self.assertIsNone(self.hub.bootstrap.vouchedKeys.find(fingerprint(blob), device.uid))

    def test_aKeyIsMadeOnceForADevice(self) -> None:
        (device,) = self.hub.book.devices
        for _ in range(3):
            given = self.vouching.keyFor(device.agent)
            assert given is not None
            self.successResultOf(given)
        self.assertEqual(self.made, 1)

    def test_nothingForOneThatIsNotAccepted(self) -> None:
        (device,) = self.hub.book.devices
        self.hub.book.reject(device.agent)
        self.assertIsNone(self.vouching.keyFor(device.agent))
        self.assertIsNone(self.vouching.keyFor("lab.nobody"))
