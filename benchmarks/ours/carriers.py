"""
One process of ours for the carriers of Jetty: an edge that asks, or an agent that answers, without visitors and web servers.

As a program: C{python -m benchmarks.ours.carriers --reactor REACTOR edge|agent ...}.
"""

from __future__ import annotations

import argparse
import json
from time import perf_counter
from typing import Any

from attrs import frozen
from zope.interface import implementer

from benchmarks._lanes import BLOCK, BODY, LARGE, PAUSE, SMALL
from tunnelstack.exchange.bounds import DEFAULT_BOUNDS, ExchangeBounds
from tunnelstack.exchange.forward import NULL_RECEIVER
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer
from tunnelstack.reactor.choice import VARIABLE, install
from tunnelstack.records import HTTPPurpose, Principal
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

PURPOSE = HTTPPurpose(service="bench")
HOST = (b"Host", b"bench.example")


def options() -> argparse.Namespace:
    """
    The command line.
    """
    parser = argparse.ArgumentParser(prog="benchmarks.ours.carriers", description=__doc__)
    parser.add_argument("--reactor", default="epoll", help="as twistd knows it")
    parser.add_argument("--carrier", choices=["websocket", "grpc"], required=True)
    parts = parser.add_subparsers(dest="part", required=True)
    edge, agent = parts.add_parser("edge"), parts.add_parser("agent")
    edge.add_argument("--seconds", type=float, default=1.0, help="of small requests")
    edge.add_argument("--parallel", type=int, default=1, help="requests at a time")
    edge.add_argument("--octets", type=int, default=1 << 20, help="of a large response")
    agent.add_argument("--port", type=int, required=True, help="of the edge")
    return parser.parse_args()


@frozen
class Process:
    """
    As much of an edge or an agent as the carriers use.
    """

    clock: Any
    bounds: ExchangeBounds = DEFAULT_BOUNDS
    stopping: bool = False


class Registrar:
    """
    Accepts everybody.

    @ivar tunnel: fires with the first tunnel.
    """

    def __init__(self) -> None:
        from twisted.internet.defer import Deferred

        self.tunnel: Any = Deferred()

    def verify(self, registration: Any) -> Any:
        from twisted.internet.defer import succeed

        from tunnelstack.dialect.jetty.registration import Acceptance

        return succeed(Acceptance(
            tunnelId=registration.tunnelId, subdomain="bench", publicURL="http://bench.example", edgeId="edge",
            sessionId="5e55" * 8, protocol="http", principal=Principal(agent="bench"), instance=registration.instance,
        ))  # fmt: skip

    def arrived(self, tunnel: Any, acceptance: Any) -> Any:
        from twisted.internet.defer import succeed

        if not self.tunnel.called:
            self.tunnel.callback(tunnel)
        return succeed(None)


@implementer(IExchangeReceiver)
class Asking:
    """
    Sends a request after the other until the time is over.

    @ivar done: fires then, with how many were answered.
    """

    def __init__(self, reactor: Any, tunnel: Any, path: bytes, until: float) -> None:
        from twisted.internet.defer import Deferred

        self.done: Any = Deferred()
        self.octets = self.count = 0
        self._reactor = reactor
        self._tunnel = tunnel
        self._head = RequestHead(b"GET", path, [HOST])
        self._until = until

    def begin(self) -> None:
        """
        Send the next one.
        """
        exchange = self._tunnel.exchange(PURPOSE, self)
        exchange.sendHead(self._head)
        exchange.end()

    def informational(self, head: object) -> None:
        pass

    headReceived = informational

    def bodyReceived(self, octets: bytes) -> None:
        self.octets += len(octets)

    def ended(self, trailers: object) -> None:
        self.count += 1
        if perf_counter() < self._until:
            self._reactor.callLater(0, self.begin)
        else:
            self.done.callback(self.count)

    def failed(self, reason: Exception) -> None:
        self.done.errback(reason)


@implementer(IExchangeServer)
class Answering:
    """
    Answers small requests at once, and large ones as fast as they are read.
    """

    def exchangeReceived(self, head: RequestHead, exchange: Any) -> Any:
        path, _, octets = head.target.partition(b"?")
        if path == SMALL:
            exchange.respond(ResponseHead(200, b"OK", [(b"Content-Length", b"%d" % len(BODY))]), BODY)
        else:
            exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Length", octets)]))
            Blocks(exchange, int(octets)).resumeProducing()
        return NULL_RECEIVER


