"""
Sums by AMP over any endpoint: C{python -m tests.system.sums server tunnel:sums}, and C{client} with the same string.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import endpoints, task
from twisted.internet.protocol import Factory
from twisted.protocols import amp


class Sum(amp.Command):
    """
    Two numbers, added.
    """

    arguments = [(b"a", amp.Integer()), (b"b", amp.Integer())]
    response = [(b"total", amp.Integer())]


class Adder(amp.AMP):
    """
    Adds.
    """

    @Sum.responder
    def add(self, a: int, b: int) -> dict[str, int]:
        return {"total": a + b}


async def main(reactor: Any, role: str, description: str) -> None:
    if role == "server":
        await endpoints.serverFromString(reactor, description).listen(Factory.forProtocol(Adder))
        print("listens", flush=True)  # noqa: T201
        await task.deferLater(reactor, 3600)
    asking = await endpoints.clientFromString(reactor, description).connect(Factory.forProtocol(amp.AMP))
    answer = await asking.callRemote(Sum, a=2, b=3)
    print(answer["total"], flush=True)  # noqa: T201


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
