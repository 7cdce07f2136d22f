"""
The agent's side of the control stream: sends requests to the edge (announce, withdraw, drain), and receives its events.

Unknown members of a message are ignored, so that an older agent can use a newer edge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tunnelstack.dialect.native.control_messages import (
    ControlProtocolError,
    decodeGrant,
    encodeService,
    isNumber,
)
from tunnelstack.dialect.native.control_stream import ControlStream
from tunnelstack.errors import Denied, Unavailable
from tunnelstack.records import Grant, Service
from tunnelstack.wire.jsonline import JSONObject
from tunnelstack.wire.printable_text import printable

T = TypeVar("T")

RESPONSE_SECONDS = 30.0
"""Seconds that an agent waits for an answer."""


class ControlLost(Unavailable):
    """
    The control stream was lost, or an answer did not arrive in time.
    """


class ControlClient:
    """
    Sends requests, and matches answers with them.

    @ivar stream: the protocol of the control stream.
    """

    def __init__(
        self, clock: IReactorTime, onEvent: Callable[[str, JSONObject], object], onEnded: Callable[[Failure], object],
    ) -> None:
        """
        @param onEvent: called with the name and the members of each event.
        @param onEnded: called once, when the stream is lost.
        """
        self.stream = ControlStream(self)
        self._clock = clock
        self._onEvent = onEvent
        self._onEnded = onEnded
        self._lastId = 0
        self._pending: dict[int, Deferred[JSONObject]] = {}

    def announce(self, service: Service) -> Deferred[Grant]:
        """
        Request that the edge publishes a service.

        @return: fails with L{Denied} or L{ControlLost}.
        """
        return self._request("announce", service=encodeService(service)).addCallback(
            lambda answer: decodeGrant(answer.get("grant"))
        )

    def withdraw(self, service: Service) -> Deferred[JSONObject]:
        """
        Request that the edge no longer publishes a service.

        @return: fails with L{Denied} or L{ControlLost}.
        """
        return self._request("withdraw", service=encodeService(service))

    def drain(self) -> Deferred[JSONObject]:
        """
        Request that the edge sends no more work.

        @return: fails with L{ControlLost}.
        """
        return self._request("drain")

    def _request(self, what: str, **members: object) -> Deferred[JSONObject]:
        if self.stream.ended:
            return fail(ControlLost("the session is lost"))
        self._lastId += 1
        number = self._lastId
        answer: Deferred[JSONObject] = Deferred()
        self._pending[number] = answer
        answer.addTimeout(RESPONSE_SECONDS, self._clock, _responseTimeout)
        answer.addBoth(self._discard, number)
        self.stream.sendMessage({"id": number, "do": what, **members})
        return answer

    def _discard(self, result: T, number: int) -> T:
        self._pending.pop(number, None)
        return result

    def streamOpened(self) -> None:
        """
        Nothing to do: the edge sends the first message.
        """

    def messageReceived(self, message: JSONObject) -> None:
        event, number = message.get("event"), message.get("id")
        if isinstance(event, str):
            self._onEvent(event, message)
        elif not isNumber(number, 2**53):
            raise ControlProtocolError("a message is neither an answer nor an event")
        else:
            answer = self._pending.get(number)
            if answer is not None:            # else the request has timed out
                self._complete(answer, message)

    def _complete(self, answer: Deferred[JSONObject], message: JSONObject) -> None:
        match message:
            case {"ok": True}:
                answer.callback(message)
            case {"ok": False, "code": str(code), "reason": str(reason)}:
                answer.errback(Denied(code[:64], printable(reason)))
            case _:
                raise ControlProtocolError("an answer neither accepts nor denies the request")

    def messagesEnded(self, reason: Failure) -> None:
        for answer in list(self._pending.values()):
            answer.errback(ControlLost("the session was lost before the edge answered"))
        self._onEnded(reason)


def _responseTimeout(result: T | Failure, seconds: float) -> T:
    if not isinstance(result, Failure):
        return result
    raise ControlLost(f"the edge did not answer within {seconds:g} seconds")
