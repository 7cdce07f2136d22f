"""
An SSH session of the embedded server is closed while its server has more to write: it ends at once, and not after 30 seconds.

The kind of this fault is a C{loseConnection} that waits for a registered producer which never ends; it is tested with both
versions of the transport.
"""

from __future__ import annotations

import sys
import time

from tests.cases.device import devices, ended, openSession, sessions, startDevice
from tests.cases.tunnel import Tunnel

SECONDS = 3.0
"""Seconds for a close that the fault would delay by 30."""


def closesAtOnce(version: int) -> bool:
    """
    Whether a session of this version of the transport ends when it is closed.
    """
    with Tunnel() as tunnel:
        startDevice(tunnel, version)
        closed, kept = openSession(tunnel), openSession(tunnel)
        first, second = sessions(tunnel)
        print(devices(tunnel, "close", first["session"]).stdout)
        began = time.monotonic()
        good = ended(closed, SECONDS)
        print(f"version {version}: ended {good}, after {time.monotonic() - began:.2f} s")
        left = [each["session"] for each in sessions(tunnel)]
        print("left:", left)
        good = good and left == [second["session"]] and kept.poll() is None
        kept.kill()
        kept.wait()
        return good


def main() -> int:
    """
    @return: 0 if the closed sessions end, and no others.
    """
    return 0 if all(closesAtOnce(version) for version in (1, 2)) else 1


if __name__ == "__main__":
    sys.exit(main())
