"""
A session whose streams are WebSockets, in memory: the control connection is a wire, and so is every connection that is
picked up.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from tests.transport.rawpeer import requestHead
from tunnelstack.session.revdial.dialler import STREAM_LIMITS, PickUpTable, RevdialDialler
from tunnelstack.session.revdial.listener import RevdialListener
from tunnelstack.testing import Wire
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.server import WebSocketServerFactory, upgrade

BASE = "/pick/up"


class Door(Protocol):
    """
    Where pick-ups arrive: takes what they name, or says 400.
    """

    transport: Any

    def __init__(self, house: House) -> None:
        self.house = house
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        head, end, rest = self.data.partition(b"\r\n\r\n")
        if not end:
            return
        target = head.split(b" ")[1].decode()
        query = parse_qs(urlsplit(target).query)
        factory = self.house.pickUps.take(query["revdial.dialer"][0], query["uuid"][0])
        if factory is None:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            self.transport.loseConnection()
            return
        protocol = upgrade(self.transport, requestHead(head + end), factory, clock=self.house.clock, limits=STREAM_LIMITS)
        if rest:
            protocol.dataReceived(rest)


@implementer(IStreamClientEndpoint)
class ToTheHouse:
    """
    Connects over a wire of its own to whatever the house says.
    """

    def __init__(self, house: House, far: Any) -> None:
        self.house = house
        self.far = far

    def connect(self, factory: Any) -> Deferred[Any]:
        wire = Wire(clock=self.house.clock, cut=self.house.cut)
        self.house.wires.append(wire)
        near = factory.buildProtocol(wire.near.getPeer())
        wire.connect(near, self.far())
        return succeed(near)


class House:
    """
    The dialler's place: a control connection, and a door.

    @ivar wires: the control connection's first, then those that were picked up.
    @ivar reached: the paths that the listener was asked for.
    """

    def __init__(self, cut: int | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.cut = cut
        self.pickUps = PickUpTable()
        self.wires: list[Wire] = []
        self.reached: list[str] = []
        self.dialler = RevdialDialler(self.pickUps, BASE, clock=self.clock, **options)
        self.listener = RevdialListener(lambda path: self.reach(path), clock=self.clock)

    def joined(self) -> House:
        """
        With the control connection up.
        """
        answering = WebSocketServerFactory(_one(self.dialler), clock=self.clock, limits=STREAM_LIMITS)
        below = ToTheHouse(self, lambda: answering.buildProtocol(None))
        WebSocketClientEndpoint(
            self.clock, "ws://edge.example/control", endpoint=below, limits=STREAM_LIMITS,
        ).connect(_one(self.listener))  # fmt: skip
        self.settle()
        return self

    def reach(self, path: str) -> Any:
        self.reached.append(path)
        below = ToTheHouse(self, lambda: Door(self))
        return WebSocketClientEndpoint(
            self.clock, "ws://edge.example" + path, endpoint=below, limits=STREAM_LIMITS,
        )  # fmt: skip

    def settle(self) -> None:
        for _ in range(1000):
            moved = [wire.turn() for wire in self.wires]
            if not any(moved):
                return
        raise AssertionError("they do not come to rest")

    def pass_(self, seconds: float) -> None:
        """
        Let time pass, a second at a time.
        """
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.settle()


def _one(protocol: Any) -> Any:
    factory = Factory()
    factory.buildProtocol = lambda address: protocol      # type: ignore[method-assign]
    return factory
