"""
Bent octets for the fields of proxies: an input is a list of fields, one a line, of which the first letter names the field.
"""

from __future__ import annotations

from collections.abc import Hashable

from tunnelstack.edge.public.requests import MAX_OWN_OCTETS
from tunnelstack.wire.addresses import address_text
from tunnelstack.wire.http1.forwarded import (
    BOTH,
    EITHER,
    ONLY_FORWARDED,
    X_FORWARDED,
    BadMessage,
    Hop,
    forwarding_fields,
    read_hops,
)
from tunnelstack.wire.http1.head import Fields, encode_fields, read_fields_untrusted

NAMES = {b"F": b"Forwarded", b"x": b"X-Forwarded-For", b"p": b"X-Forwarded-Proto", b"h": b"X-Forwarded-Host"}

SEEDS = [
    b"x192.0.2.9, 10.0.0.2\npHTTPS, http\nha.example:80",
    b'Ffor="[2001:db8::7]:80";proto=https;by=_a;ext="\\"q\\\\", for=10.0.0.2 ; host="a:80"',
    b"Ffor=192.0.2.9\nFFOR=10.0.0.2:80, proto=http\nx192.0.2.9",
    b'Ffor="\nFfor=unknown, for=_hidden',
    b"x1.1.1.1,[2001:db8::7]:80 , ::ffff:10.0.0.1\npwss\nFfor=[::1]",
    b"Ffor=1;for=2, ;;, x=1",
]

FOUND = [
    b"x9," + b"10.0.2.9," * 253 + b"10.0.0.2",  # passed on with more pairs than the next edge would read
]


def target(data: bytes) -> Hashable:
    """
    @return: what was made of it, by each choice of fields.
    """
    octets = b"".join(NAMES.get(line[:1], b"Other") + b": " + line[1:] + b"\r\n" for line in data.split(b"\n"))
    fields = read_fields_untrusted(octets + b"\r\n")
    return tuple(kind(fields, by) for by in (EITHER, X_FORWARDED, ONLY_FORWARDED, BOTH))


def kind(fields: Fields, by: str) -> Hashable:
    """
    What is read is passed on such that the next edge reads the same.
    """
    try:
        hops = read_hops(fields, by, trusts)
    except BadMessage:
        assert by == BOTH, fields
        return "contradiction"
    for hop in hops:
        assert hop.address == address_text(hop.node.decode("latin-1")), hop
    assert all(trusts(hop.address) for hop in hops[1:]), hops
    written = forwarding_fields(b"10.9.9.9", b"http", b"edge.example", hops)
    if len(encode_fields(written)) > MAX_OWN_OCTETS:
        return "too long"  # the edge refuses the request
    told = [hop for hop in hops if hop != Hop()]
    own = Hop(b"10.9.9.9", "10.9.9.9", b"http", b"edge.example")
    assert read_hops(written, ONLY_FORWARDED, trusts) == [*told, own], (hops, written)
    assert b"," not in dict(written)[b"X-Forwarded-Proto"], written
    return len(hops), bool(hops and hops[0].address), bool(hops and hops[0].scheme), bool(hops and hops[0].more)


def trusts(address: str) -> bool:
    """
    A network of proxies.
    """
    return address.startswith("10.")
