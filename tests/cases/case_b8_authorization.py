"""
An application with an C{Authorization} of its own on a route with passwords; and what else its operator meets: a response whose
head is too long, a key C{domain} outside of tables, a server that needs long for its first octet.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from base64 import b64encode

from tests.cases.tunnel import BIN, Tunnel, readHead, serve, status
from tunnelstack.settings.password_hash import makePasswordEntry

ROUTES = """
[[route]]
host = "kept.example.net"
to = "site"
users = ["{user}"]
keep_authorization = true

[[route]]
host = "usual.example.net"
to = "site"
users = ["{user}"]
"""

BASIC = b"Basic " + b64encode(b"alice:secret")
BEARER = b"Authorization: Bearer abc\r\n"


def respond(connection: socket.socket) -> None:
    """
    Answer with the request's head, or with a head of 100 000 octets.
    """
    head = readHead(connection)
    more = b"X-Long: %b\r\n" % (b"x" * 100_000) if head.startswith(b"GET /long ") else b""
    length = b"Content-Length: %d\r\nConnection: close\r\n" % len(head)
    connection.sendall(b"HTTP/1.1 200 OK\r\n" + more + length + b"\r\n" + head)


def authorization(tunnel: Tunnel) -> list[tuple[str, bool]]:
    """
    @return: what was tried, and whether it is right.
    """
    kept, usual = "kept.example.net", "usual.example.net"
    login = tunnel.get(kept, fields=b"Authorization: " + BASIC + b"\r\n")
    cookie = re.search(rb"(?i)\r\nSet-Cookie: ([^;\r]*)", login)
    line = b"Cookie: %b\r\n" % cookie[1] if cookie is not None else b""
    browser = tunnel.get(kept, fields=line + BEARER)
    program = tunnel.get(kept, fields=b"Tunnel-Authorization: " + BASIC + b"\r\n" + BEARER)
    return [
        ("without a password: 401", b" 401 " in tunnel.get(kept)[:20]),
        ("Bearer alone: 401", b" 401 " in tunnel.get(kept, fields=BEARER)[:20]),
        ("the password is not passed on", b" 200 " in login[:20] and BASIC not in login.partition(b"\r\n\r\n")[2]),
        ("a cookie is set", cookie is not None),
        ("a browser with the cookie may send Bearer", b"Bearer abc" in browser and b"tunnelstack-visitor" not in browser),
        ("a program may send both", b"Bearer abc" in program and BASIC not in program),
        ("usual routes are as before", b" 401 " in tunnel.get(usual, fields=line + BEARER)[:20]),
    ]


def longHead(tunnel: Tunnel) -> list[tuple[str, bool]]:
    page = tunnel.get("kept.example.net", b"/long", b"Authorization: " + BASIC + b"\r\n")
    print(status(page))
    cause = "response_head_octets in [limits] of the agent"
    return [
        ("the page names the cause and the setting", b" 502 " in page[:20] and cause.encode() in page),
        ("so does the log of the agent", cause in tunnel.log("site")),
    ]


def commands(tunnel: Tunnel) -> list[tuple[str, bool]]:
    path = tunnel.folder / "wrong.toml"
    path.write_text('domain = "a.example.net"\n')
    checked = subprocess.run(
        [BIN / "tunnelstack", "check", path], env=tunnel.environ, capture_output=True, text=True, timeout=60
    )
    helped = subprocess.run(
        [BIN / "tunnel-agent", "--help"], env=tunnel.environ, capture_output=True, text=True, timeout=60
    )
    print(checked.stderr.strip())
    return [
        ("a top-level domain is one of [edge]", checked.returncode == 78 and "[edge]" in checked.stderr),
        ("--first-octet is an option", "--first-octet SECONDS" in helped.stdout),
    ]


def main() -> int:
    """
    @return: 0 if all is right.
    """
    with Tunnel(ROUTES.format(user=makePasswordEntry("alice", "secret"))) as tunnel:
        tunnel.startAgent("http", serve(respond), name="site")
        seen = authorization(tunnel) + longHead(tunnel) + commands(tunnel)
    for what, right in seen:
        print(f"{'good ' if right else 'WRONG'} {what}")
    return 0 if all(right for _, right in seen) else 1


if __name__ == "__main__":
    sys.exit(main())
