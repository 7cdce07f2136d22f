"""
The near side: one piece of work over one session, measured.
"""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from benchmarks.ours.counting import CallCounter
from benchmarks.ours.server import MANY, quiet, untilStdinEnds
from tunnelstack.negotiation.multistream import multistreamEndpoint
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.transport.tls import clientContext, loadCertificates
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.wire.negotiation.base import Release

BLOCK = 64 * 1024   # octets of one write of a bulk transfer
QUESTION = 64       # octets of an echo
PAUSE = 0.3         # seconds between two phases, so that whoever measures can read what the first one used


@frozen
class Work:
    """
    What there is to work with.
    """

    reactor: Any
    session: YamuxSession

    def to(self, name: bytes, release: Release = Release.ON_REPLY) -> IStreamClientEndpoint:
        """
        An endpoint for streams of one protocol.
        """
        return multistreamEndpoint(self.session.connector, name, release=release)


class Differs(Exception):
    """
    What came back is not what was sent.
    """


@implementer(IHalfCloseableProtocol)
class Ending(Protocol):
    """
    A stream whose end is awaited.

    @ivar done: fires when both directions have ended well.
    """

    def __init__(self) -> None:
        self.done: Deferred[Any] = Deferred()

    def readConnectionLost(self) -> None:
        pass

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        if self.done.called:
            return
        if reason.check(ConnectionDone):
            self.done.callback(self)
        else:
            self.done.errback(reason)


@implementer(IPushProducer)
class Bulk(Ending):
    """
    Writes octets into a sink, 64 KiB at a time, and checks the sink's count.

    @ivar octets: how many; C{None} goes on until L{enough}.
    """

    def __init__(self, octets: int | None) -> None:
        super().__init__()
        self.octets = octets
        self.written = 0
        self._answer = b""
        self._paused = False
        self._block = os.urandom(BLOCK)

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def resumeProducing(self) -> None:
        self._paused = False
        write, block, octets = self.transport.write, self._block, self.octets
        while not self._paused:
            if octets is not None and octets - self.written < BLOCK:
                self._finish(octets - self.written)
                return
            self.written += BLOCK
            write(block)

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._paused = True

    def _finish(self, rest: int) -> None:
        self._paused = True
        self.written += rest
        self.transport.write(self._block[:rest])
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def enough(self) -> None:
        """
        Write no more.
        """
        self._finish(0)

    def dataReceived(self, data: bytes) -> None:
        self._answer += data

    def readConnectionLost(self) -> None:
        if self._answer != b"%d\n" % self.written:
            self.done.errback(Differs())


class Asking(Ending):
    """
    Asks on one stream, again and again, for so many seconds.

    @ivar trips: seconds of each question.
    """

    def __init__(self, duration: float) -> None:
        super().__init__()
        self._duration = duration
        self._piece = os.urandom(QUESTION)
        self._back = b""
        self._sent = 0.0
        self._end = 0.0
        self.trips: list[float] = []

    def begin(self) -> Deferred[Any]:
        """
        Ask the first question.

        @return: fires at the end.
        """
        self._end = perf_counter() + self._duration
        self._ask()
        return self.done

    def _ask(self) -> None:
        self._back = b""
        self._sent = perf_counter()
        self.transport.write(self._piece)

    def dataReceived(self, data: bytes) -> None:
        self._back += data
        if len(self._back) < QUESTION:
            return
        if self._back != self._piece:
            self.done.errback(Differs())
            return
        now = perf_counter()
        self.trips.append(now - self._sent)
        if now < self._end:
            self._ask()
        else:
            self.transport.loseWriteConnection()


class Once(Protocol):
    """
    Asks once, and closes.
    """

    def __init__(self, piece: bytes, answered: Callable[[], object], failed: Callable[[Any], object]) -> None:
        """
        @param answered: called with the answer.
        @param failed: called with an exception or a failure instead.
        """
        self._piece = piece
        self._back = b""
        self._answered = answered
        self._failed = failed
        self._waits = True

    def connectionMade(self) -> None:
        self.transport.write(self._piece)

    def dataReceived(self, data: bytes) -> None:
        self._back += data
        if len(self._back) < QUESTION:
            return
        self._waits = False
        if self._back != self._piece:
            self._failed(Differs())
            return
        self.transport.loseConnection()
        self._answered()

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        if self._waits:
            self._failed(reason)


class Staying(Protocol):
    """
    A stream that stays, and asks so many questions when it is told to.
    """

    def __init__(self, piece: bytes) -> None:
        self._piece = piece
        self._back = b""
        self._left = 0
        self._done: Deferred[None] | None = None

    def ask(self, count: int) -> Deferred[None]:
        """
        @return: fires with the last answer.
        """
        self._left = count
        self._done = done = Deferred()
        self.transport.write(self._piece)
        return done

    def dataReceived(self, data: bytes) -> None:
        self._back += data
        if len(self._back) < QUESTION:
            return
        if self._back != self._piece:
            self._end(Differs())
            return
        self._back = b""
        self._left -= 1
        if self._left:
            self.transport.write(self._piece)
        else:
            self._end(None)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self._end(reason)

    def _end(self, result: Any) -> None:
        done, self._done = self._done, None
        if done is not None:
            done.callback(result)


