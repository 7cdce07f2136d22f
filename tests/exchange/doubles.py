"""
Who stands at the ends of an exchange in tests, and wires to stand on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IHalfCloseableProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.exchange.errors import ExchangeFailed
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer
from tunnelstack.testing import Wire
from tunnelstack.wire.http1.head import Fields, RequestHead, ResponseHead


@implementer(IHalfCloseableProtocol)
class Talker(Protocol):
    """
    Speaks and hears octets.
    """

    transport: Any

    def __init__(self) -> None:
        self.heard = b""
        self.readEnded = False
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def take(self) -> bytes:
        heard, self.heard = self.heard, b""
        return heard

    def say(self, octets: bytes) -> None:
        self.transport.write(octets)

    def readConnectionLost(self) -> None:
        self.readEnded = True

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


@implementer(IExchangeReceiver)
@define(eq=False)
class Recorder:
    """
    Remembers what it was told.
    """

    heads: list[Any] = field(factory=list)
    interim: list[Any] = field(factory=list)
    body: bytes = b""
    trailers: Fields | None = None
    failure: ExchangeFailed | None = None

    def informational(self, head: ResponseHead) -> None:
        self.interim.append(head)

    def headReceived(self, head: Any) -> None:
        self.heads.append(head)

    def bodyReceived(self, octets: bytes) -> None:
        assert self.trailers is None and self.failure is None
        self.body += octets

    def ended(self, trailers: Any) -> None:
        assert self.trailers is None and self.failure is None
        self.trailers = list(trailers)

    def failed(self, reason: ExchangeFailed) -> None:
        assert self.failure is None
        self.failure = reason


@implementer(IExchangeServer)
class Server:
    """
    Remembers what it was asked, and answers if it knows an answer.
    """

    def __init__(self, answer: Callable[[RequestHead, Any], object] | None = None) -> None:
        self.asked: list[tuple[RequestHead, Any, Recorder]] = []
        self.answer = answer

    def exchangeReceived(self, head: RequestHead, exchange: Any) -> Recorder:
        recorder = Recorder()
        self.asked.append((head, exchange, recorder))
        if self.answer is not None:
            self.answer(head, exchange)
        return recorder


@implementer(IStreamClientEndpoint)
class Wires:
    """
    An endpoint: each connection is a new wire to a new protocol of C{build}.

    @ivar waiting: connections are not made until C{let}, if there is a list.
    """

    def __init__(self, clock: Clock, build: Callable[[], Any], cut: int | None = None) -> None:
        self.clock = clock
        self.build = build
        self.cut = cut
        self.wires: list[Wire] = []
        self.far: list[Any] = []
        self.refuse = False
        self.waiting: list[tuple[Deferred[Any], Any]] | None = None

    def connect(self, factory: Any) -> Deferred[Any]:
        if self.refuse:
            return fail(ConnectionRefusedError())
        if self.waiting is not None:
            waiting: Deferred[Any] = Deferred()
            self.waiting.append((waiting, factory))
            return waiting
        return succeed(self._join(factory))

    def let(self) -> None:
        """
        Make the connections that wait.
        """
        waiting, self.waiting = self.waiting or [], None
        for deferred, factory in waiting:
            deferred.callback(self._join(factory))

    def _join(self, factory: Any) -> Any:
        wire = Wire(self.clock, self.cut)
        near, far = factory.buildProtocol(None), self.build()
        self.wires.append(wire)
        self.far.append(far)
        wire.connect(near, far)
        return near


def settle(*parts: Any) -> None:
    """
    Move octets on all wires until nothing moves.

    @param parts: wires, and endpoints of wires.
    """
    moved = True
    while moved:
        moved = False
        for part in parts:
            for wire in list(part.wires) if isinstance(part, Wires) else [part]:
                while wire.turn():
                    moved = True


def reply(status: int = 200, body: bytes | None = b"ok", *fields: tuple[bytes, bytes]) -> Callable[[Any, Any], None]:
    """
    @param body: C{None} for none at all; its length is told.
    """

    def answer(head: RequestHead, exchange: Any) -> None:
        length = [] if body is None else [(b"Content-Length", b"%d" % len(body))]
        exchange.sendHead(ResponseHead(status, b"OK", [*length, *fields]))
        exchange.write(body or b"")
        exchange.end()

    return answer


class Producer:
    """
    Remembers what it was told.
    """

    def __init__(self) -> None:
        self.said: list[str] = []

    def pauseProducing(self) -> None:
        self.said.append("pause")

    def resumeProducing(self) -> None:
        self.said.append("resume")

    def stopProducing(self) -> None:
        self.said.append("stop")
