"""
Request targets from anybody.  What the routes serve belongs to the same route for every program of L{tests.edge.path_readers}.
"""

from __future__ import annotations

from collections.abc import Hashable

from tests.edge.path_readers import READERS
from tunnelstack.control.config.records import Route
from tunnelstack.edge.public.routes import RouteTable
from tunnelstack.wire.http1.head import find_end_untrusted, read_request_untrusted
from tunnelstack.wire.http1.target import (
    OPERATIONS,
    PLAIN,
    folded,
    path_of,
    percent_encoded,
    readings,
    split_absolute,
)

HOST = "www.example.net"
PATH = "/admin"
LONGEST = 256  # octets of an input that become the target

ROUTES = RouteTable("tunnels.example.net", [Route(host=HOST, path=PATH, to="admin"), Route(host=HOST, to="site")])


def target(data: bytes) -> Hashable:
    """
    @return: what was made of it.
    """
    data = data[:LONGEST]
    octets = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % data
    sent = read_request_untrusted(octets, find_end_untrusted(octets)).target
    assert sent == data and b"#" not in sent
    shown = percent_encoded(sent)
    assert shown.isascii() and shown.decode().isprintable() and percent_encoded(shown) == shown
    if not sent.startswith(b"/"):
        absolute = split_absolute(sent)
        if absolute is None:
            return "no path"
        sent = absolute[1]
    return route(sent), read(path_of(sent))


def route(sent: bytes) -> Hashable:
    """
    To which service it goes, and which programs refuse it.
    """
    found = ROUTES.find(HOST.encode(), sent)
    assert ROUTES.find(HOST.encode(), sent) is found
    if found is None:
        return None
    paths = {program: reader(sent) for program, reader in READERS.items()}
    for program, path in paths.items():
        if path is not None:
            below = (path + b"/").startswith(PATH.encode() + b"/")
            assert below == (found.key == "admin"), (program, path, found)
    return found.key, *(path is None for path in paths.values())


def read(path: bytes) -> Hashable:
    """
    The readings are closed and bounded, and a plain path has one.
    """
    known = readings(path)
    if known is None:
        assert not PLAIN.match(path)
        return None
    assert path in known
    for each in known:
        assert each.startswith(b"/") and len(each) <= len(path)
        assert all(operation(each) in known for operation in OPERATIONS)
    assert not PLAIN.match(path) or (len(known) == 1 and folded(path) == path)
    return len(known), tuple(operation(path) != path for operation in OPERATIONS)


SEEDS = [
    b"/", b"*", b"/admin", b"/admin/x?y", b"/a/b.c/d?e=%20//../f", b"/ADMIN", b"/%61dmin", b"/%2561dmin",
    b"/%u0061dmin", b"/admin;x", b"/x/..;/admin", b"/x/%2e%2e/admin", b"/x%2f..%2fadmin", b"/x\\..\\admin",
    b"//x/admin", b"/admin%00.html", b"/admin%3fx", b"/admin%20", b"/admin./", b"/x/%c0%ae%c0%ae/admin",
    b"/\xc0\xafadmin", b"/gr\xc3\xbc\xc3\x9fe", b"http://me@a:80/x/..;/admin", b"https://[::1]?x",
    b"/a%2fb/%2e%2e/%61dmin",
]  # fmt: skip

FOUND = [
    b"///x/admin",  # the host was removed after two slashes only
]
