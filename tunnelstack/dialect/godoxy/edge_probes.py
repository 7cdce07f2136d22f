"""
Whether an agent carries streams over TLS and datagrams over DTLS.

A probe is a stream whose header has the flag of a probe, which an agent closes at once.  An agent sends nothing else in any
case, so a probe waits for the close: a TLS 1.3 handshake is complete for the client before the agent has looked at its
certificate, and an agent that does not know these streams would keep the connection open.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import Unavailable
from tunnelstack.interfaces import (
    IDatagramClientEndpoint,
    IDatagramFactory,
    IDatagramProtocol,
    IDatagramTransport,
)
from tunnelstack.transport.error_text import errorText
from tunnelstack.wire.records.godoxy import PROBE, encode_header

CLOSE_SECONDS = 2.0
"""Seconds within which an agent must have closed a probe."""

HEADER = encode_header(PROBE)


class ProbeFailed(Unavailable):
    """
    The agent does not carry streams of a kind.
    """


def _timedOut(result: object, seconds: float) -> object:
    """
    @raise ProbeFailed: instead of what the endpoint raises when it is cancelled.
    """
    if isinstance(result, Failure):
        raise ProbeFailed(f"no connection within {seconds:g} seconds")
    return result


async def probeStreams(endpoint: IStreamClientEndpoint, clock: IReactorTime, seconds: float) -> None:
    """
    @param endpoint: connects to the agent by TLS, for streams.
    @param seconds: for the connection and its handshake.
    @raise ProbeFailed: the agent does not carry streams, and why.
    """
    probe = _StreamProbe()
    factory = Factory.forProtocol(lambda: probe)
    factory.noisy = False
    try:
        await endpoint.connect(factory).addTimeout(seconds, clock, _timedOut)
        await probe.ended.addTimeout(CLOSE_SECONDS, clock)
    except LateError:
        raise ProbeFailed("the agent does not close a probe") from None
    except (CancelledError, ProbeFailed):
        raise
    except Exception as error:
        raise ProbeFailed(errorText(error)) from None
    finally:
        probe.abort()


@implementer(IHalfCloseableProtocol)
class _StreamProbe(Protocol):
    """
    Writes the header, and waits for the end: for C{close_notify}, because an agent may reset the connection after it.
    """

    transport: Any

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(HEADER)

    def dataReceived(self, data: bytes) -> None:
        self._end(ProbeFailed("the agent answers a probe, as a server of another protocol does"))

    def readConnectionLost(self) -> None:
        self._end(None)

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(None if reason.check(ConnectionDone) else reason)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()

    def _end(self, reason: Exception | Failure | None) -> None:
        if self.ended.called:
            return
        if reason is None:
            self.ended.callback(None)
        else:
            self.ended.errback(reason)


async def probeDatagrams(endpoint: IDatagramClientEndpoint, clock: IReactorTime, seconds: float) -> None:
    """
    @param endpoint: connects to the agent by DTLS.
    @param seconds: for the handshake.
    @raise ProbeFailed: the agent does not carry datagrams, and why.
    """
    probe = _DatagramProbe()
    try:
        await endpoint.connect(probe).addTimeout(seconds, clock, _timedOut)
    except (CancelledError, ProbeFailed):
        raise
    except Exception as error:
        raise ProbeFailed(errorText(error)) from None
    try:
        await probe.ended.addTimeout(CLOSE_SECONDS, clock)
    except LateError:
        pass                  # the header or the answer was lost; a handshake of DTLS 1.2 is complete on both sides
    finally:
        probe.close()


@implementer(IDatagramProtocol, IDatagramFactory)
class _DatagramProbe:
    """
    Sends the header, and waits for the end.  It is the factory of itself.
    """

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self._transport: IDatagramTransport | None = None

    def buildProtocol(self, address: IAddress | None) -> IDatagramProtocol:
        return self

    def makeConnection(self, transport: IDatagramTransport) -> None:
        self._transport = transport
        transport.write(HEADER)

    def datagramReceived(self, datagram: bytes) -> None:
        """
        Do nothing: an agent answers no probe.
        """

    def connectionLost(self, reason: Failure) -> None:
        self._transport = None
        if not self.ended.called:
            self.ended.callback(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.loseConnection()
