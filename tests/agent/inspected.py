"""
An edge and an agent with an inspector, and a local server of which tests decide what it sends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, cast

from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tunnelstack.agent.inspector.service import Inspector
from tunnelstack.control.config.records import InspectConfig, ServiceConfig
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.testing import Caller, EdgeAndAgent
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

PORT = 4747


@implementer(IExchangeReceiver)
class Received:
    """
    One request at the local server.
    """

    def __init__(self, head: RequestHead, exchange: IServerExchange, ended: Callable[[Received], object]) -> None:
        self.head = head
        self.exchange = exchange
        self.body = b""
        self.octets = 0
        self.failure: object = None
        self._ended = ended

    def informational(self, head: object) -> None:
        pass

    headReceived = informational

    def bodyReceived(self, octets: bytes) -> None:
        self.octets += len(octets)
        self.body = (self.body + octets)[:4096]

    def ended(self, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        self._ended(self)

    def failed(self, reason: object) -> None:
        self.failure = reason


@implementer(IExchangeServer)
class Origin:
    """
    The local server.

    @ivar answer: called with each request that is whole.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answer: Callable[[Received], object] = respond()

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        self.received.append(Received(head, exchange, lambda received: self.answer(received)))
        return cast(IExchangeReceiver, self.received[-1])


def respond(
    body: bytes = b"hello", kind: bytes = b"text/plain", status: int = 200, fields: Iterable[tuple[bytes, bytes]] = ()
) -> Callable[[Received], object]:
    """
    An answer of a L{Origin}.
    """

    def answer(received: Received) -> None:
        if received.exchange.finished:
            return
        head = [(b"Content-Type", kind), (b"Content-Length", b"%d" % len(body)), *fields]
        received.exchange.respond(ResponseHead(status, b"OK", head), body)

    return answer


class InspectedTestCase(SynchronousTestCase):
    """
    The base of tests of the inspector.
    """

    inspect = InspectConfig(enabled=True)
    services = (ServiceConfig(name="site", target="3000"),)

    def setUp(self) -> None:
        self.both = EdgeAndAgent(*self.services, agent={"inspect": self.inspect})
        self.origin = Origin()
        factory = Factory()
        factory.buildProtocol = lambda address: HTTPServerProtocol(self.origin, clock=self.both.network)  # type: ignore
        self.both.network.listenTCP(3000, factory)
        self.both.start()
        assert self.both.agent.inspector is not None
        self.inspector: Inspector = self.both.agent.inspector
        self.recorder = self.inspector.recorder
        self.addCleanup(self.end)

    def end(self) -> None:
        for service in (self.both.agent, self.both.edge):
            if service.running:
                service.stopService()
            self.both.network.passTime(40)

    def visit(self, target: str = "/", method: str = "GET", fields: str = "", body: bytes = b"") -> Caller:
        """
        Send a request of a visitor.
        """
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: site.localhost\r\n{fields}{length}\r\n"
        return self.both.visit(head.encode("latin-1") + body)

    def ask(
        self, path: str, method: str = "GET", body: bytes = b"", fields: str = "", host: str = "127.0.0.1:4747"
    ) -> tuple[int, str, bytes]:
        """
        Send a request to the inspector.

        @return: the status, the head and the body of the response.
        """
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        writing = "X-Tunnelstack: 1\r\n" if method not in ("GET", "HEAD") and "X-Tunnelstack" not in fields else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{writing}{fields}{length}\r\n"
        got = self.both.visit(head.encode("latin-1") + body, PORT).got
        before, _, after = got.partition(b"\r\n\r\n")
        text = before.decode("latin-1")
        if "chunked" in text.lower():
            after = unchunked(after)
        return int(text.split()[1]), text, after

    def json(self, path: str, method: str = "GET", body: object = None, status: int = 200) -> Any:
        """
        As L{ask}, of JSON.
        """
        found, _, answer = self.ask(path, method, b"" if body is None else json.dumps(body).encode())
        self.assertEqual(found, status, answer)
        return json.loads(answer)


def unchunked(octets: bytes) -> bytes:
    """
    The body that chunks carry.
    """
    body = b""
    while octets:
        size, _, octets = octets.partition(b"\r\n")
        length = int(size, 16)
        body, octets = body + octets[:length], octets[length + 2 :]
    return body
