"""
The program of the README without an edge: a sentence and exit code 1; with one that is down: a line, and it waits for it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.cases.tunnel import Tunnel, waitUntil

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "docs" / "examples" / "echo.py"


def main() -> int:
    """
    @return: 0 if both are reported in one line.
    """
    with Tunnel() as tunnel:
        nowhere = tunnel.environ | {"STATE_DIRECTORY": str(tunnel.folder / "empty")}
        alone = subprocess.run([sys.executable, EXAMPLE], env=nowhere, capture_output=True, text=True, timeout=60)
        print(alone.returncode, alone.stderr.strip())
        tunnel.edge.send_signal(signal.SIGKILL)      # its address stays in the state folder
        tunnel.edge.wait()
        waiting = tunnel.start("echo", sys.executable, str(EXAMPLE))
        reported = waitUntil(lambda: "no session with" in tunnel.log("echo"))
        print(tunnel.log("echo").strip())
        tunnel.startEdge("again")
        ended = waitUntil(lambda: waiting.poll() is not None)
        text = tunnel.log("echo")
        print(text.strip())
        good = alone.returncode == 1 and alone.stderr.count("\n") == 1 and "no edge is configured" in alone.stderr
        return 0 if good and reported and ended and "hello, tunnel" in text and "Traceback" not in text else 1


if __name__ == "__main__":
    sys.exit(main())
