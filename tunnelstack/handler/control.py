"""
The conversation of an agent and its edge: one JSON object a line, over one stream, for as long as the session lives.

The agent asks (to announce, to withdraw, to be left alone), and each request and its answer carry the same C{id}; the edge
tells events.  What one side does not know of the other is answered C{unsupported} or overlooked, so that old and new can talk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from typing import Protocol as Promise

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import Denied, PeerError, Unavailable
from tunnelstack.handler._offers import (
    ControlBroken,
    isNumber,
    printable,
    readGrant,
    readService,
    writeGrant,
    writeService,
)
from tunnelstack.terms import Grant, Service
from tunnelstack.wire.jsonline import Lines, decode_object, encode

LINE = 16 * 1024
"""Octets of the longest line."""

REQUESTS = 64
"""Requests that are heard in one second; what is beyond waits."""

ANSWER_SECONDS = 30.0
"""Seconds that an agent waits for an answer."""



class ControlLost(Unavailable):
    """
    The conversation is over, and what was asked was not answered.
    """


class Desk(Promise):
    """
    Who deals with what an agent asks.
    """

    def announce(self, service: Service) -> Deferred[Grant]:
        """
        Publish it; fails with L{Denied}.
        """

    def withdraw(self, service: Service) -> Deferred[None]:
        """
        Publish it no more.
        """

    def drain(self) -> None:
        """
        The agent wants no more work.
        """

    def ended(self, reason: Failure) -> None:
        """
        The conversation is over.
        """


@implementer(IHalfCloseableProtocol)
class _Talk(Protocol):
    """
    What both sides do alike: say objects and hear them.
    """

    transport: Any

    def __init__(self) -> None:
        self._lines = Lines(LINE)
        self._waits = False                   # what arrives is left lying for now
        self._reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the peer.
        """
        self._lines.feed(data)
        self._read()

    def _read(self) -> None:
        try:
            while not self._waits and self._reason is None and (line := self._lines.next_line()) is not None:
                self.heard(decode_object(line))
        except PeerError:
            self.breakOff(Failure())

    def heard(self, message: dict[str, Any]) -> None:
        """
        The peer said something.

        @raise PeerError: that nobody understands.
        """
        raise NotImplementedError

    def say(self, message: Mapping[str, Any]) -> None:
        """
        Tell the peer.
        """
        if self._reason is None:
            self.transport.write(encode(message))

    def readConnectionLost(self) -> None:
        """
        The peer talks no more.
        """
        self.close()

    def writeConnectionLost(self) -> None:
        """
        Nor do we.
        """

    def close(self) -> None:
        """
        Talk no more, in good order.
        """
        if self._reason is None:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def breakOff(self, reason: Failure) -> None:
        """
        Talk no more; C{reason} is why.
        """
        if self._reason is None:
            self._reason = reason
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The conversation is over.
        """
        self._reason = self._reason or reason
        self.over(self._reason)

    def over(self, reason: Failure) -> None:
        """
        The conversation is over.
        """
        raise NotImplementedError


@implementer(IPushProducer)
class ControlServer(_Talk):
    """
    The edge's side.  Requests are dealt with in order, one at a time; while one is under way, or the agent does not read our
    answers, the next is not read.
    """

    log = Logger()

    def __init__(self, desk: Desk, clock: Any, first: Mapping[str, Any]) -> None:
        """
        @param first: what is said when the stream is there.
        """
        super().__init__()
        self._desk = desk
        self._first = first
        self._clock = clock
        self._busy = self._full = False
        self._counted = 0
        self._since = clock.seconds()
        self._pause: Any = None

    def connectionMade(self) -> None:
        """
        Hear what the agent asks.
        """
        self.transport.registerProducer(self, True)
        self.say(self._first)

    def tell(self, event: str, **members: Any) -> None:
        """
        Tell the agent of something it did not ask for.
        """
        self.say({"event": event, **members})

    def heard(self, message: dict[str, Any]) -> None:
        """
        A request.
        """
        number, what = message.get("id"), message.get("do")
        if not isNumber(number, 2**53) or not isinstance(what, str):
            raise ControlBroken("a request has no id, or does not say what to do")
        self._hold(busy=True)
        asked = self._dealWith(what, message)
        asked.addCallbacks(lambda said: {"ok": True, **said}, self._denied)
        asked.addErrback(self._defect)
        asked.addCallback(lambda answer: self._answer({"id": number, **answer}))

    def _dealWith(self, what: str, message: dict[str, Any]) -> Deferred[dict[str, Any]]:
        try:
            if what == "announce":
                granted = self._desk.announce(readService(message.get("service")))
                return granted.addCallback(lambda grant: {"grant": writeGrant(grant)})
            if what == "withdraw":
                return self._desk.withdraw(readService(message.get("service"))).addCallback(lambda _: {})
            if what == "drain":
                self._desk.drain()
                return succeed({})
            raise Denied("unsupported", f"this edge does not know how to {what[:64]}")
        except Exception:
            return fail()

    def _denied(self, failure: Failure) -> dict[str, Any]:
        failure.trap(Denied)
        denied: Any = failure.value
        return {"ok": False, "code": denied.code, "reason": denied.sentence}

    def _defect(self, failure: Failure) -> dict[str, Any]:
        self.log.failure("a request of an agent failed", failure=failure)
        return {"ok": False, "code": "failed", "reason": "the edge failed to do it; its log says why"}

    def _answer(self, answer: dict[str, Any]) -> None:
        self.say(answer)
        self._counted += 1
        now = self._clock.seconds()
        if now - self._since >= 1:
            self._since, self._counted = now, 0
        if self._counted >= REQUESTS and self._reason is None:
            self._pause = self._clock.callLater(self._since + 1 - now, self._goOn)
        else:
            self._goOn()

    def _goOn(self) -> None:
        self._pause = None
        self._hold(busy=False)

    def _hold(self, *, busy: bool | None = None, full: bool | None = None) -> None:
        """
        Read, or leave it lying.
        """
        self._busy = self._busy if busy is None else busy
        self._full = self._full if full is None else full
        waits = self._busy or self._full
        if waits == self._waits:
            return
        self._waits = waits
        if waits:
            self.transport.pauseProducing()
        elif self._reason is None:
            self.transport.resumeProducing()
            self._clock.callLater(0, self._read)        # not within the answer to the last one

    def pauseProducing(self) -> None:
        """
        From the transport: the agent does not read what we say.
        """
        self._hold(full=True)

    def resumeProducing(self) -> None:
        """
        From the transport: it does again.
        """
        self._hold(full=False)

    def stopProducing(self) -> None:
        """
        From the transport: C{connectionLost} follows.
        """

    def over(self, reason: Failure) -> None:
        """
        The agent has gone, or is to go.
        """
        if self._pause is not None:
            self._pause.cancel()
        self._desk.ended(reason)


class ControlClient(_Talk):
    """
    The agent's side.

    @ivar welcome: what the edge said first.
    """

    def __init__(
        self, clock: Any, told: Callable[[str, Mapping[str, Any]], object], ended: Callable[[Failure], object],
    ) -> None:
        """
        @param told: called with the name and the members of each event.
        @param ended: called once, when the conversation is over.
        """
        super().__init__()
        self._clock = clock
        self._told = told
        self._ended = ended
        self._last = 0
        self._asked: dict[int, Deferred[Mapping[str, Any]]] = {}

    def announce(self, service: Service) -> Deferred[Grant]:
        """
        Ask the edge to publish a service.

        @return: fails with L{Denied}, or with L{ControlLost}.
        """
        return self._ask("announce", service=writeService(service)).addCallback(lambda answer: readGrant(answer.get("grant")))

    def withdraw(self, service: Service) -> Deferred[Any]:
        """
        Ask it to publish it no more.
        """
        return self._ask("withdraw", service=writeService(service))

    def drain(self) -> Deferred[Any]:
        """
        Ask it for no more work.
        """
        return self._ask("drain")

    def _ask(self, what: str, **members: Any) -> Deferred[Any]:
        if self._reason is not None:
            return fail(ControlLost("the session is gone"))
        self._last += 1
        number = self._last
        answer: Deferred[Any] = Deferred()
        self._asked[number] = answer
        answer.addTimeout(ANSWER_SECONDS, self._clock, _unanswered)
        answer.addBoth(self._forget, number)
        self.say({"id": number, "do": what, **members})
        return answer

    def _forget(self, result: Any, number: int) -> Any:
        self._asked.pop(number, None)
        return result

    def heard(self, message: dict[str, Any]) -> None:
        """
        An answer, or an event.
        """
        event, number = message.get("event"), message.get("id")
        if isinstance(event, str):
            self._told(event, message)
        elif not isNumber(number, 2**53):
            raise ControlBroken("a line is neither an answer nor an event")
        else:
            answer = self._asked.get(number) if isinstance(number, int) else None
            if answer is not None:            # else it came too late
                self._answered(answer, message)

    def _answered(self, answer: Deferred[Any], message: dict[str, Any]) -> None:
        match message:
            case {"ok": True}:
                answer.callback(message)
            case {"ok": False, "code": str(code), "reason": str(reason)}:
                answer.errback(Denied(code[:64], printable(reason)))
            case _:
                raise ControlBroken("an answer is neither yes nor no")

    def over(self, reason: Failure) -> None:
        """
        Nothing more will be answered.
        """
        for answer in list(self._asked.values()):
            answer.errback(ControlLost("the session was lost before the edge answered"))
        self._ended(reason)


def _unanswered(result: Any, seconds: float) -> Any:
    if not isinstance(result, Failure):
        return result
    raise ControlLost(f"the edge did not answer within {seconds:g} seconds")
