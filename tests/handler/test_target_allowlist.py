"""
Which hosts and ports an agent may connect to.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import ConfigurationError
from tunnelstack.handler.target_allowlist import TargetAllowlist


class NetworkTests(SynchronousTestCase):
    """
    Targets that are networks; those that are hosts are in C{tests/dialect/shellhub/test_bootstrap.py}.
    """

    def test_aNetworkGrantsItsAddresses(self) -> None:
        allowed = TargetAllowlist(("10.1.0.0/16:*", "[fd00::/8]:443", "192.0.2.0/24:80", "192.0.2.0/24:81"))
        for host, port, granted in (
            ("10.1.2.3", 80, True), ("10.2.0.1", 80, False), ("::ffff:10.1.2.3", 80, True), ("fd12::1", 443, True),
            ("fd12::1", 80, False), ("fd12::1%eth0", 443, True), ("192.0.2.7", 81, True), ("192.0.2.7", 82, False),
            ("127.0.0.1", 80, False), ("", 80, False),
        ):  # fmt: skip
            self.assertEqual(allowed.has(host, port), granted, host)

    def test_namesAreNotResolved(self) -> None:
        allowed = TargetAllowlist(("0.0.0.0/0:*", "[::/0]:*"))
        for host in ("localhost", "10.1", "10.1.2.3.", "10.1.2.3:80", "[::1]", "example.com", "0x7f000001", "10.1.2.3\0"):
            self.assertFalse(allowed.has(host, 80), host)
        self.assertTrue(allowed.has("8.8.8.8", 53))

    def test_malformedNetworksAreRejected(self) -> None:
        for target in ("10.1.0.0/33:*", "10.1.2.3/16:80", "a/8:80", "10.1.0.0/16", "10.1.0.0/16:0"):
            self.assertRaises(ConfigurationError, TargetAllowlist, (target,))
