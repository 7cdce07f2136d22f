"""
C2: an agent whose target is the edge itself is answered 508 at once, and does not fill its session with streams.
"""

from __future__ import annotations

import sys
import time

from tests.cases.tunnel import Tunnel, status


def main() -> int:
    with Tunnel() as tunnel:
        tunnel.startAgent("http", tunnel.port, name="loop")
        began = time.monotonic()
        answer = tunnel.get("loop.localhost", seconds=30)
        seconds = time.monotonic() - began
    print(status(answer), f"{seconds:.1f} s")
    return " 508 " not in status(answer) or seconds > 2


if __name__ == "__main__":
    sys.exit(main())
