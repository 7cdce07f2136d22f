"""
Bent octets for C{CDN-Loop}: an input is the values of that field which a visitor sends, one a line.

Whatever these are, an edge finds the member that it adds after them, also when others have added theirs; and what it sends on
is sent on unchanged the next time.
"""

from __future__ import annotations

from collections.abc import Hashable

from tunnelstack.wire.http1.cdn_loop import encode_hop, extended, read_hops

OWN, OTHER = b"tunnelstack-0a1b2c3d", b"cdn.example"
SERVICES = (b"site", b"laptop/site", b"device.tenant:8080")
"""As the keys of routes are: some are tokens, the others are quoted."""

LONGEST = 1024  # octets of an input that are read

ADDED = (encode_hop(OTHER, b"of/others"), b'cdn.example; x=" , y"', encode_hop(OWN, b"another"))
"""What others add."""

SEEDS = [
    b'foo123.foocdn.example; trace="a,b", barcdn.example; v="1.0"\nanother',
    b"a;service=site , , b ; SERVICE = \"x\\\"y\" ;;c",
    b'a"', b'a;b="', b'a;b="\\', b'";', b'a;service="site', b", ,,", b"[::1]:80;x=y", encode_hop(OWN, SERVICES[1]),
]  # fmt: skip

FOUND = [
    b'a"',  # it took in the members that followed, so that the edge did not find its own
    b'a;b="',
]


def target(data: bytes) -> Hashable:
    """
    @return: how many members there are, at most nine, and what was found in the first ones.
    """
    values = data[:LONGEST].split(b"\n")
    hops = read_hops(values)
    assert hops == [hop for value in values for hop in read_hops([value])], values
    for service in SERVICES:
        sent = extended(values, OWN, service)
        for added in ADDED:
            read = read_hops([b", ".join([sent, added])])
            assert read[:-1] == read_hops([sent]) and read[-2] == (OWN, service), (sent, added)
            assert extended([sent, added], OWN, b"another").startswith(sent + b", " + added + b", "), sent
    return min(len(hops), 9), tuple((bool(name), bool(service)) for name, service in hops[:8])
