"""
Addresses of streams and tunnels can be read as protocols made for TCP read theirs.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tunnelstack.stream.address import StreamAddress, TunnelAddress


class AddressTests(SynchronousTestCase):
    """
    What protocols look at.
    """

    def test_addressesAreProvidersOfIAddress(self) -> None:
        verifyObject(IAddress, StreamAddress())
        verifyObject(IAddress, TunnelAddress(name="site"))

    def test_hostAndPortAreThePeers(self) -> None:
        address = StreamAddress(peer=IPv4Address("TCP", "192.0.2.7", 4711))
        self.assertEqual((address.host, address.port), ("192.0.2.7", 4711))

    def test_addressesMayHaveNoHostAndPort(self) -> None:
        for peer in (None, UNIXAddress(b"/run/it")):
            address = StreamAddress(peer=peer)
            self.assertEqual((address.host, address.port), ("", 0))
