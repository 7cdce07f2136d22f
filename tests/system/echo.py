"""
A WebSocket echo server by autobahn on any endpoint: C{python -m tests.system.echo tunnel:echo}.
"""

from __future__ import annotations

import sys
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import endpoints, task


class Echo(WebSocketServerProtocol):
    """
    Says back what it hears.
    """

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


def main(reactor: Any, description: str) -> Any:
    factory = WebSocketServerFactory(reactor=reactor)
    factory.protocol = Echo
    factory.noisy = False
    listening = endpoints.serverFromString(reactor, description).listen(factory)
    listening.addCallback(lambda port: print("listens", getattr(port.getHost(), "port", ""), flush=True))  # noqa: T201
    return listening.addCallback(lambda _: task.deferLater(reactor, 3600))


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