async def bulk(work: Work, chosen: Namespace) -> dict[str, Any]:
    """
    One stream, so many octets, into a sink.
    """
    stream = Bulk(chosen.octets)
    await work.to(b"/sink").connect(quiet(lambda: stream))
    start = perf_counter()
    stream.resumeProducing()
    await stream.done
    return {"seconds": perf_counter() - start}


async def rpc(work: Work, chosen: Namespace) -> dict[str, Any]:
    """
    Ping-pong on one stream.
    """
    stream = Asking(chosen.seconds)
    await work.to(b"/echo").connect(quiet(lambda: stream))
    await stream.begin()
    trips = sorted(stream.trips)
    return {"p50": trips[len(trips) // 2], "p99": trips[len(trips) * 99 // 100], "count": len(trips)}


async def beside(work: Work, chosen: Namespace) -> dict[str, Any]:
    """
    Ping-pong while another stream of the session is saturated.
    """
    saturated = Bulk(None)
    await work.to(b"/sink").connect(quiet(lambda: saturated))
    saturated.resumeProducing()
    start = perf_counter()
    result = await rpc(work, chosen)
    seconds = perf_counter() - start
    saturated.enough()
    await saturated.done
    return {**result, "octets": saturated.written, "seconds": seconds}


async def churn(work: Work, chosen: Namespace) -> dict[str, Any]:
    """
    Open, negotiate, ask once, close; over and over, some at a time, until every stream has ended at both sides.
    """
    echo, piece = work.to(b"/echo", Release.AT_ONCE), os.urandom(QUESTION)
    start = perf_counter()
    end = start + chosen.seconds
    count, working = 0, chosen.parallel
    finished: Deferred[None] = Deferred()

    def following() -> None:
        nonlocal count, working
        count += 1
        if perf_counter() < end:
            echo.connect(factory).addErrback(failed)
            return
        working -= 1
        if not working and not finished.called:
            finished.callback(None)

    def failed(reason: Any) -> None:
        if not finished.called:
            finished.errback(reason)

    factory = quiet(lambda: Once(piece, following, failed))
    for _ in range(chosen.parallel):
        echo.connect(factory).addErrback(failed)
    await finished
    while work.session.streams:           # the last closes count as well
        await deferLater(work.reactor, 0.001)
    return {"count": count, "seconds": perf_counter() - start}


async def many(work: Work, chosen: Namespace) -> dict[str, Any]:
    """
    Open streams, each of which has its answer once, and say so.  Then some of them ask so many questions, and all stay.
    """
    hold, piece, streams = work.to(b"/hold"), os.urandom(QUESTION), []
    before = process_time()
    for _ in range(chosen.count):
        stream = Staying(piece)
        await hold.connect(quiet(lambda stream=stream: stream))
        await stream.ask(1)
        streams.append(stream)
    opened = {"streams": chosen.count, "processor": process_time() - before}
    if not chosen.questions:
        return opened
    print(json.dumps(opened), flush=True)
    await deferLater(work.reactor, PAUSE)
    asking = streams[:chosen.parallel]
    before, start = process_time(), perf_counter()
    await gatherResults([stream.ask(chosen.questions // chosen.parallel) for stream in asking])
    return {"seconds": perf_counter() - start, "processor": process_time() - before}


def _carrier(reactor: Any, chosen: Namespace) -> IStreamClientEndpoint:
    host, _, port = chosen.address.partition(":")
    if chosen.carrier == "tcp":
        return TCP4ClientEndpoint(reactor, host, int(port))
    if chosen.carrier == "ws":
        return WebSocketClientEndpoint(reactor, f"ws://{chosen.address}/")
    context = clientContext("localhost", ca=loadCertificates(chosen.certificate))
    return WebSocketClientEndpoint(reactor, f"wss://{chosen.address}/", contextFactory=context)


WORKS = {"bulk": bulk, "rpc": rpc, "beside": beside, "churn": churn, "many": many}


async def main(reactor: Any, chosen: Namespace) -> None:
    """
    Connect, do the work, say what was measured.
    """
    chosen.seconds = float(chosen.duration.removesuffix("s"))
    session = YamuxSession(True, clock=reactor, limits=MANY)
    await _carrier(reactor, chosen).connect(quiet(lambda: session))
    counter = CallCounter()
    if chosen.counted:
        counter.begin()
    before = process_time()
    result = await WORKS[chosen.work](Work(reactor, session), chosen)
    result.setdefault("processor", process_time() - before)
    if chosen.counted:
        counter.end()
        result["calls"] = counter.calls
    print(json.dumps(result), flush=True)
    if chosen.work == "many":
        await untilStdinEnds(reactor)
