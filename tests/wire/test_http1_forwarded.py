"""
For whom a request is passed on.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.forms_addresses import forms
from tunnelstack.wire.http1.forwarded import (
    BOTH,
    EITHER,
    MOST,
    MOST_PAIRS,
    ONLY_FORWARDED,
    X_FORWARDED,
    Hop,
    forwarding_fields,
    quoted,
    read_hops,
)
from tunnelstack.wire.http1.head import BadMessage, Fields


def trusts(address: str) -> bool:
    """
    A network of proxies.
    """
    return address.startswith("10.")


def read(*fields: tuple[bytes, bytes], by: str = EITHER) -> list[tuple[str, str, str]]:
    """
    Node, scheme and host of each hop.
    """
    hops = read_hops(list(fields), by, trusts)
    return [(hop.node.decode(), hop.scheme.decode(), hop.host.decode()) for hop in hops]


def xFor(*members: bytes) -> tuple[bytes, bytes]:
    """
    An X-Forwarded-For.
    """
    return b"X-Forwarded-For", b", ".join(members)


def forwarded(value: bytes) -> tuple[bytes, bytes]:
    """
    A Forwarded.
    """
    return b"Forwarded", value


class IntroductionTests(SynchronousTestCase):
    """
    The fields that are passed on.
    """

    def test_aVisitorIsIntroduced(self) -> None:
        self.assertEqual(forwarding_fields(b"192.0.2.1", b"https", b"a.example"), [
            (b"X-Forwarded-For", b"192.0.2.1"), (b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Host", b"a.example"),
            (b"Forwarded", b"for=192.0.2.1;host=a.example;proto=https"),
        ])

    def test_valuesAreQuotedWhereNeeded(self) -> None:
        self.assertEqual(
            forwarding_fields(b"2001:db8::1", b"http", b"a:80")[3],
            (b"Forwarded", b'for="[2001:db8::1]";host="a:80";proto=http'),
        )

    def test_nothingIsKnown(self) -> None:
        self.assertEqual(forwarding_fields(b"", b"http", b""), [
            (b"X-Forwarded-For", b"unknown"), (b"X-Forwarded-Proto", b"http"), (b"Forwarded", b"for=unknown;proto=http"),
        ])

    def test_hopsOfATrustedProxyArePassedOn(self) -> None:
        hops = [
            Hop(b"2001:db8::7", "2001:db8::7", b"https", b"outer", ((b"by", b"_a"), (b"x", b'"'))),
            Hop(b"10.0.0.2", "10.0.0.2"), Hop(),
        ]
        self.assertEqual(forwarding_fields(b"10.0.0.1", b"http", b"inner", hops), [
            (b"X-Forwarded-For", b"2001:db8::7, 10.0.0.2, 10.0.0.1"), (b"X-Forwarded-Proto", b"https"),
            (b"X-Forwarded-Host", b"outer"),
            (b"Forwarded", (
                b'for="[2001:db8::7]";by=_a;x="\\"";host=outer;proto=https, for=10.0.0.2, '
                b"for=10.0.0.1;host=inner;proto=http"
            )),
        ])  # fmt: skip

    def test_aVisitorOfAProxyThatDoesNotWriteHowItCame(self) -> None:
        fields = forwarding_fields(b"10.0.0.1", b"http", b"inner", [Hop(b"192.0.2.1", "192.0.2.1")])
        self.assertEqual(fields[1:3], [(b"X-Forwarded-Proto", b"http"), (b"X-Forwarded-Host", b"inner")])


class XForwardedTests(SynchronousTestCase):
    """
    The X- fields of trusted proxies.
    """

    def test_theLastThatIsNoProxyIsTheVisitor(self) -> None:
        for members, nodes in (
            ([b"192.0.2.9"], ["192.0.2.9"]), ([b"192.0.2.8", b"192.0.2.9"], ["192.0.2.9"]),
            ([b"1.1.1.1", b"192.0.2.9", b"10.0.0.2"], ["192.0.2.9", "10.0.0.2"]),
            ([b"10.0.0.3", b"", b"10.0.0.2"], ["10.0.0.3", "10.0.0.2"]),
            ([b"192.0.2.9", b"unknown", b"10.0.0.2"], ["unknown", "10.0.0.2"]), ([b"192.0.2.9", b"_a:80"], ["_a"]),
            ([b"10.0.0.1:80", b"::ffff:10.0.0.2"], ["10.0.0.1", "10.0.0.2"]), ([b"192.0.2.9", b"somewhere"], ["unknown"]),
        ):  # fmt: skip
            self.assertEqual([node for node, _, _ in read(xFor(*members))], nodes)

    def test_fieldsAreMergedOverSeveralLines(self) -> None:
        lines = xFor(b"192.0.2.8"), (b"x-forwarded-for", b"192.0.2.9"), (b"X-FORWARDED-FOR", b"10.0.0.2")
        self.assertEqual([node for node, _, _ in read(*lines)], ["192.0.2.9", "10.0.0.2"])

    def test_noneIsThere(self) -> None:
        for fields in ([], [xFor()], [xFor(b"", b" ")], [(b"X-Real-IP", b"192.0.2.9")]):
            self.assertEqual(read(*fields), [])

    def test_listsAreReadFromTheirEnd(self) -> None:
        for nodes, schemes, expected in (
            (b"192.0.2.9, 10.0.0.2", b"https, http", ["https", "http"]), (b"192.0.2.9, 10.0.0.2", b"HTTPS", ["https", "https"]),
            (b"192.0.2.9, 10.0.0.3, 10.0.0.2", b"https,http", ["https", "https", "http"]),
            (b"192.0.2.9", b"https, http", ["http"]),
            (b"1.1.1.1, 192.0.2.9", b"https, http", ["http"]), (b"192.0.2.9", b"ht tp", [""]), (b"192.0.2.9", b", ,", [""]),
        ):  # fmt: skip
            fields = xFor(nodes), (b"X-Forwarded-Proto", schemes)
            self.assertEqual([scheme for _, scheme, _ in read(*fields)], expected)
            hosts = (b"X-Forwarded-Host", b"a.example, b.example")
            self.assertEqual(read(*fields, hosts)[-1][2], "b.example")

    def test_aProxyThatDoesNotWriteForWhom(self) -> None:
        self.assertEqual(read((b"X-Forwarded-Proto", b"https, http")), [("", "http", "")])

    @given(forms(), st.integers(0, 3))
    def test_everyFormIsRead(self, form: tuple[str, object], proxies: int) -> None:
        text, address = form
        fields = [xFor(b"1.1.1.1", text.encode(), *[b"10.0.0.2"] * proxies)]
        (hop, *rest) = read_hops(fields, EITHER, lambda one: one == "10.0.0.2")
        self.assertEqual((hop.address, hop.node, len(rest)), (str(address), str(address).encode(), proxies))

    def test_longListsAreReadFromTheirEnd(self) -> None:
        self.assertEqual(read(xFor(*[b"1.1.1.1"] * 9000, b"192.0.2.9")), [("192.0.2.9", "", "")])
        self.assertEqual(read(xFor(b"192.0.2.9", *[b"10.0.0.1"] * (MOST + 1)))[0], ("unknown", "", ""))


NAMES = st.text("abcdefXYZ-019", min_size=1, max_size=6).filter(lambda name: name.lower() not in ("for", "proto", "host"))
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=12).map(
    lambda text: text.encode("latin-1")
)


@st.composite
def elements(draw: st.DrawFn) -> tuple[bytes, Hop]:
    """
    An element of C{Forwarded}, and what it says.
    """
    text, address = draw(forms())
    scheme, host = draw(st.sampled_from(["http", "HTTPS", "wss"])), draw(st.sampled_from(["", "a.example:80", "[::1]:80"]))
    more = [(name.lower(), draw(VALUES)) for name in draw(st.lists(NAMES, max_size=2, unique_by=str.lower))]
    pairs = [("for", text.strip().encode()), ("proto", scheme.encode()), ("host", host.encode())]
    pairs += more
    written = draw(st.permutations([draw(pair(name, value)) for name, value in pairs]))
    separator = draw(st.sampled_from([b";", b" ; ", b";;", b"\t;"]))
    names = [octets.partition(b"=")[0].decode().lower() for octets in written]
    more.sort(key=lambda one: names.index(one[0]))
    said = str(address)
    return separator.join(written), Hop(
        said.encode(), said, scheme.lower().encode(), host.encode(), tuple((name.encode(), value) for name, value in more)
    )


@st.composite
def pair(draw: st.DrawFn, name: str, value: bytes) -> bytes:
    """
    One parameter, its name in any case, its value as a quoted string with needless escapes, or as a token where it can be one.
    """
    name = draw(st.sampled_from([name, name.upper(), name.title()]))
    plain = quoted(value)
    if plain == value and draw(st.booleans()):
        return name.encode() + b"=" + value
    letters = [bytes([octet]) for octet in value]
    escaped = [b"\\" + one if one in b'"\\' or draw(st.booleans()) else one for one in letters]
    return name.encode() + b'="' + b"".join(escaped) + b'"'


class ForwardedTests(SynchronousTestCase):
    """
    RFC 7239.
    """

    @given(st.lists(elements(), min_size=1, max_size=4), st.data())
    def test_theGrammarIsRead(self, several: list[tuple[bytes, Hop]], data: st.DataObject) -> None:
        lines: list[bytes] = []
        for octets, _ in several:
            if lines and data.draw(st.booleans()):
                lines[-1] += data.draw(st.sampled_from([b",", b" , ", b",,", b", ;,"])) + octets
            else:
                lines.append(octets)
        hops = read_hops([forwarded(line) for line in lines], EITHER, lambda address: True)
        self.assertEqual(hops, [hop for _, hop in several])

    @given(st.lists(elements(), min_size=1, max_size=3))
    def test_whatIsPassedOnIsReadTheSame(self, several: list[tuple[bytes, Hop]]) -> None:
        hops = [hop for _, hop in several]
        fields = forwarding_fields(b"10.0.0.1", b"http", b"inner", hops)
        own = Hop(b"10.0.0.1", "10.0.0.1", b"http", b"inner")
        self.assertEqual(read_hops(fields, ONLY_FORWARDED, lambda address: True), [*hops, own])
        for by in (X_FORWARDED, BOTH):
            nodes = [hop.node for hop in read_hops(fields, by, lambda address: True)]
            self.assertEqual(nodes, [hop.node for hop in (*hops, own)])

    def test_commonFormsBesideTheGrammarAreRead(self) -> None:
        for value, node in (
            (b"for=192.0.2.9:80", "192.0.2.9"), (b"for=[2001:db8::7]:80", "2001:db8::7"), (b"For=2001:db8::7", "2001:db8::7"),
            (b" ; for=192.0.2.9 ;", "192.0.2.9"), (b'for="_a:80"', "_a"), (b"for=UNKNOWN", "unknown"),
        ):
            self.assertEqual(read(forwarded(value + b";proto=https")), [(node, "https", "")])

    def test_whatCannotBeReadIsAHopOfWhichNothingIsKnown(self) -> None:
        for value in (
            b'for="192.0.2.9', b"for=192.0.2.9;for=192.0.2.8", b"for = 192.0.2.9", b"for", b"for=", b"=a", b"for=a b",
            b'for="a"b', b"for=192.0.2.9;Proto=http;PROTO=https", b"for=192.0.2.9;by=a@b",
            b"for=10.0.0.2," * MOST_PAIRS + b"for=192.0.2.9",
        ):
            self.assertEqual(read(forwarded(b"for=192.0.2.8"), forwarded(value)), [("unknown", "", "")], value)

    def test_aVisitorCannotTakeInWhatAProxyWroteInItsOwnLine(self) -> None:
        for claim in (b'for="', b'for=192.0.2.8;by="', b"for=192.0.2.8;", b'for=",'):
            self.assertEqual(read(forwarded(claim), forwarded(b'for="[2001:db8::7]"')), [("2001:db8::7", "", "")])

    def test_aProxyThatDoesNotWriteForWhom(self) -> None:
        self.assertEqual(read(forwarded(b"for=192.0.2.9, proto=https;by=_a")), [("", "https", "")])

    def test_invalidSchemesAndHostsAreIgnored(self) -> None:
        self.assertEqual(read(forwarded(b'for=192.0.2.9;proto="a b";host="a/b"')), [("192.0.2.9", "", "")])


class FamilyTests(SynchronousTestCase):
    """
    Which fields are extend_forwarding_fields.
    """

    X = xFor(b"192.0.2.9")
    SAME, OTHER = forwarded(b'for="192.0.2.9:80";proto=https'), forwarded(b"for=192.0.2.8")

    def nodes(self, by: str, *fields: tuple[bytes, bytes]) -> list[str]:
        return [node for node, _, _ in read(*fields, by=by)]

    def test_onlyTheChosenFamilyIsRead(self) -> None:
        nine, eight = ["192.0.2.9"], ["192.0.2.8"]
        for by, both, xAlone, forwardedAlone in (
            (EITHER, nine, nine, eight), (X_FORWARDED, nine, nine, []), (ONLY_FORWARDED, eight, [], eight),
        ):
            self.assertEqual(self.nodes(by, self.OTHER, self.X), both)
            self.assertEqual(self.nodes(by, self.X), xAlone)
            self.assertEqual(self.nodes(by, self.OTHER), forwardedAlone)

    def test_bothAreBelievedWhereTheyAgree(self) -> None:
        self.assertEqual(read(self.X, self.SAME, by=BOTH), [("192.0.2.9", "https", "")])
        self.assertEqual(read(self.X, by=BOTH), [("192.0.2.9", "", "")])
        self.assertEqual(read(self.SAME, by=BOTH), [("192.0.2.9", "https", "")])
        self.assertEqual(read(by=BOTH), [])
        chain = xFor(b"1.1.1.1", b"192.0.2.9", b"10.0.0.2")          # what the visitor claims does not matter
        self.assertEqual(self.nodes(BOTH, chain, self.SAME), ["192.0.2.9", "10.0.0.2"])

    def test_oneMaySayWhatTheOtherDoesNot(self) -> None:
        proto, host = (b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Host", b"A.example")
        self.assertEqual(read(proto, host, self.OTHER, by=BOTH), [("192.0.2.8", "https", "A.example")])
        self.assertEqual(read(host, forwarded(b"for=192.0.2.8;host=a.example"), by=BOTH), [("192.0.2.8", "", "a.example")])

    def test_contradictionsAreErrors(self) -> None:
        pairs: list[Fields] = [
            [self.X, self.OTHER], [self.X, forwarded(b"for=unknown")], [self.X, forwarded(b'for="')],
            [(b"X-Forwarded-Proto", b"http"), self.SAME], [xFor(b"192.0.2.9", b"192.0.2.7"), self.SAME],
            [self.X, (b"X-Forwarded-Host", b"a"), forwarded(b"for=192.0.2.9;host=b")],
        ]  # fmt: skip
        for fields in pairs:
            with self.assertRaises(BadMessage):
                read(*fields, by=BOTH)
