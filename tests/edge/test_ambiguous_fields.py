"""
Fields that another program reads in another way than the edge, and requests that come back.

The kind of S6: a C{Host} whose name or port programs read differently, and names that a CGI environment cannot distinguish from
those that the edge writes.  The kind of C2: a request that passes the same edge again and again.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.edge.test_edge_and_agent import SITE, Both
from tunnelstack.control.config.records import Route, ServiceConfig
from tunnelstack.edge.public.requests import MAX_HOPS, REPLACED, WRITTEN, underscoreTwins
from tunnelstack.wire.http1.cdn_loop import encode_hop, extended, read_hops
from tunnelstack.wire.http1.framing import HOST

GOOD = (
    b"", b"a", b"a.example", b"A-B.example.", b"a:80", b"a:", b"a:0", b"a:65535", b"a:00080", b"127.0.0.1:8080", b"[::1]",
    b"[::1]:443", b"[::ffff:1.2.3.4]", b"[fe80::1%25eth0]:1", b"a_b.example", b"a%2db", b"x" * 255,
)  # fmt: skip
BAD = (
    b"a:80:80", b"a:99999", b"a:65536", b"a:100000", b"a:-1", b"a:8x", b"a: 80", b"a :80", b":80", b":", b"a::80", b"::1",
    b"[::1", b"::1]", b"[::1]80", b"[::1]:99999", b"[a]b", b"[]", b"a[b]", b"a/b", b"a\\b", b"a?b", b"a#b", b"u@a", b"a, b",
    b"a b", b"a%zz", b"a%2", b"x" * 256, b"[::1]]", b"\xc3\xa4.example", b"a\tb",
)  # fmt: skip


class HostTests(SynchronousTestCase):
    """
    What is a host.
    """

    def test_validHostsAreAccepted(self) -> None:
        for host in GOOD:
            self.assertTrue(HOST.match(host), host)

    def test_invalidHostsAreRejected(self) -> None:
        for host in BAD:
            self.assertFalse(HOST.match(host), host)

    @given(st.integers(0, 200_000))
    def test_portsEndAt65535(self, port: int) -> None:
        self.assertEqual(HOST.match(b"a:%d" % port) is not None, port <= 65_535)

    @given(st.binary(max_size=12))
    def test_aHostHasOneColonOutsideBrackets(self, octets: bytes) -> None:
        if HOST.match(octets):
            name = octets.rpartition(b"]")[2]
            self.assertLessEqual(name.count(b":"), 1)
            self.assertEqual((octets.count(b"["), octets.count(b"]")), ((1, 1) if octets[:1] == b"[" else (0, 0)))


class TwinTests(Both):
    """
    Through a whole edge and agent.
    """

    def status(self, octets: bytes) -> bytes:
        return self.both.visit(octets).got[9:12]

    def test_ambiguousHostsAre400(self) -> None:
        self.begin(SITE)
        for host in (b"site.localhost:80:80", b"site.localhost:99999", b"site.localhost, x", b"u@site.localhost"):
            self.assertEqual(self.status(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host), b"400", host)
            absolute = b"GET http://%b/ HTTP/1.1\r\nHost: site.localhost\r\n\r\n" % host.replace(b" ", b"")
            if b"," not in host and b"@" not in host:
                self.assertEqual(self.status(absolute), b"400", absolute)
        self.assertEqual(self.status(b"GET / HTTP/1.1\r\nHost: site.localhost:80\r\n\r\n"), b"200")

    def test_twinsAreDropped(self) -> None:
        self.begin(SITE)
        names = underscoreTwins(WRITTEN) | {b"Content_Length", b"TRANSFER_ENCODING", b"X_Forwarded-For"}
        fields = b"".join(b"%b: 203.0.113.66\r\n" % name for name in sorted(names))
        self.both.visit(b"GET / HTTP/1.1\r\nHost: site.localhost\r\nX_Mine: yes\r\n%b\r\n" % fields)
        (request,) = self.origin.requests
        self.assertNotIn(b"203.0.113.66", request)
        self.assertIn(b"X_Mine: yes\r\n", request)

    def test_everyUnderscoreTwinIsKnown(self) -> None:
        self.assertEqual(underscoreTwins([b"a-b-c"]), {b"a_b_c", b"a_b-c", b"a-b_c"})
        for name in (b"x_forwarded_for", b"x-forwarded_proto", b"content_length", b"transfer_encoding", b"cdn_loop"):
            self.assertIn(name, REPLACED)
        self.assertNotIn(b"content-length", REPLACED)

    def test_fieldsOfTooManyProxies(self) -> None:
        """
        What the edge adds has a bound, of which the agent knows.
        """
        both = self.begin(SITE, start=False, edge={"trustedProxies": ("127.0.0.0/8",)})
        both.start()
        hops = b", ".join([b"127.0.0.1"] * 250)
        request = b"GET / HTTP/1.1\r\nHost: site.localhost\r\nX-Forwarded-For: %b\r\nX-Forwarded-Host: %b\r\n\r\n"
        self.assertEqual(self.status(request % (hops, b"h" * 200)), b"431")
        self.assertEqual(self.status(request % (hops, b"h")), b"200")


class LoopTests(Both):
    """
    Requests that come back, and such that pass several services.
    """

    def get(self, *passed: bytes, host: bytes = b"site.localhost") -> bytes:
        fields = b"".join(b"CDN-Loop: %b\r\n" % value for value in passed)
        return self.both.visit(b"GET / HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (host, fields)).got[9:12]

    def test_anAgentWhoseTargetIsTheEdge(self) -> None:
        both = self.begin(ServiceConfig(name="loop", target="8080", rewriteHost="loop.localhost"))
        self.assertEqual(self.get(host=b"loop.localhost"), b"508")
        (tunnel,) = both.edge.registry
        self.assertLessEqual(tunnel.session.streams, 2)

    def test_aVisitorCannotHideTheLoop(self) -> None:
        both = self.begin(
            ServiceConfig(name="loop", target="8080", rewriteHost="www.example.net"), start=False,
            edge={"routes": (Route(host="www.example.net", to="laptop/loop"),)},
        )
        both.start()
        for value in (b'a"', b'a;b="', b'a;b="\\', b'a;b="x, y'):
            self.assertEqual(self.get(value, host=b"www.example.net"), b"508", value)
            (tunnel,) = both.edge.registry
            self.assertLessEqual(tunnel.session.streams, 2)

    def test_aServiceMayForwardToAnotherOfTheSameEdge(self) -> None:
        self.begin(ServiceConfig(name="front", target="8080", rewriteHost="site.localhost"), SITE)
        self.assertEqual(self.get(host=b"front.localhost"), b"200")
        (request,) = self.origin.requests
        (line,) = [line for line in request.split(b"\r\n") if line.startswith(b"CDN-Loop: ")]
        self.assertEqual([service for _, service in read_hops([line[10:]])], [b"front", b"site"])

    def test_tooManyHopsAreALoop(self) -> None:
        self.begin(SITE)
        others = [b"edge%d" % number for number in range(MAX_HOPS - 2)]
        self.assertEqual(self.get(b", ".join(others)), b"200")
        self.assertEqual(self.get(*others, b"one-more"), b"508")
        self.assertEqual(self.get(b",".join([b", ,"] * 50)), b"200")

    def test_whatOthersWroteIsKept(self) -> None:
        self.begin(SITE)
        self.get(b'foo123.foocdn.example; trace="a,b"', b"barcdn.example")
        self.assertIn(b'CDN-Loop: foo123.foocdn.example; trace="a,b", barcdn.example, tunnelstack-', self.origin.requests[0])


class ParserTests(SynchronousTestCase):
    """
    The field.
    """

    @given(st.lists(st.tuples(
        st.from_regex(rb"[a-z0-9.:\[\]-]{1,20}", fullmatch=True), st.from_regex(rb'[ -~]{1,20}', fullmatch=True),
    ), max_size=5))
    def test_whatIsWrittenIsRead(self, hops: list[tuple[bytes, bytes]]) -> None:
        self.assertEqual(read_hops([b", ".join(encode_hop(*hop) for hop in hops)]), hops)

    @given(st.binary(max_size=30), st.sampled_from([b"site", b"laptop/site", b"device:80"]))
    def test_whatAVisitorWroteHidesNoHop(self, value: bytes, service: bytes) -> None:
        """
        The kind of this fault: a quotation mark that a visitor leaves open, which takes in what edges add after it.
        """
        for passed in (value, value + b'"', value + b'a;b="', value + b'a;b="\\'):
            for added in (encode_hop(b"other", b"of/others"), b'other; x=" , y"'):
                sent = extended([passed], b"edge", service)
                self.assertEqual(read_hops([sent])[-1], (b"edge", service))
                self.assertEqual(read_hops([sent + b", " + added])[-2], (b"edge", service))

    @given(st.lists(st.text("ab;=\", \\").map(str.encode), max_size=3))
    def test_anythingIsRead(self, values: list[bytes]) -> None:
        read_hops(values)
