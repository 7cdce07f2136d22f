"""
H2: two edges with C{--dev}, one of which is a demo's.  The file by which agents find an edge belongs to the one that holds the
administration socket; the other leaves it alone, and takes it over when the first has ended.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from pathlib import Path

from tests.cases.tunnel import Tunnel, echoHead, serve, status, waitUntil
from tests.ports import freePort


def named(tunnel: Tunnel) -> int:
    """
    The port of the edge that C{dev.toml} names; C{0} if it names none.
    """
    path = Path(tunnel.folder / "dev.toml")
    found = re.search(r"localhost:(\d+)", path.read_text()) if path.exists() else None
    return int(found[1]) if found else 0


def check(what: str, good: object) -> int:
    print(what, "->", "good" if good else "WRONG")
    return not good


def main() -> int:
    with Tunnel() as tunnel:
        port = freePort()
        demo = tunnel.start("demo", "tunnelstack", "demo", "--port", str(port))
        tunnel.waitForLog("demo", "Ctrl-C stops", 40)
        wrong = check("the demo's site is public", " 200 " in status(tunnel.get("demo.localhost", port=port)))
        wrong += check("the demo says how its edge is reached", f"--dev --edge http://localhost:{port} " in tunnel.log("demo"))
        wrong += check("the file names the first edge", named(tunnel) == tunnel.port)
        tunnel.startAgent("http", serve(echoHead), name="site")
        wrong += check("an agent finds the first edge", " 200 " in status(tunnel.get("site.localhost")))
        tunnel.edge.send_signal(signal.SIGTERM)
        tunnel.edge.wait(40)
        wrong += check("the demo's edge takes the file over", waitUntil(lambda: named(tunnel) == port, 10))
        demo.send_signal(signal.SIGTERM)
        demo.wait(40)
        wrong += check("nothing is left behind", not named(tunnel))
        edge = tunnel.start("killed", "tunnel-edge", "--dev", "--port", str(freePort()))
        waitUntil(lambda: named(tunnel))
        edge.kill()
        edge.wait()
        time.sleep(0.2)
        tunnel.start("late", "tunnel-agent", "--dev", "http", "3000")
        stale = waitUntil(lambda: "has ended: start tunnel-edge --dev again" in tunnel.log("late"), 10)
        wrong += check("an agent reports that the edge was killed", stale)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
