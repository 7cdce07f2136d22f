"""
The streams of an edge as records that JSON can encode, with the side that each waits for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from attrs import frozen

from tunnelstack.edge.list_query import ALL, ListQuery
from tunnelstack.edge.running_edge import RunningEdge
from tunnelstack.edge.slices import STEP, Steps, toEnd
from tunnelstack.edge.status import Record, sessionOf, statusSteps
from tunnelstack.interfaces import IServerExchange, ISession, ITunnel
from tunnelstack.session.budget import SMALLEST
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.printable_text import printable

AGENT, VISITOR = "agent", "visitor"
"""The sides of a stream: a visitor is who uses it at the edge."""


class Transport(Protocol):
    """
    A stream, as far as this reads it.
    """

    streamId: int
    address: StreamAddress


@frozen(eq=False, repr=False)
class _Found:
    """
    A stream that matches a query.
    """

    tunnel: ITunnel
    session: ISession
    stream: Transport
    slow: str


def streamsOf(edge: RunningEdge) -> list[Record]:
    """
    One record for each stream of each session: those that wait for one of their sides come first.
    """
    streams: list[Record] = toEnd(streamSteps(edge, ALL))["streams"]
    return streams


def streamSteps(edge: RunningEdge, query: ListQuery) -> Steps[Record]:
    """
    The streams that a query asks for, how many match it, and how many wait for each side.
    """
    waiting, moving = _Part(query.end), _Part(query.end)
    counts = {AGENT: 0, VISITOR: 0}
    for number, found in enumerate(_all(edge)):
        if not number % STEP:
            yield
        if found.slow:
            counts[found.slow] += 1
        if (found.slow or not query.slow) and (not query.text or query.matches(_words(found))):
            (waiting if found.slow else moving).add(found)
    first = [*waiting.kept, *moving.kept][: query.end]
    records = []
    for number, found in enumerate(query.part(first)):
        if not number % STEP:
            yield
        records.append(_record(edge, found))
    return {"streams": records, "count": waiting.count + moving.count, "slow": counts}


def snapshotSteps(edge: RunningEdge) -> Steps[Record]:
    """
    As L{statusSteps}, with how many streams wait for each side.
    """
    status = yield from statusSteps(edge)
    counts = {AGENT: 0, VISITOR: 0}
    for number, found in enumerate(_all(edge)):
        if not number % STEP:
            yield
        if found.slow:
            counts[found.slow] += 1
    return {**status, "slow": counts}


class _Part:
    """
    The first streams of those that match.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self.count = 0
        self.kept: list[_Found] = []

    def add(self, found: _Found) -> None:
        self.count += 1
        if self._most is None or len(self.kept) < self._most:
            self.kept.append(found)


def _all(edge: RunningEdge) -> Iterator[_Found]:
    for tunnel in sorted(edge.registry, key=lambda tunnel: tunnel.principal.agent):
        session = sessionOf(tunnel)
        if session is not None:
            for stream in session.transports():
                yield _Found(tunnel, session, stream, slowSide(stream))


def slowSide(stream: object) -> str:
    """
    @return: the side that a stream waits for: L{AGENT} if payload for it is queued, L{VISITOR} if it does not read; C{""} if
        neither.
    """
    if getattr(stream, "paused", False):
        return VISITOR
    return AGENT if _queued(stream) >= SMALLEST else ""


def _queued(stream: object) -> int:
    return getattr(stream, "queued", 0)       # one that is a connection of its own leaves its queue to TCP


def _words(found: _Found) -> Sequence[str]:
    address, served = found.stream.address, servedOn(found.stream)
    return (
        found.tunnel.principal.agent, _protocol(address), _service(address, served), _visitor(address, served), found.slow,
    )  # fmt: skip


def servedOn(stream: object) -> IServerExchange | None:
    """
    @return: the request of a visitor that a stream carries at the moment; C{None} if it carries none, or anything else.
    """
    served = getattr(getattr(getattr(stream, "protocol", None), "receiver", None), "served", None)
    return served if IServerExchange.providedBy(served) else None


def _protocol(address: StreamAddress) -> str:
    return address.protocol.decode("latin-1")


def _service(address: StreamAddress, served: IServerExchange | None) -> str:
    """
    The service, or the host of the request.  Its path is not shown, because it may contain a secret.
    """
    host = "" if served is None else served.host.decode("latin-1")
    return printable(str(address.parameters.get("service", "")) or host)


def _visitor(address: StreamAddress, served: IServerExchange | None) -> str:
    visitor = address.visitor if served is None else served.peer
    return "" if visitor is None else addressText(visitor)


def _record(edge: RunningEdge, found: _Found) -> dict[str, Any]:
    stream, served = found.stream, servedOn(found.stream)
    address, present = stream.address, edge.agents.presences.of(found.tunnel)
    return {
        "agent": found.tunnel.principal.agent,
        "session": None if present is None else present.number,
        "stream": stream.streamId,
        "protocol": _protocol(address),
        "service": _service(address, served),
        "visitor": _visitor(address, served),
        "queued": _queued(stream),
        "unread": getattr(stream, "held", 0),
        "slow": found.slow,
        "still": _still(edge, found),
    }


def _still(edge: RunningEdge, found: _Found) -> float | None:
    """
    @return: seconds for which the slow side has taken nothing; C{None} if it has, or if that is not known.
    """
    if not found.slow:
        return None
    now = edge.clock.seconds()
    for stalled in found.session.memory.stalled(now - 1.0):
        if stalled.streamId == found.stream.streamId:
            return round(now - stalled.since, 3)
    return None
