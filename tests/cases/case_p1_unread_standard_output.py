"""
P1: an edge whose standard output or standard error is a pipe that no process reads answers no visitor after 64 KiB.

Visitors of unknown hosts fill standard error with the access log, to more than pipe and edge hold; SIGUSR2 fills standard
output with status lines.  The edge must answer all the time, report how many lines it dropped once the pipe is read, and end
although it is not.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

from tests.cases.tunnel import Tunnel, status
from tests.ports import freePort

TARGET = b"/" + b"x" * 8000
VISITS = 600
"""Of which each is a line of more than 8 000 octets on standard error, and up to two of 60 on standard output."""

READ_SECONDS = END_SECONDS = 10.0


class UnreadEdge:
    """
    An edge in a tunnel's folder, whose outputs are pipes that only this case could read.
    """

    def __init__(self, tunnel: Tunnel) -> None:
        self.port = freePort()
        self.process = subprocess.Popen(
            ["tunnel-edge", "--listen", f"tcp:{self.port}:interface=127.0.0.1"],
            env=tunnel.environ | {"STATE_DIRECTORY": str(tunnel.folder / "other")}, cwd=tunnel.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None and self.process.stderr is not None
        self.out, self.err = self.process.stdout.fileno(), self.process.stderr.fileno()
        if not select.select([self.out], [], [], 20)[0]:
            sys.exit("the edge printed nothing")
        self._tunnel = tunnel

    def answers(self, visits: int) -> bool:
        """
        Whether each of so many visitors is answered within 3 seconds.
        """
        for number in range(visits):
            self.process.send_signal(signal.SIGUSR2)
            time.sleep(0.002)
            self.process.send_signal(signal.SIGUSR2)
            answer = self._tunnel.get("no.localhost", TARGET, port=self.port, seconds=3)
            if status(answer) != "HTTP/1.1 404 Not Found":
                print(f"visitor {number + 1} saw {answer[:40]!r}")
                return False
        return True

    def reports(self) -> bool:
        """
        Read standard error until dropped lines are reported.
        """
        octets, deadline = b"", time.monotonic() + READ_SECONDS
        while b"lines were dropped here" not in octets and time.monotonic() < deadline:
            if select.select([self.err], [], [], 0.1)[0]:
                octets = octets[-1000:] + os.read(self.err, 65536)
        return b"lines were dropped here" in octets

    def ends(self) -> bool:
        """
        Whether SIGTERM ends it with 0, in good time.
        """
        self.process.terminate()
        try:
            return self.process.wait(END_SECONDS) == 0
        except subprocess.TimeoutExpired:
            return False


def main() -> int:
    """
    @return: 0 if the edge behaves, or 1.
    """
    with Tunnel() as tunnel:
        edge = UnreadEdge(tunnel)
        try:
            checks = {
                "visitors are answered while the outputs are not read": edge.answers(VISITS),
                "dropped lines are reported once standard error is read": edge.reports(),
                "visitors are answered while standard output is still not read": edge.answers(20),
                "the edge ends while its outputs are not read": edge.ends(),
            }
            pending = len(os.read(edge.out, 1 << 17))
        finally:
            edge.process.kill()
            edge.process.wait()
    checks["standard output was full"] = pending > 60_000
    for sentence, holds in checks.items():
        print(f"{'yes' if holds else 'NO ':<4} {sentence}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
