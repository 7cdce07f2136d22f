"""
F16: a route that keeps everybody out of a path is not passed by a target that the server behind the agent reads as that path.

Servers cut a target at C{#}, cut parameters at C{;}, ignore case, decode once or twice, and take backslashes for slashes.  The
route guards the path for all of them: 400 for a fragment, 403 or 404 for the rest, and nothing reaches the server.
"""

from __future__ import annotations

import sys

from tests.cases.tunnel import Tunnel, echoHead, serve, status

TOML = """
[[route]]
host = "www.example.net"
path = "/admin"
to = "site"
visitors = ["deny all"]

[[route]]
host = "www.example.net"
to = "site"
"""

FRAGMENTS = (b"/admin#x", b"/admin#", b"/admin?a#x", b"/#/admin", b"/admin#/../x", b"http://www.example.net/admin#x")

GUARDED = (
    b"/admin", b"/admin/x", b"/admin?x", b"//admin", b"/%61dmin", b"/x/../admin", b"/ADMIN", b"/Admin/x",
    b"/admin;x", b"/admin;x/y", b"/;x/admin", b"/x/..;/admin", b"/x/..;a=b/ADMIN", b"/\\admin", b"\\admin",
    b"/x\\..\\admin", b"/x/%2e%2e/admin", b"/x/..%2fadmin", b"/x%2f..%2f%61dmin", b"/%2561dmin", b"/admin%00",
    b"/admin%00.html", b"/admin%3fx", b"/admin%23x", b"/admin%20", b"/admin.", b"/%c0%afadmin",
    b"/x/%c0%ae%c0%ae/admin", b"/x/\xc0\xae\xc0\xae/admin", b"/%u0061dmin", b"/x%u002f..%u002fadmin",
    b"//x/admin", b"/\\x/admin", b"/./admin", b"/x\\%2e%2e\\ADMIN;y", b"http://www.example.net/x/..;/admin",
)  # fmt: skip

OPEN = (
    b"/", b"/x", b"/administrator", b"/x?y=/admin", b"/x/admin", b"/Index.html", b"/a%20b", b"/gr\xc3\xbc\xc3\x9fe", b"/x;y",
    b"/a//b",
)  # fmt: skip


def main() -> int:
    wrong = 0
    with Tunnel(TOML) as tunnel:
        tunnel.startAgent("http", serve(echoHead), name="site")
        for host in ("www.example.net", "site.localhost"):
            for targets, right in ((FRAGMENTS, ("400",)), (GUARDED, ("400", "403", "404")), (OPEN, ("200",))):
                for target in targets:
                    line = status(tunnel.get(host, target))
                    good = line.split(" ")[1] in right
                    wrong += not good
                    print(f"{'ok   ' if good else 'FAULT'} {host} {target.decode('latin-1')!r} {line}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
