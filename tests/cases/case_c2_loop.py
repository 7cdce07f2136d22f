"""
C2: an agent whose target is the edge itself is answered 508 at once, and does not fill its session with streams.
"""

from __future__ import annotations

import sys

from tests.cases.tunnel import Tunnel, status


def main() -> int:
    with Tunnel() as tunnel:
        tunnel.startAgent("http", tunnel.port, name="loop")
        answer = tunnel.get("loop.localhost")
        loops = tunnel.log("edge").count('"status": 508')
    print(status(answer), f"{loops} logged")
    return " 508 " not in status(answer) or loops != 1


if __name__ == "__main__":
    sys.exit(main())
