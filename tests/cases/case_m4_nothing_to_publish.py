"""
M4: an agent whose only service is refused in a way that cannot change ends with 77; one with another service that is published
goes on, and its panel keeps the failed service in sight, in red.
"""

from __future__ import annotations

import sys

from tests.cases.tunnel import BIN, Tunnel, echoHead, serve, waitUntil
from tests.terminal import TerminalWindow


def check(what: str, good: object) -> int:
    print(what, "->", "good" if good else "WRONG")
    return not good


def main() -> int:
    wrong = 0
    with Tunnel() as tunnel:
        made = tunnel.start("token", "tunnelstack", "token", "new", "narrow", "--allow", "http:mine")
        made.wait(30)
        token = next(word for word in tunnel.log("token").split() if word.startswith("ts_"))
        config = tunnel.folder / "agent.toml"
        origin = serve(echoHead)
        one = "".join(f'[[service]]\nname = "{name}"\ntarget = "{origin}"\n' for name in ("other",))
        two = one + f'[[service]]\nname = "mine"\ntarget = "{origin}"\n'
        environ = {"TUNNELSTACK_EDGE": f"http://localhost:{tunnel.port}", "TUNNELSTACK_TOKEN": token}
        config.write_text(one)
        agent = tunnel.start("one", "tunnel-agent", "--config", str(config), "start", **environ)
        waitUntil(lambda: agent.poll() is not None, 10)
        print(tunnel.log("one"))
        wrong += check(f"an agent with nothing to publish ends with {agent.poll()}", agent.poll() == 77)
        config.write_text(two)
        command = [str(BIN / "tunnel-agent"), "--config", str(config), "start"]
        window = TerminalWindow(command, tunnel.environ | environ, str(tunnel.folder))
        wrong += check("the other service is published", waitUntil(lambda: "http://mine" in window.text(), 10))
        for _ in range(30):
            tunnel.get("mine.localhost")
        pinned = waitUntil(lambda: b"\x1b[31mother" in window.output and "\nother " in "\n" + window.text(), 5)
        wrong += check("the failed one stays in sight", pinned)
        print(window.text())
        wrong += check("and the agent goes on", window.process.poll() is None)
        window.drop()
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
