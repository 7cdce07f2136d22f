"""
The fields about the origin of a request that is passed on: C{X-Forwarded-For}, C{-Proto} and C{-Host}, and C{Forwarded}.

What a visitor writes about itself is replaced.  The fields of trusted proxies are used: each has added the address of its
client, the scheme and the C{Host}.  The visitor is the last address that is not a trusted proxy's own; what stands before
it is the visitor's claim, and is left out.

Source: RFC 7239; the X- fields as nginx, Go and twisted.web read them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from attrs import define, evolve

from tunnelstack.settings.record import Record
from tunnelstack.wire.addresses import address_text
from tunnelstack.wire.http1.framing import HOST as AUTHORITY
from tunnelstack.wire.http1.head import TOKEN, BadMessage, Fields, values

FOR, PROTO, HOST, FORWARDED = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"
FORWARDING_NAMES = frozenset(
    (
        FOR,
        PROTO,
        HOST,
        FORWARDED,
        b"x-forwarded-port",
        b"x-forwarded-server",
        b"x-real-ip",
        b"x-forwarded-ssl",
    )
)
"""Fields that are never passed on as they came."""

EITHER, X_FORWARDED, ONLY_FORWARDED, BOTH = "", "x-forwarded", "forwarded", "both"
"""Which fields trusted proxies write; L{EITHER} is the X- fields where there are any, and C{Forwarded} otherwise."""

SECURE = frozenset((b"https", b"wss"))
"""Schemes of requests that no machine on the way could read; some proxies write C{wss} for a WebSocket."""

UNKNOWN = b"unknown"

MOST = 256
"""Members of an X- field that are read: the last ones."""

MOST_PAIRS = 4096
"""Pairs of a C{Forwarded} that is read; one with more cannot be read.  What an edge passes on has fewer, since it is bounded by
C{MAX_OWN_OCTETS} of L{tunnelstack.edge.public.requests}."""

TOKEN_ONLY = re.compile(TOKEN + rb"+\Z")
_OBFUSCATED = re.compile(rb"(_[0-9A-Za-z._-]+)(?::[0-9A-Za-z._-]+)?\Z")
_SCHEME = re.compile(rb"[A-Za-z][0-9A-Za-z+.-]*\Z")
_PAIR = re.compile(
    rb"[\t ]*+(?:(" + TOKEN + rb'++)=(?:"((?:[^"\\]|\\.)*+)"|((?:' + TOKEN + rb"|[:\[\]])++)))?[\t ]*+([;,]|\Z)"
)
_ESCAPED = re.compile(rb"\\(.)")


@define(eq=False, repr=False)
class Hop(Record):
    """
    What one proxy wrote about the connection by which it received a request.

    @ivar node: the client of this hop: the text of an address, an obfuscated identifier (C{_hidden}) or C{unknown}; C{b""}
        if the proxy did not write it.
    @ivar address: the same as the text of an IP address; C{""} if it is none.
    @ivar scheme: in lower case; C{b""} if it is not known.
    @ivar host: the C{Host} of the request; C{b""} if it is not known.
    @ivar more: the other parameters of an element of C{Forwarded}: name and value.
    """

    node: bytes = b""
    address: str = ""
    scheme: bytes = b""
    host: bytes = b""
    more: tuple[tuple[bytes, bytes], ...] = ()


IsTrusted = Callable[[str], bool]


def read_hops(fields: Fields, by: str, isTrusted: IsTrusted) -> list[Hop]:
    """
    How a request came to the trusted proxy that passed it on.

    @param by: which fields to believe: L{EITHER}, L{X_FORWARDED}, L{ONLY_FORWARDED} or L{BOTH}.
    @param isTrusted: whether an address is a trusted proxy's own.
    @return: the visitor's hop and those of the proxies after it; none if the proxy sent a request of its own.
    @raise BadMessage: both families are used and they contradict each other.
    """
    written = [] if by == ONLY_FORWARDED else _from_visitor(_x_fields(fields), isTrusted)
    if by == X_FORWARDED or (written and by == EITHER):
        return written
    elements = _from_visitor(_elements(values(fields, FORWARDED)), isTrusted)
    return _agreed(written, elements) if written and elements else written or elements


def forwarding_fields(address: bytes, scheme: bytes, host: bytes, hops: Iterable[Hop] = ()) -> Fields:
    """
    The fields about the origin of a request that is passed on.

    @param address: the IP address of the connection's other end; C{b""} if it has none.
    @param scheme: C{b"http"} or C{b"https"}.
    @param host: the C{Host} of the request.
    @param hops: those before this connection, from the visitor on.  The scheme and the host are the visitor's: lists of them
        would have to have as many members as there are addresses, and not every proxy writes them.
    """
    hops = [*hops, Hop(address or UNKNOWN, address.decode("latin-1"), scheme, host)]
    fields = [
        (b"X-Forwarded-For", b", ".join([hop.node for hop in hops if hop.node])),
        (b"X-Forwarded-Proto", hops[0].scheme or scheme),
        (b"Forwarded", b", ".join(filter(None, map(_element, hops)))),
    ]
    if hops[0].host or host:
        fields.insert(2, (b"X-Forwarded-Host", hops[0].host or host))
    return fields


# What proxies wrote


def _from_visitor(written: Iterable[Hop], isTrusted: IsTrusted) -> list[Hop]:
    """
    The hops from the visitor on.

    @param written: all of them, the last one first; they are taken only until the visitor is found.
    """
    hops: list[Hop] = []
    for hop in map(_named, written):
        hops.append(hop)
        if not hop.address or not isTrusted(hop.address):
            break
    hops.reverse()
    return hops


def _named(hop: Hop) -> Hop:
    """
    Put what a node means in the place of what the proxy wrote.

    @return: the same hop.
    """
    hop.address = address = address_text(hop.node.decode("latin-1"))
    if address:
        hop.node = address.encode()
    elif hop.node:
        obfuscated = _OBFUSCATED.match(hop.node)
        hop.node = obfuscated[1] if obfuscated else UNKNOWN
    return hop


def _agreed(one: list[Hop], other: list[Hop]) -> list[Hop]:
    """
    What both families contain about the visitor, where one may contain what the other does not.
    """
    if other[0].node and not one[0].node:
        one, other = other, one
    mine, its = one[0], other[0]
    for said, too in ((mine.node, its.node), (mine.scheme, its.scheme), (mine.host.lower(), its.host.lower())):
        if said and too and said != too:
            raise BadMessage("Forwarded and the X-Forwarded fields contradict each other", forwarded=too, other=said)
    return [evolve(mine, scheme=mine.scheme or its.scheme, host=mine.host or its.host), *one[1:]]


def _x_fields(fields: Fields) -> Iterator[Hop]:
    """
    The content of the X- fields, the last hop first, one for each address.  Each proxy added to the end of a list; where
    there are fewer schemes or hosts than addresses, the first one counts for all connections before.
    """
    lines: dict[bytes, list[bytes]] = {FOR: [], PROTO: [], HOST: []}
    for name, value in fields:
        known = lines.get(name.lower())
        if known is not None:
            known.append(value)
    nodes, schemes, hosts = map(_members, lines.values())
    if nodes or schemes or hosts:
        for back, node in enumerate(nodes or [b""]):
            yield Hop(node, scheme=_scheme(_at(schemes, back)), host=_host(_at(hosts, back)))


def _members(lines: list[bytes]) -> list[bytes]:
    """
    The members of a list, the last one first.
    """
    if not lines:
        return []
    pieces = b",".join(lines).rsplit(b",", MOST)
    return [member for piece in reversed(pieces) if (member := piece.strip(b" \t"))]


def _at(members: list[bytes], index: int) -> bytes:
    """
    A member, or the one that is farthest in that direction.
    """
    return members[min(index, len(members) - 1)] if members else b""


def _scheme(text: bytes) -> bytes:
    return text.lower() if _SCHEME.match(text) else b""


def _host(text: bytes) -> bytes:
    return text if AUTHORITY.match(text) else b""


# Forwarded


def _elements(lines: list[bytes]) -> Iterator[Hop]:
    """
    The elements of all C{Forwarded} fields, the last one first.  Each line is read by itself: a quoted string that a visitor
    leaves open cannot take in what a proxy wrote in a line of its own.  A line that cannot be read is a hop of which nothing is
    known.
    """
    for line in reversed(lines):
        elements = _pairs(line)
        if elements is None:
            yield Hop(UNKNOWN)
        else:
            yield from map(_hop, reversed(elements))


def _pairs(line: bytes) -> list[list[tuple[bytes, bytes]]] | None:
    """
    The pairs of each element that has any, names in lower case; C{None} if the line breaks the grammar or has too many.

    Two things that the grammar forbids are taken because proxies write them: white space around a semicolon, and colons and
    brackets without quotes.
    """
    elements: list[list[tuple[bytes, bytes]]] = [[]]
    end = 0
    for _ in range(MOST_PAIRS):
        pair = _PAIR.match(line, end)
        if pair is None:
            return None
        name, quoted, plain, separator = pair.groups()
        if name is not None:
            elements[-1].append((name.lower(), plain if quoted is None else _ESCAPED.sub(rb"\1", quoted)))
        if not separator:
            return [element for element in elements if element]
        if separator == b",":
            elements.append([])
        end = pair.end()
    return None


def _hop(pairs: list[tuple[bytes, bytes]]) -> Hop:
    """
    One element.  RFC 7239 forbids a parameter to occur twice; such an element is ignored.
    """
    said = dict(pairs)
    if len(said) != len(pairs):
        return Hop(UNKNOWN)
    node, scheme, host = said.pop(b"for", b""), said.pop(b"proto", b""), said.pop(b"host", b"")
    return Hop(node, scheme=_scheme(scheme), host=_host(host), more=tuple(said.items()))


def _element(hop: Hop) -> bytes:
    """
    A hop as an element of C{Forwarded}.
    """
    node = b'"[%b]"' % hop.node if b":" in hop.node else hop.node
    pairs = [b"for=" + node] if node else []
    pairs += [b"%b=%b" % (name, quoted(value)) for name, value in hop.more]
    if hop.host:
        pairs.append(b"host=" + quoted(hop.host))
    if hop.scheme:
        pairs.append(b"proto=" + hop.scheme)
    return b";".join(pairs)


def quoted(value: bytes) -> bytes:
    """
    A value as C{Forwarded} writes it: a token, or a quoted string.
    """
    if TOKEN_ONLY.match(value):
        return value
    return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
