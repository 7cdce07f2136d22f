"""
IP addresses as proxies, sockets and operators write them, and the one text in which this program writes them.

That text is the one of RFC 5952.  An IPv6 address that only carries an IPv4 address (C{::ffff:192.0.2.1}, RFC 4291 section
2.5.5.2) is that IPv4 address.  Zones, such as C{%eth0}, mean nothing outside their machine and are left out.

Source: RFC 7239, section 6, for addresses with ports; RFC 6874 for zones.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

LONGEST = 256
"""Characters of the longest text that is examined."""

REMEMBERED = 1024
"""Texts whose addresses are remembered: those of a connection are read for each of its requests."""

MAPPED_NETWORK = IPv6Network("::ffff:0:0/96")
"""The IPv6 addresses that carry an IPv4 address."""

_PORT = r"(?::(?:[0-9]{1,5}|_[0-9A-Za-z._-]+))?"
_ZONE = r"(?:%[0-9A-Za-z._~%-]+)?"
_FORM = re.compile(
    rf"\[(?P<bracketed>[0-9A-Fa-f:.]+){_ZONE}\]{_PORT}"
    rf"|(?P<dotted>(?:[0-9A-Fa-f:]*:)?[0-9]+\.[0-9.]+){_ZONE}{_PORT}"
    rf"|(?P<colons>[0-9A-Fa-f:]+){_ZONE}"
)
_ESCAPED = re.compile(r"\\(.)")


def read_address(text: str) -> IPAddress | None:
    """
    The address that a text names.

    @param text: an IPv4 or IPv6 address; it may be in brackets, have a zone, be followed by a port (or by an obfuscated one,
        C{:_port}), and all of it may be in double quotes.  A port follows an IPv6 address only after brackets or after the
        IPv4 address at its end: elsewhere it could be a part of the address.
    @return: C{None} for everything else, such as C{unknown} and C{_hidden}.
    """
    return _read(text) if len(text) <= LONGEST else None


def address_text(text: str) -> str:
    """
    The one text of an address, C{""} for what names none.

    @param text: as in L{read_address}.
    """
    return _text(text) if len(text) <= LONGEST else ""


def read_network(text: str, strict: bool = True) -> IPNetwork:
    """
    A network, C{"10.0.0.0/8"}, or a single address.

    @param strict: no bit of the address may be set after the prefix.
    @raise ValueError: the text is neither.
    """
    network = ip_network(text, strict)
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED_NETWORK):
        first = int(network.network_address) & 0xFFFFFFFF
        return IPv4Network((first, network.prefixlen - MAPPED_NETWORK.prefixlen))
    return network


@lru_cache(REMEMBERED)
def _read(text: str) -> IPAddress | None:
    form = _FORM.fullmatch(_unquoted(text.strip(" \t")))
    if form is None or form.lastgroup is None:
        return None
    try:
        return _carried(ip_address(form[form.lastgroup]))
    except ValueError:
        return None


@lru_cache(REMEMBERED)
def _text(text: str) -> str:
    address = _read(text)
    return "" if address is None else str(address)


def _carried(address: IPAddress) -> IPAddress:
    """
    The IPv4 address that an IPv6 address carries, or else the address itself.
    """
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return _ESCAPED.sub(r"\1", text[1:-1])
    return text
