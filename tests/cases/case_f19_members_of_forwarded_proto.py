"""
X-Forwarded-Proto and -Host that reach a server have one member, or as many as X-Forwarded-For, whichever of them the trusted
proxies added to.  Some frameworks answer 400 otherwise.
"""

from __future__ import annotations

import re
import sys

from tests.cases.tunnel import Tunnel, echoHead, serve

TOML = '[edge]\ntrusted_proxies = ["127.0.0.1/32", "10.0.0.0/8"]\n'

REQUESTS = [
    (b"X-Forwarded-For: 203.0.113.7, 10.0.0.2\r\nX-Forwarded-Proto: https, http\r\n", "https"),
    (b"X-Forwarded-For: 203.0.113.7, 10.0.0.2\r\nX-Forwarded-Proto: https\r\n", "https"),
    (b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n", "http"),
    (b"X-Forwarded-For: 203.0.113.7, 10.0.0.3, 10.0.0.2\r\nX-Forwarded-Proto: https,http\r\n", "https"),
    (b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 10.0.0.2\r\nX-Forwarded-Host: a.example, b.example\r\n", "http"),
    (b"Forwarded: for=203.0.113.7;proto=https, for=10.0.0.2;proto=http\r\n", "https"),
]


def main() -> int:
    wrong = 0
    with Tunnel(TOML) as tunnel:
        tunnel.startAgent("http", serve(echoHead), name="ha")
        for fields, scheme in REQUESTS:
            answer = tunnel.get("ha.localhost", fields=fields)
            told = {name: value.decode() for name, value in re.findall(rb"X-Forwarded-(For|Proto|Host): ([^\r]*)", answer)}
            print(f"{fields!r}: {told}")
            hops = len(told[b"For"].split(","))
            wrong += any(len(told[name].split(",")) not in (1, hops) for name in (b"Proto", b"Host"))
            wrong += told[b"Proto"].split(",")[0] != scheme or not told[b"For"].startswith("203.0.113.7, ")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
