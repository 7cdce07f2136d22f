"""
The streams of a client: each is joined to a connection to the local server that its announcement means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.splice import Splice, SpliceEnd
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.waiters import Waiters
from tunnelstack.wire.http1.final_response import FinalResponseFilter
from tunnelstack.wire.records.koding import DIAL_SECONDS, NO_LOCAL_SERVER, Transport

SWITCH_SECONDS = 0.1
"""Seconds between a head with status 101 and the octets that follow it.  A genuine server loses those that arrive together
with the head."""

FINISH_SECONDS = 30.0
"""Seconds that a local web server may keep its connection open after the server has ended the stream of a request."""

Targets = Mapping[int, IStreamClientEndpoint]
"""Local servers by the public port that they are for; C{0} is for all others."""


class LocalStreams(Factory):
    """
    Builds the protocols of streams that a server has requested.

    @ivar requests: streams for HTTP that are open.
    """

    noisy = False
    log = Logger()

    def __init__(self, clock: IReactorTime, http: Targets, tcp: Targets, idleSeconds: float = 0.0) -> None:
        """
        @param http: the servers for HTTP and WebSockets.
        @param tcp: the servers for raw TCP.
        @param idleSeconds: seconds after which a stream for a WebSocket or raw TCP is closed on which nothing passes; C{0} for
            never.
        """
        self.clock = clock
        self.idleSeconds = idleSeconds
        self._targets: Mapping[int, Targets] = {Transport.HTTP: http, Transport.WEBSOCKET: http, Transport.TCP: tcp}
        self._open: dict[int, int] = {}             # by transport
        self._idle: Waiters[None] = Waiters()

    @property
    def requests(self) -> int:
        return self._open.get(Transport.HTTP, 0)

    @property
    def open(self) -> int:
        """
        All streams that are open.
        """
        return sum(self._open.values())

    def whenNoRequest(self) -> Deferred[None]:
        """
        @return: fires when no stream for HTTP is open.
        """
        return self._idle.wait() if self.requests else succeed(None)

    def buildProtocol(self, address: object) -> LocalStream:
        return LocalStream(self, cast(StreamAddress, address))

    def endpointFor(self, transport: int, port: int) -> IStreamClientEndpoint | None:
        """
        @return: how to reach the local server; C{None} if there is none.
        """
        targets = self._targets.get(transport, {})
        return targets.get(port) or targets.get(0)

    def opened(self, transport: int) -> None:
        """
        From a stream: it is open.
        """
        self._open[transport] = self._open.get(transport, 0) + 1

    def closed(self, transport: int) -> None:
        """
        From a stream: it is not open any more.
        """
        self._open[transport] -= 1
        if not self.requests:
            self._idle.fire(None)


class LocalStream(Protocol):
    """
    One stream until the local server is connected.  What arrives on it waits.
    """

    transport: StreamTransport

    def __init__(self, streams: LocalStreams, address: StreamAddress) -> None:
        self._streams = streams
        self._kind: int = address.parameters["transport"]
        self._port: int = address.parameters["port"]
        self._dialling: Deferred[Any] | None = None
        self._idle: IDelayedCall | None = None
        self._opened = False

    def connectionMade(self) -> None:
        streams = self._streams
        streams.opened(self._kind)
        self._opened = True
        endpoint = streams.endpointFor(self._kind, self._port)
        if endpoint is None:
            self._refuse(f"no target is configured for {_described(self._kind, self._port)}")
            return
        self.transport.pauseProducing()
        splice = self._splice()
        self._dialling = endpoint.connect(SpliceFactory(splice.far))
        self._dialling.addTimeout(DIAL_SECONDS, streams.clock, connectTimedOut)
        self._dialling.addCallbacks(self._connected, self._unreachable, callbackArgs=(splice,))

    def _splice(self) -> Splice:
        """
        @return: a splice that reports its end to the streams.
        """
        ends = iter(self._ends(self._streams.clock))
        return Splice(self._streams.clock, self._ended, lambda splice: next(ends)(splice))

    def _ends(self, clock: IReactorTime) -> list[Callable[[Splice], SpliceEnd]]:
        """
        @return: what builds the tunnel's end of the splice, and the local server's.
        """
        if self._kind == Transport.TCP:
            return [SpliceEnd, SpliceEnd]
        near = partial(RequestEnd, clock=clock) if self._kind == Transport.HTTP else SpliceEnd
        return [near, partial(ResponseEnd, clock=clock)]

    def _connected(self, far: object, splice: Splice) -> None:
        self._dialling = None
        self.transport.handOver(splice.near)
        self.transport.resumeProducing()
        if self._streams.idleSeconds and self._kind != Transport.HTTP:
            self._watch(splice, 0)

    def _watch(self, splice: Splice, octets: int) -> None:
        """
        Look in a while whether more octets have passed, and close the stream if there are none.
        """
        self._idle = self._streams.clock.callLater(self._streams.idleSeconds, self._look, splice, octets)

    def _look(self, splice: Splice, before: int) -> None:
        octets = splice.near.octets + splice.far.octets
        if octets > before:
            self._watch(splice, octets)
        else:
            self._streams.log.info(
                "{what} is closed: nothing has passed for {seconds:g} s", what=_described(self._kind, self._port),
                seconds=self._streams.idleSeconds, status="stream",
            )
            splice.near.transport.abortConnection()

    def _unreachable(self, failure: Failure) -> None:
        self._dialling = None
        if self._opened:
            self._refuse(errorText(failure))

    def _refuse(self, reason: str) -> None:
        """
        Answer a request, and end the stream: a genuine client sends no more for raw TCP.
        """
        self._streams.log.warn(
            "no local server for {what}: {reason}", what=_described(self._kind, self._port), reason=reason, status="stream"
        )
        if self._kind in (Transport.HTTP, Transport.WEBSOCKET):
            self.transport.write(NO_LOCAL_SERVER)
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended(reason)
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()

    def _ended(self, reason: Failure) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and idle.active():
            idle.cancel()
        if self._opened:
            self._opened = False
            self._streams.closed(self._kind)


def _described(transport: int, port: int) -> str:
    names: Mapping[int, str] = {Transport.HTTP: "HTTP", Transport.WEBSOCKET: "a WebSocket", Transport.TCP: "TCP"}
    return f"{names.get(transport, f'transport {transport}')}, port {port}"


class RequestEnd(SpliceEnd):
    """
    The tunnel's end of a stream for HTTP.  The server ends it when it has the response: the local server is not waited for
    after that.
    """

    def __init__(self, splice: Splice, clock: IReactorTime) -> None:
        super().__init__(splice)
        self._clock = clock
        self._timer: IDelayedCall | None = None

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        if self.transport.connected:
            self._timer = self._clock.callLater(FINISH_SECONDS, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        super().connectionLost(reason)


class ResponseEnd(SpliceEnd):
    """
    The local server's end of a stream for HTTP or a WebSocket.  Interim responses are left out, since a genuine server takes
    them for final ones, and what follows a change of the protocol is delayed.
    """

    def __init__(self, splice: Splice, clock: IReactorTime) -> None:
        super().__init__(splice)
        self._clock = clock
        self._filter = FinalResponseFilter()
        self._timer: IDelayedCall | None = None

    def dataReceived(self, data: bytes) -> None:
        filter = self._filter
        passed = filter.receive_data(data)
        if passed:
            super().dataReceived(passed)
        if filter.switched and self._timer is None:
            self._timer = self._clock.callLater(SWITCH_SECONDS, self._release)
            self.producer.pauseProducing()

    def _release(self) -> None:
        """
        The time after a switch is over.
        """
        held = self._filter.take_held()
        if held and self.other.transport is not None:
            super().dataReceived(held)
        self.producer.resumeProducing()

    def _flush(self) -> None:
        timer = self._timer
        if timer is not None and timer.active():
            timer.cancel()
        held = self._filter.receive_eof()
        if held and self.other.transport is not None:
            super().dataReceived(held)

    def readConnectionLost(self) -> None:
        self._flush()
        super().readConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._flush()
        super().connectionLost(reason)
