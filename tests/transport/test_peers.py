"""
One form for the other end of a connection.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.forms_addresses import ADDRESSES, expected, spelt
from tunnelstack.transport.peers import addressText, canonical, peerOf


class CanonicalTests(SynchronousTestCase):
    """
    Addresses of Twisted.
    """

    @given(ADDRESSES.flatmap(lambda address: st.tuples(spelt(address), st.just(address))), st.integers(0, 65_535))
    def test_everyFormOfAnAddressIsTheSame(self, spelling: tuple[str, object], port: int) -> None:
        text, address = spelling
        known = expected(address)  # type: ignore[arg-type]
        kind = IPv4Address if known.version == 4 else IPv6Address
        for written in (IPv4Address("TCP", text, port), IPv6Address("TCP", text, port)):
            self.assertEqual(canonical(written), kind("TCP", str(known), port))

    def test_othersStayWhatTheyAre(self) -> None:
        for address in (UNIXAddress("/run/edge.sock"), IPv4Address("TCP", "nowhere", 1), None):
            self.assertIs(canonical(address), address)

    def test_thePeerOfATransportIsCanonical(self) -> None:
        transport = StringTransport(peerAddress=IPv6Address("TCP", "::ffff:192.0.2.1", 7))
        self.assertEqual(peerOf(transport), IPv4Address("TCP", "192.0.2.1", 7))

    def test_addressesHaveOneText(self) -> None:
        for address, text in (
            (IPv4Address("TCP", "192.0.2.1", 7), "192.0.2.1:7"), (IPv6Address("TCP", "2001:db8::1", 7), "[2001:db8::1]:7"),
            (IPv6Address("TCP", "::ffff:192.0.2.1", 7), "192.0.2.1:7"), (UNIXAddress("/run/edge.sock"), "unix:/run/edge.sock"),
            (UNIXAddress(None), ""), (None, ""), (object(), ""),
        ):  # fmt: skip
            self.assertEqual(addressText(address), text)