class Blocks:
    """
    Writes a large body.
    """

    def __init__(self, exchange: Any, octets: int) -> None:
        self._exchange = exchange
        self._left = octets
        self._running = False
        exchange.registerProducer(self, True)

    def resumeProducing(self) -> None:
        self._running = True
        while self._running and self._left:
            block = BLOCK[: self._left]
            self._left -= len(block)
            self._exchange.write(block)
        if not self._left:
            self._running, self._left = False, -1
            self._exchange.unregisterProducer()
            self._exchange.end()

    def pauseProducing(self) -> None:
        self._running = False

    def stopProducing(self) -> None:
        self._running = False


def doorOf(carrier: str, process: Any, registrar: Any) -> Any:
    """
    @return: the factory of a port for agents.
    """
    from twisted.internet.protocol import Factory

    if carrier == "grpc":
        from tunnelstack.dialect.jetty.grpc_edge import GRPCAgents

        return GRPCAgents(process, registrar)
    from tunnelstack.dialect.jetty.websocket_agents import WebSocketAgents
    from tunnelstack.exchange.server import HTTPServerProtocol

    agents = WebSocketAgents(process, registrar)
    factory = Factory.forProtocol(
        lambda: HTTPServerProtocol(agents, clock=process.clock, doors=lambda head, framing: agents)
    )
    factory.noisy = False
    return factory


async def edge(reactor: Any, chosen: argparse.Namespace) -> None:
    """
    Listen, say the port, ask the first agent, and say what that took.
    """
    from twisted.internet.defer import gatherResults
    from twisted.internet.endpoints import TCP4ServerEndpoint
    from twisted.internet.task import deferLater

    from benchmarks.ours.server import untilStdinEnds

    registrar = Registrar()
    factory = doorOf(chosen.carrier, Process(reactor), registrar)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    say(port=port.getHost().port)
    tunnel = await registrar.tunnel
    await deferLater(reactor, PAUSE)
    began = perf_counter()
    asking = [Asking(reactor, tunnel, SMALL, began + chosen.seconds) for _ in range(chosen.parallel)]
    for each in asking:
        each.begin()
    counts = await gatherResults([each.done for each in asking])
    say(count=sum(counts), seconds=perf_counter() - began)
    await deferLater(reactor, PAUSE)
    began = perf_counter()
    large = Asking(reactor, tunnel, LARGE + b"?%d" % chosen.octets, 0)
    large.begin()
    await large.done
    say(octets=large.octets, seconds=perf_counter() - began)
    await untilStdinEnds(reactor)


async def agent(reactor: Any, chosen: argparse.Namespace) -> None:
    """
    Connect, and answer until stdin ends.
    """
    from twisted.internet.endpoints import TCP4ClientEndpoint

    from benchmarks.ours.server import untilStdinEnds
    from tunnelstack.dialect.jetty.registration import Registration, Upstream
    from tunnelstack.wire.records.jetty import CAPABILITIES

    server = Answering()
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", chosen.port)
    upstream = Upstream(serverFor=lambda target: server, tcp=None, udp=None)
    registration = Registration(tunnelId="t1", agentToken="k1", transport=chosen.carrier, capabilities=CAPABILITIES)
    process: Any = Process(reactor)
    if chosen.carrier == "grpc":
        from tunnelstack.dialect.jetty.grpc_agent import KeepaliveInterval, connectGRPC

        url = f"grpc://127.0.0.1:{chosen.port}"
        await connectGRPC(process, url, endpoint, registration, upstream, KeepaliveInterval())
    else:
        from tunnelstack.dialect.jetty.websocket_link import connectWebSocket

        await connectWebSocket(process, f"ws://127.0.0.1:{chosen.port}/agent", endpoint, registration, upstream)
    say(connected=True)
    await untilStdinEnds(reactor)


def say(**members: object) -> None:
    """
    A line for the one who measures.
    """
    print(json.dumps(members), flush=True)


def main() -> None:
    """
    Run one part until it is done.
    """
    chosen = options()
    install({VARIABLE: chosen.reactor})
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    part = edge if chosen.part == "edge" else agent
    react(lambda _: Deferred.fromCoroutine(part(reactor, chosen)), _reactor=reactor)


if __name__ == "__main__":
    main()
