"""
The edge's side of the control stream: deals with what the agent asks (to announce, to withdraw, to be left alone), and tells it
events.

What it does not know is answered C{unsupported}, so that a newer agent can talk to an older edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.native.control_messages import (
    ControlProtocolError,
    decodeService,
    encodeGrant,
    isNumber,
)
from tunnelstack.dialect.native.control_stream import JSONLineProtocol
from tunnelstack.errors import Denied
from tunnelstack.records import Grant, Service

REQUESTS_PER_SECOND = 64
"""Requests that are heard in one second; what is beyond waits."""


class ControlHandler(TypingProtocol):
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


@implementer(IPushProducer)
class ControlServer(JSONLineProtocol):
    """
    Requests are dealt with in order, one at a time; while one is under way, or the agent does not read our
    answers, the next is not read.
    """

    log = Logger()

    def __init__(self, handler: ControlHandler, clock: Any, greeting: Mapping[str, Any]) -> None:
        """
        @param greeting: what is said when the stream is there.
        """
        super().__init__()
        self._handler = handler
        self._greeting = greeting
        self._clock = clock
        self._busy = self._full = False
        self._requestCount = 0
        self._windowStart = clock.seconds()
        self._rateTimer: Any = None

    def connectionMade(self) -> None:
        """
        Hear what the agent asks.
        """
        self.transport.registerProducer(self, True)
        self.sendMessage(self._greeting)

    def sendEvent(self, event: str, **members: Any) -> None:
        """
        Tell the agent of something it did not ask for.
        """
        self.sendMessage({"event": event, **members})

    def messageReceived(self, message: dict[str, Any]) -> None:
        """
        A request.
        """
        number, what = message.get("id"), message.get("do")
        if not isNumber(number, 2**53) or not isinstance(what, str):
            raise ControlProtocolError("a request has no id, or does not say what to do")
        self._updatePause(busy=True)
        asked = self._dispatch(what, message)
        asked.addCallbacks(lambda said: {"ok": True, **said}, self._denied)
        asked.addErrback(self._unexpectedError)
        asked.addCallback(lambda answer: self._respond({"id": number, **answer}))

    def _dispatch(self, what: str, message: dict[str, Any]) -> Deferred[dict[str, Any]]:
        try:
            if what == "announce":
                granted = self._handler.announce(decodeService(message.get("service")))
                return granted.addCallback(lambda grant: {"grant": encodeGrant(grant)})
            if what == "withdraw":
                return self._handler.withdraw(decodeService(message.get("service"))).addCallback(lambda _: {})
            if what == "drain":
                self._handler.drain()
                return succeed({})
            raise Denied("unsupported", f"this edge does not know how to {what[:64]}")
        except Exception:
            return fail()

    def _denied(self, failure: Failure) -> dict[str, Any]:
        failure.trap(Denied)
        denied: Any = failure.value
        return {"ok": False, "code": denied.code, "reason": denied.sentence}

    def _unexpectedError(self, failure: Failure) -> dict[str, Any]:
        self.log.failure("a request of an agent failed", failure=failure)
        return {"ok": False, "code": "failed", "reason": "the edge failed to do it; its log says why"}

    def _respond(self, answer: dict[str, Any]) -> None:
        self.sendMessage(answer)
        self._requestCount += 1
        now = self._clock.seconds()
        if now - self._windowStart >= 1:
            self._windowStart, self._requestCount = now, 0
        if self._requestCount >= REQUESTS_PER_SECOND and self._reason is None:
            self._rateTimer = self._clock.callLater(self._windowStart + 1 - now, self._resume)
        else:
            self._resume()

    def _resume(self) -> None:
        self._rateTimer = None
        self._updatePause(busy=False)

    def _updatePause(self, *, busy: bool | None = None, full: bool | None = None) -> None:
        """
        Read, or leave it lying.
        """
        self._busy = self._busy if busy is None else busy
        self._full = self._full if full is None else full
        waits = self._busy or self._full
        if waits == self._paused:
            return
        self._paused = waits
        if waits:
            self.transport.pauseProducing()
        elif self._reason is None:
            self.transport.resumeProducing()
            self._clock.callLater(0, self._processLines)        # not within the answer to the last one

    def pauseProducing(self) -> None:
        """
        From the transport: the agent does not read what we say.
        """
        self._updatePause(full=True)

    def resumeProducing(self) -> None:
        """
        From the transport: it does again.
        """
        self._updatePause(full=False)

    def stopProducing(self) -> None:
        """
        From the transport: C{connectionLost} follows.
        """

    def messagesEnded(self, reason: Failure) -> None:
        """
        The agent has gone, or is to go.
        """
        if self._rateTimer is not None:
            self._rateTimer.cancel()
        self._handler.ended(reason)
