"""
F14: octets from 0x80 in a target reach the server as they are, and are percent-encoded wherever people read them: in the logs
of edge and agent, in messages, and in the C{Location} of a redirect.  Control octets are refused.
"""

from __future__ import annotations

import sys

from tests.cases.tunnel import Tunnel, echoHead, serve, status, waitUntil

TOML = """
[[route]]
host = "secure.example.net"
to = "site"
redirect = true
"""

TARGETS = {
    "/gr\u00fc\u00dfe?q=\u20ac".encode(): b"/gr%C3%BC%C3%9Fe?q=%E2%82%AC",
    b"/\xe4\xff\x80": b"/%E4%FF%80",
    b"/a?\xfc": b"/a?%FC",
}


def main() -> int:
    wrong = 0

    def check(what: str, good: bool) -> None:
        nonlocal wrong
        wrong += not good
        print(f"{'ok   ' if good else 'FAULT'} {what}")

    with Tunnel(TOML) as tunnel:
        tunnel.startAgent("http", serve(echoHead), name="site")
        for target, encoded in TARGETS.items():
            shown = encoded.decode()
            answer = tunnel.get("site.localhost", target)
            check(f"{shown} reaches the server as it is", b"GET %b HTTP/1.1\r\n" % target in answer)
            answer = tunnel.get("secure.example.net", target)
            check(f"{shown} is redirected", b"\r\nLocation: https://secure.example.net%b\r\n" % encoded in answer)
            answer = tunnel.get("absent.localhost", target)
            check(f"{shown} is 404 where no service is", " 404 " in status(answer))
            for name in ("edge", "site"):
                logged = waitUntil(lambda name=name, shown=shown: shown in tunnel.log(name), 5)
                check(f"{shown} is in the access log of {name}", logged)
        for octet in (0, 1, 0x1F, 0x7F):
            answer = tunnel.get("site.localhost", b"/a%bb" % bytes([octet]))
            check(f"octet {octet} is refused", " 400 " in status(answer))
        check("no error is logged", "Traceback" not in tunnel.log("edge") + tunnel.log("site"))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
