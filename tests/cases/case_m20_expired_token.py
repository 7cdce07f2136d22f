"""
A token has expired: C{tunnelstack token list}, the log of the edge and the agent that shows it report since when.
"""

from __future__ import annotations

import subprocess
import sys
import time

from tests.cases.tunnel import BIN, Tunnel, waitUntil

EXPIRED = "expired since 20"


def main() -> int:
    """
    @return: 0 if all three report it.
    """
    with Tunnel() as tunnel:
        command = [BIN / "tunnelstack", "token", "new", "laptop", "--allow", "http:*", "--expires-in", "1s"]
        made = subprocess.run(command, env=tunnel.environ, capture_output=True, text=True, check=True, timeout=60)
        time.sleep(1.2)
        listed = subprocess.run(
            [BIN / "tunnelstack", "token", "list"], env=tunnel.environ, capture_output=True, text=True, check=True, timeout=60
        )
        edge = f"http://localhost:{tunnel.port}"
        agent = tunnel.start("agent", "tunnel-agent", "--edge", edge, "http", "3000", TUNNELSTACK_TOKEN=made.stdout.strip())
        ended = waitUntil(lambda: agent.poll() is not None)
        texts = {"token list": listed.stdout, "edge": tunnel.log("edge"), "agent": tunnel.log("agent")}
        for name, text in texts.items():
            print(f"{name}: {'good' if EXPIRED in text else text[-400:]!r}")
        return 0 if ended and agent.returncode == 77 and all(EXPIRED in text for text in texts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
