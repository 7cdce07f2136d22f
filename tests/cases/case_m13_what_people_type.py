"""
What people type, or copy from what a program printed, is taken: the URL that an edge prints for its agents, the URL or the port
of a local server, and a port to listen on.
"""

from __future__ import annotations

import re
import sys

from tests.cases.tunnel import Tunnel, echoHead, serve, status, waitUntil
from tests.ports import freePort


def main() -> int:
    """
    @return: 0 if an edge and agents start with each of these texts and a visitor is served.
    """
    good = True
    with Tunnel() as tunnel:
        printed = re.search(r"agents (ws://[^\s\"]+)", tunnel.log("edge"))
        port = serve(echoHead)
        edges = (printed[1] if printed else "none", f"localhost:{tunnel.port}")
        targets = (f"http://localhost:{port}", f"http://localhost:{port}/", f":{port}", f"localhost:{port}")
        for number, (edge, target) in enumerate([(edge, targets[0]) for edge in edges] + [("", each) for each in targets]):
            name = f"site{number}"
            where = ("--edge", edge) if edge else ("--dev",)
            tunnel.start(name, "tunnel-agent", *where, "http", target, "--name", name, TUNNELSTACK_TOKEN=tunnel.token)
            up = waitUntil(lambda: " -> " in tunnel.log(name), 10)
            answer = status(tunnel.get(f"{name}.localhost")) if up else tunnel.log(name)[-300:]
            print(f"{edge} {target}: {answer}")
            good = good and " 200 " in answer
        listen = freePort()
        tunnel.start("second", "tunnel-edge", "--listen", str(listen), "--domain", "localhost")
        if not waitUntil(lambda: "ready" in tunnel.log("second"), 10):
            print(f"--listen {listen}: {tunnel.log('second')[-300:]}")
            good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
