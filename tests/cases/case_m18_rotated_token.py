"""
A token is rotated while its agent runs: the file gets a new token, the old one is revoked.  The agent comes back with the new
one, and without a restart.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cases.tunnel import BIN, Tunnel, echoHead, serve, status, waitUntil


def token(tunnel: Tunnel, *arguments: str) -> str:
    """
    Run C{tunnelstack token}.

    @return: what it prints.
    """
    command = [BIN / "tunnelstack", "token", *arguments]
    return subprocess.run(command, env=tunnel.environ, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def main() -> int:
    """
    @return: 0 if the agent serves with the new token.
    """
    with Tunnel() as tunnel:
        file = Path(tunnel.folder, "agent.token")
        file.touch(0o600)
        old = token(tunnel, "new", "laptop", "--allow", "http:*")
        file.write_text(old)
        tunnel.start(
            "agent", "tunnel-agent", "--edge", f"http://localhost:{tunnel.port}", "--token-file", str(file), "http",
            str(serve(echoHead)), "--name", "site",
        )  # fmt: skip
        tunnel.waitForLog("agent", " -> ")
        new = token(tunnel, "new", "laptop", "--allow", "http:*")
        file.write_text(new)
        token(tunnel, "revoke", old.split("_")[1])
        waitUntil(lambda: "lost" in tunnel.log("agent") or "ends the session" in tunnel.log("agent"), 10)
        back = waitUntil(lambda: b" 200 " in tunnel.get("site.localhost").split(b"\r\n")[0], 15)
        print(status(tunnel.get("site.localhost")))
        agents = subprocess.run([BIN / "tunnelstack", "agents"], env=tunnel.environ, capture_output=True, text=True, timeout=60)
        print(agents.stdout)
        return 0 if back and new.split("_")[1] in agents.stdout else 1


if __name__ == "__main__":
    sys.exit(main())
