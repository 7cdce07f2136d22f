"""
S6: a C{Host} that programs read differently is 400, and twins with underscores of the fields that the edge writes do not
arrive.
"""

from __future__ import annotations

import sys

from tests.cases.tunnel import Tunnel, echoHead, serve, status

HOSTS = {"site.localhost:80": "200", "site.localhost:80:80": "400", "site.localhost:99999": "400"}


def main() -> int:
    wrong = 0
    with Tunnel() as tunnel:
        tunnel.startAgent("http", serve(echoHead), name="site")
        for host, expected in HOSTS.items():
            answer = tunnel.get(host)
            wrong += f" {expected} " not in status(answer)
            print(f"Host: {host}: {status(answer)}")
        arrived = tunnel.get("site.localhost", fields=b"X_Forwarded_For: 203.0.113.66\r\nContent_Length: 203\r\n")
        print(arrived.decode("latin-1"))
        wrong += b" 200 " not in arrived or b"203.0.113.66" in arrived or b"Content_Length" in arrived
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
