"""
R1: after an edge is killed and started again, a service whose agent is not back yet is 503 with Retry-After, and not 404.
"""

from __future__ import annotations

import signal
import sys
import time

from tests.cases.tunnel import Tunnel, echoHead, serve, status


def main() -> int:
    with Tunnel() as tunnel:
        agent = tunnel.startAgent("http", serve(echoHead), name="site")
        time.sleep(2)                         # the name is in the state folder
        agent.send_signal(signal.SIGSTOP)
        tunnel.edge.kill()
        tunnel.edge.wait()
        tunnel.startEdge("again")
        answer = tunnel.get("site.localhost")
        other = tunnel.get("other.localhost")
        print(status(answer), status(other))
    return b" 503 " not in answer or b"Retry-After: " not in answer or b" 404 " not in other


if __name__ == "__main__":
    sys.exit(main())
