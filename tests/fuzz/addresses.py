"""
Bent octets for the reader of IP addresses.
"""

from __future__ import annotations

from collections.abc import Hashable
from ipaddress import IPv6Address, ip_address

from tunnelstack.wire.addresses import address_text, read_address, read_network

SEEDS = [
    b"192.0.2.1", b"192.0.2.1:80", b"::ffff:192.0.2.1:80", b"[2001:db8::7%25eth0.1]:_port", b'"\\[2001:DB8::7]:4711"',
    b"fe80::1%en0", b"::FFFF:c000:201", b"unknown", b"_hidden", b"10.0.0.0/8", b"::ffff:10.0.0.0/104", b" [192.0.2.1] ",
]  # fmt: skip


def target(data: bytes) -> Hashable:
    """
    @return: what kind of address was read; its text is one that the standard library reads as the same.
    """
    text = data.decode("latin-1")
    address, written = read_address(text), address_text(text)
    if address is None:
        assert written == "", text
    else:
        assert ip_address(written) == address and str(address) == written, text
        assert address_text(f'"[{written}]:80"') == written, text
        assert not (isinstance(address, IPv6Address) and address.ipv4_mapped), text
    return type(address).__name__, network(text), text[:1] in '"[', ":" in text, "." in text


def network(text: str) -> str:
    """
    The kind of network that a text names.
    """
    try:
        return type(read_network(text, strict=False)).__name__
    except ValueError:
        return ""
