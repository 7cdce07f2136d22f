"""
IP addresses in every form, and their one text.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.forms_addresses import ADDRESSES, expected, forms
from tunnelstack.wire.addresses import LONGEST, address_text, read_address, read_network


class ReadTests(SynchronousTestCase):
    """
    From a text to an address.
    """

    @given(forms())
    def test_everyFormIsTheBareAddress(self, form: tuple[str, IPv4Address | IPv6Address]) -> None:
        text, address = form
        self.assertEqual(read_address(text), address, text)
        self.assertEqual(address_text(text), str(address))

    @given(st.text(max_size=60) | st.text('0123456789abcdefF:.[]%"\\_ ', max_size=40))
    def test_aTextWithoutDecorationIsReadAsByTheStandardLibrary(self, text: str) -> None:
        try:
            known = expected(ip_address(text.partition("%")[0]))
        except ValueError:
            known = None
        ours = read_address(text)
        if known is not None and "%" not in text:
            self.assertEqual(ours, known)
        if known is None and not set(text) & set('[]"%: \t'):
            self.assertIsNone(ours)

    @given(ADDRESSES)
    def test_theTextIsReadAsItself(self, address: IPv4Address | IPv6Address) -> None:
        text = address_text(str(address))
        self.assertEqual(address_text(text), text)

    def test_examplesAreRead(self) -> None:
        for text, address in (
            ("192.0.2.1:80", "192.0.2.1"), ("::ffff:192.0.2.1:80", "192.0.2.1"), ("[::ffff:c000:201]:_x", "192.0.2.1"),
            ("2001:DB8:0:0:0:0:0:7", "2001:db8::7"), ("2001:db8::7:80", "2001:db8::7:80"), ("fe80::1%eth0.100", "fe80::1"),
            ('"[2001:db8::7%25en0]:4711"', "2001:db8::7"), ("[192.0.2.1]", "192.0.2.1"), ("::1.2.3.4", "::102:304"),
            ("1:0:0:2:0:0:0:3", "1:0:0:2::3"), ("1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"),
        ):  # fmt: skip
            self.assertEqual(address_text(text), address)

    def test_whatIsNoAddressIsRejected(self) -> None:
        for text in (
            "", "unknown", "_hidden", "a.example", "192.0.2", "192.0.2.256", "0192.0.2.1", "192.0.2.1.", "192.0.2.1:", "1234",
            "192.0.2.1:123456", "192.0.2.1:-1", "192.0.2.1:80:80", "[192.0.2.1", "192.0.2.1]", "[]", "[2001:db8::1]80",
            "2001:db8", ":::", "192.0.2.1%eth0:x", '"192.0.2.1', '"', '""192.0.2.1""', "192.0.2.1/32", "192.0.2.1 192.0.2.2",
            "\u0661.1.1.1", "192.0.2.1\n", "1:2:3:4:5:6:7:8:80", "[_hidden]:80", "[" * LONGEST, f"{'0' * LONGEST}::1",
        ):  # fmt: skip
            self.assertIsNone(read_address(text), text)


class NetworkTests(SynchronousTestCase):
    """
    Networks of rules and trusted proxies.
    """

    @given(ADDRESSES, st.integers(0, 128), ADDRESSES)
    def test_networksAreAsInTheLibrary(self, address: IPv4Address | IPv6Address, prefix: int, other: IPv6Address) -> None:
        """
        But for networks of carried addresses, which the library does not read as those of IPv4.
        """
        text = f"{address}/{min(prefix, address.max_prefixlen)}"
        assume(not (prefix >= 96 and isinstance(address, IPv6Address) and address.ipv4_mapped is not None))
        self.assertEqual(other in read_network(text, strict=False), other in ip_network(text, strict=False))

    @given(st.ip_addresses(v=4), st.integers(0, 32))
    def test_networksOfMappedAddressesAreThoseOfIPv4(self, address: IPv4Address, prefix: int) -> None:
        carried = read_network(f"::ffff:{address}/{96 + prefix}", strict=False)
        self.assertEqual(carried, ip_network(f"{address}/{prefix}", strict=False))

    def test_invalidNetworksAreRejected(self) -> None:
        for text in ("", "10.0.0.1/8", "::ffff:10.0.0.1/104", "10.0.0.0/33", "a.example"):
            with self.assertRaises(ValueError):
                read_network(text)
