"""
The edge's side of the control stream: answers the requests of an agent (announce, withdraw, drain), and sends it events.

An unknown request is answered with C{unsupported}, so that a newer agent can use an older edge.
"""

from __future__ import annotations

from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.native.control_messages import (
    ControlProtocolError,
    decodeService,
    encodeGrant,
    isNumber,
)
from tunnelstack.dialect.native.control_stream import ControlStream
from tunnelstack.errors import Denied
from tunnelstack.records import Grant, Service
from tunnelstack.wire.jsonline import JSONObject

REQUESTS_PER_SECOND = 64
"""Requests that are answered in one second; further requests wait."""


class ControlHandler(TypingProtocol):
    """
    Does what an agent requests.
    """

    def announce(self, service: Service) -> Deferred[Grant]:
        """
        Publish a service.

        @return: fails with L{Denied}.
        """

    def withdraw(self, service: Service) -> Deferred[None]:
        """
        No longer publish a service.

        @return: fails with L{Denied}.
        """

    def drain(self) -> None:
        """
        The agent accepts no more work.
        """

    def ended(self, reason: Failure) -> None:
        """
        The control stream is lost.
        """


@implementer(IPushProducer)
class ControlServer:
    """
    Answers the requests in order, one at a time.  While a request is under way, or the agent does not read the answers, the
    next request is not read.

    @ivar stream: the protocol of the control stream.
    """

    log = Logger()

    def __init__(self, handler: ControlHandler, clock: IReactorTime, greeting: JSONObject) -> None:
        """
        @param greeting: the first message.
        """
        self.stream = ControlStream(self)
        self._handler = handler
        self._greeting: JSONObject | None = greeting
        self._clock = clock
        self._busy = self._full = self._paused = False
        self._requestCount = 0
        self._windowStart = clock.seconds()
        self._rateTimer: IDelayedCall | None = None

    def streamOpened(self) -> None:
        self.stream.transport.registerProducer(self, True)
        greeting, self._greeting = self._greeting, None
        if greeting is not None:
            self.stream.sendMessage(greeting)

    def sendEvent(self, event: str, **members: object) -> None:
        """
        Send a message that is not the answer to a request.
        """
        self.stream.sendMessage({"event": event, **members})

    def messageReceived(self, message: JSONObject) -> None:
        number, what = message.get("id"), message.get("do")
        if not isNumber(number, 2**53) or not isinstance(what, str):
            raise ControlProtocolError("a request has no valid id, or does not name what to do")
        self._updatePause(busy=True)
        done = self._dispatch(what, message).addCallbacks(_accepted, _denied)
        done.addErrback(self._unexpectedError).addCallback(self._respond, number)

    def _dispatch(self, what: str, message: JSONObject) -> Deferred[JSONObject]:
        try:
            if what == "announce":
                granted = self._handler.announce(decodeService(message.get("service")))
                return granted.addCallback(lambda grant: {"grant": encodeGrant(grant)})
            if what == "withdraw":
                return self._handler.withdraw(decodeService(message.get("service"))).addCallback(lambda _: {})
            if what == "drain":
                self._handler.drain()
                return succeed({})
            raise Denied("unsupported", f"this edge does not support {what[:64]}")
        except Exception:
            return fail()

    def _unexpectedError(self, failure: Failure) -> JSONObject:
        self.log.failure("a request of an agent failed", failure=failure)
        return {"ok": False, "code": "failed", "reason": "an error at the edge; its log has the cause"}

    def _respond(self, answer: JSONObject, number: int) -> None:
        self.stream.sendMessage({"id": number, **answer})
        self._requestCount += 1
        now = self._clock.seconds()
        if now - self._windowStart >= 1:
            self._windowStart, self._requestCount = now, 0
        if self._requestCount >= REQUESTS_PER_SECOND and not self.stream.ended:
            self._rateTimer = self._clock.callLater(self._windowStart + 1 - now, self._resume)
        else:
            self._resume()

    def _resume(self) -> None:
        self._rateTimer = None
        self._updatePause(busy=False)

    def _updatePause(self, *, busy: bool | None = None, full: bool | None = None) -> None:
        """
        Pause or resume the stream.
        """
        self._busy = self._busy if busy is None else busy
        self._full = self._full if full is None else full
        waits = self._busy or self._full
        if waits == self._paused:
            return
        self._paused = waits
        if waits:
            self.stream.pause()
        elif not self.stream.ended:
            self.stream.resume()
            if self.stream.linesWait:
                self._clock.callLater(0, self.stream.processLines)      # not from inside the answer to the last request

    def pauseProducing(self) -> None:
        """
        Called by the transport: the agent does not read the answers.
        """
        self._updatePause(full=True)

    def resumeProducing(self) -> None:
        """
        Called by the transport: the agent reads the answers again.
        """
        self._updatePause(full=False)

    def stopProducing(self) -> None:
        """
        Called by the transport: L{messagesEnded} follows.
        """

    def messagesEnded(self, reason: Failure) -> None:
        if self._rateTimer is not None:
            self._rateTimer.cancel()
        self._handler.ended(reason)


def _accepted(result: JSONObject) -> JSONObject:
    return {"ok": True, **result}


def _denied(failure: Failure) -> JSONObject:
    failure.trap(Denied)
    assert isinstance(failure.value, Denied)
    return {"ok": False, "code": failure.value.code, "reason": failure.value.sentence}
