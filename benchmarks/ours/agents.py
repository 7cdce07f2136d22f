"""
Many idle agents of ours in one process: C{python -m benchmarks.ours.agents URL FILE}, a token in each line of the file.

Each has a session and a service of its own, as C{tunnel-agent} would; only the process is shared.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

from tunnelstack.reactor.choice import VARIABLE, install

AT_ONCE = 20    # agents that dial at a time


async def main(reactor: Any, url: str, tokens: list[str]) -> None:
    """
    Connect all, say so, and stay until stdin ends.
    """
    from twisted.internet.defer import gatherResults

    from benchmarks.ours.server import untilStdinEnds

    for start in range(0, len(tokens), AT_ONCE):
        await gatherResults([_agent(reactor, url, token) for token in tokens[start:start + AT_ONCE]])
    print(json.dumps({"agents": len(tokens)}), flush=True)
    await untilStdinEnds(reactor)


def _agent(reactor: Any, url: str, token: str) -> Any:
    from tunnelstack.control.auth.tokens import identifierOf
    from tunnelstack.dialect.native.dialler import NativeDialler
    from tunnelstack.records import Service

    name = f"idle-{identifierOf(token)}"
    dialling = NativeDialler(reactor, url, token, {}, instance=name).dial()
    return dialling.addCallback(lambda link: link.announce(Service(kind="http", name=name)))


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    install({VARIABLE: "epoll"})
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    _, edge, file = sys.argv
    held = Path(file).read_text().split()
    react(lambda _: Deferred.fromCoroutine(main(reactor, edge, held)), _reactor=reactor)
