"""
H1: an edge, an agent and a demo end when the terminal is closed that they were started on, and what they serve is public no
more.  SIGHUP alone, without a terminal or with one that is still open, makes them read their configuration again.  The
processes of a demo end with it, even if it is killed.  C{tunnelstack reload} makes an edge read its configuration again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cases.tunnel import BIN, Tunnel, echoHead, serve, status, waitUntil
from tests.ports import freePort
from tests.terminal import TerminalWindow

SECONDS = 20.0
BEGAN = time.monotonic()


def window(tunnel: Tunnel, *command: str) -> TerminalWindow:
    return TerminalWindow([str(BIN / command[0]), *command[1:]], tunnel.environ, str(tunnel.folder))


def check(what: str, good: object) -> int:
    print(f"{time.monotonic() - BEGAN:5.1f} s  {what} -> {'good' if good else 'WRONG'}")
    return not good


def ends(process: subprocess.Popen[bytes]) -> bool:
    return waitUntil(lambda: process.poll() is not None, SECONDS)


def agentAndTerminal(tunnel: Tunnel) -> int:
    public = f"http://shut.localhost:{tunnel.port}"
    agent = window(tunnel, "tunnel-agent", "--dev", "http", str(serve(echoHead)), "--name", "shut")
    wrong = check("the agent publishes", waitUntil(lambda: public.encode() in agent.output))
    agent.process.send_signal(signal.SIGHUP)
    time.sleep(1.5)
    wrong += check("SIGHUP with an open terminal does not end it", agent.process.poll() is None)
    agent.close()
    wrong += check("the agent ends with its terminal", ends(agent.process))
    wrong += check("nothing is public any more", "200" not in status(tunnel.get("shut.localhost")))
    agent.drop()
    return wrong


def edgeAndTerminal(tunnel: Tunnel) -> int:
    edge = window(tunnel, "tunnel-edge", "--port", str(freePort()))
    wrong = check("an edge on a terminal", waitUntil(lambda: b"ready" in edge.output))
    edge.close()
    wrong += check("the edge ends with its terminal", ends(edge.process))
    edge.drop()
    return wrong


def demo(tunnel: Tunnel) -> int:
    wrong = 0
    for number in (signal.SIGHUP, signal.SIGKILL):
        process = tunnel.start(f"demo-{number}", "tunnelstack", "demo", "--port", str(freePort()))
        tunnel.waitForLog(f"demo-{number}", "Ctrl-C stops", 30)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(number)
        left = waitUntil(lambda left=children: not any(os.path.exists(f"/proc/{child}") for child in left), SECONDS)
        wrong += check(f"a demo's {len(children)} processes end with it after {number.name}", left and children)
        for child in children:
            if os.path.exists(f"/proc/{child}"):
                os.kill(int(child), signal.SIGKILL)
    return wrong


def reload(tunnel: Tunnel) -> int:
    (tunnel.folder / "edge.toml").write_text("[limits]\nvisitors = 777\n")
    done = subprocess.run(["tunnelstack", "reload"], env=tunnel.environ, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    return check("tunnelstack reload", done.returncode == 0 and "777" in done.stdout)


def main() -> int:
    with Tunnel() as tunnel:
        wrong = reload(tunnel) + agentAndTerminal(tunnel) + edgeAndTerminal(tunnel) + demo(tunnel)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
