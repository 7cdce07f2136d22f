"""
What C{docs/howto/run-an-edge.md} promises: no target is served under one route that a program may read in such a way that it
belongs to another route.
"""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.edge.path_readers import READERS, SEGMENTS, SEPARATORS, Reader
from tunnelstack.control.config.records import Route
from tunnelstack.edge.public.routes import RouteTable

HOST = b"www.example.net"
EXAMPLES = max(400, settings.default.max_examples) if settings.default is not None else 400

TABLES = {
    "a guarded path": ("/admin", "/"),
    "an open path": ("/open", "/"),
    "a path inside a path": ("/open/admin", "/open", "/"),
    "a path with capitals": ("/ADMIN", "/"),
    "a path with escapes": ("/adm%69n", "/a%20b", "/"),
    "nothing but a path": ("/open",),
    "a path with a blank inside": ("/a%20b/admin", "/"),
}

TARGETS = st.builds(
    lambda pairs, end: b"".join(separator + segment for separator, segment in pairs) + end,
    st.lists(st.tuples(st.sampled_from(SEPARATORS), st.sampled_from(SEGMENTS)), min_size=1, max_size=6),
    st.sampled_from([b"", b"", b"/", b"?q", b"?/../admin", b"%3fq", b"/.", b"/.."]),
).map(lambda target: target if target.startswith(b"/") else b"/" + target)


def table(paths: tuple[str, ...]) -> RouteTable:
    """
    Each path leads to a service of its own.
    """
    return RouteTable("tunnels.example.net", [
        Route(host=HOST.decode(), path=path, to=f"s{number}") for number, path in enumerate(paths)
    ])  # fmt: skip


@cache
def owned(reader: Reader, path: str) -> bytes | None:
    """
    The path of a route as a program reads it, without the final slash.
    """
    above = reader(path.encode())
    return None if above is None else above.rstrip(b"/")


def owner(reader: Reader, path: bytes, paths: tuple[str, ...]) -> str | None:
    """
    The service to which a path belongs for a program that reads the routes' paths as it reads those of requests.
    """
    for number, each in enumerate(paths):
        above = owned(reader, each)
        if above is not None and (path + b"/").startswith(above + b"/"):
            return f"s{number}"
    return None


class PromiseTests(SynchronousTestCase):
    """
    The promise, against every model.
    """

    tables = {name: table(paths) for name, paths in TABLES.items()}

    def check(self, target: bytes) -> None:
        for name, paths in TABLES.items():
            found = self.tables[name].find(HOST, target)
            if found is None:
                continue
            for program, reader in READERS.items():
                path = reader(target)
                if path is not None:
                    self.assertEqual(owner(reader, path, paths), found.key, (name, program, target, path))

    @given(TARGETS)
    @settings(max_examples=EXAMPLES)
    def test_noProgramReadsATargetIntoAnotherRoute(self, target: bytes) -> None:
        self.check(target)

    @given(st.lists(st.sampled_from(sorted({*range(0x21, 0x100)} - {0x23, 0x7F})), max_size=24))
    def test_noOctetsDo(self, octets: list[int]) -> None:
        self.check(b"/" + bytes(octets))

    @given(st.text("/.%25eEfF6;\\admi", max_size=24))
    @settings(max_examples=EXAMPLES)
    def test_noOctetsThatMatterDo(self, text: str) -> None:
        self.check(b"/" + text.encode())

    TRICKS = {
        "nginx": b"//x/%2e%2e/admin", "Apache, encoded slashes": b"/a%2fb/%2e%2e/%61dmin",
        "Express": b"/Admin", "Express, files": b"/x/..%2fADMIN", "Node, URL": b"//x/admin",
        "Node, URL, decoded": b"/a%2fb/%2e%2e/%61dmin", "Tomcat": b"/x/..;/admin",
        "Jetty": b"/x/%2e%2e;a/adm%69n;b/y", "Python, files": b"/x%2f../admin", "Python, URL": b"//x/%61dmin",
        "Python, decoded first": b"/admin%3fx", "Go, path": b"/%61dmin", "Go, files": b"/x//../../admin",
        "IIS": b"/x\\%2e%2e\\%u0061DMIN.", "IIS, twice": b"/x%255c..%255cAdmin%2520",
        "IIS, overlong": b"/x%c0%af..%c0%afAdmin",
    }  # fmt: skip

    def test_everyProgramWouldBeTricked(self) -> None:
        """
        These checks can fail: for each model there is a target that it reads into a route in which it is not written.
        """
        self.assertEqual(self.TRICKS.keys(), READERS.keys())
        paths = ("/admin", "/")
        routes = table(paths)
        for program, target in self.TRICKS.items():
            path = READERS[program](target)
            assert path is not None, program
            self.assertEqual(owner(READERS[program], path, paths), "s0", program)
            self.assertFalse(target.startswith((b"/admin/", b"/admin?")) or target == b"/admin", program)
            self.assertIsNone(routes.find(HOST, target), program)

    def test_aHostAfterMoreThanTwoSlashesIsNoWayAround(self) -> None:
        for target in (b"///x/admin", b"/\\/x/admin", b"////x/admin"):
            self.assertEqual(READERS["Node, URL"](target), b"/admin")
            self.check(target)

    def test_whatCanBeReadInOneWayIsFound(self) -> None:
        routes = table(("/admin", "/"))
        for target, key in (
            (b"/", "s1"), (b"/admin", "s0"), (b"/admin/", "s0"), (b"/admin/x?y=/../z", "s0"),
            (b"/administrator", "s1"), (b"/x/admin", "s1"), (b"/x?next=//admin", "s1"),
            (b"/Index.html", "s1"), (b"/a%20b/c%2Fd", "s1"), (b"/admin/a%20b;x", "s0"),
            (b"/.well-known/acme-challenge/AbC-_", "s1"), (b"/admin/../admin/x", "s0"),
            (b"/gr\xc3\xbc\xc3\x9fe", "s1"), (b"/x;jsessionid=1?y", "s1"), (b"/a//b", "s1"), (b"/100%", "s1"),
            (b"*", "s1"),
        ):  # fmt: skip
            found = routes.find(HOST, target)
            self.assertEqual(found and found.key, key, target)
