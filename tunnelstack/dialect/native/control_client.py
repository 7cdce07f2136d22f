"""
The agent's side of the control stream: asks the edge to announce, to withdraw, to be left alone, and hears its events.

What an edge says that nobody here knows is overlooked, so that an older agent can talk to a newer edge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from tunnelstack.dialect.native.control_messages import (
    ControlProtocolError,
    decodeGrant,
    encodeService,
    isNumber,
)
from tunnelstack.dialect.native.control_stream import JSONLineProtocol
from tunnelstack.errors import Denied, Unavailable
from tunnelstack.records import Grant, Service
from tunnelstack.wire.printable_text import printable

RESPONSE_SECONDS = 30.0
"""Seconds that an agent waits for an answer."""


class ControlLost(Unavailable):
    """
    The conversation is over, and what was asked was not answered.
    """


class ControlClient(JSONLineProtocol):
    """
    Asks, and keeps the questions that are not answered yet.
    """

    def __init__(
        self, clock: Any, onEvent: Callable[[str, Mapping[str, Any]], object], onEnded: Callable[[Failure], object],
    ) -> None:
        """
        @param onEvent: called with the name and the members of each event.
        @param onEnded: called once, when the conversation is over.
        """
        super().__init__()
        self._clock = clock
        self._onEvent = onEvent
        self._onEnded = onEnded
        self._lastId = 0
        self._pending: dict[int, Deferred[Mapping[str, Any]]] = {}

    def announce(self, service: Service) -> Deferred[Grant]:
        """
        Ask the edge to publish a service.

        @return: fails with L{Denied}, or with L{ControlLost}.
        """
        return self._request("announce", service=encodeService(service)).addCallback(
            lambda answer: decodeGrant(answer.get("grant"))
        )

    def withdraw(self, service: Service) -> Deferred[Any]:
        """
        Ask it to publish it no more.
        """
        return self._request("withdraw", service=encodeService(service))

    def drain(self) -> Deferred[Any]:
        """
        Ask it for no more work.
        """
        return self._request("drain")

    def _request(self, what: str, **members: Any) -> Deferred[Any]:
        if self._reason is not None:
            return fail(ControlLost("the session is gone"))
        self._lastId += 1
        number = self._lastId
        answer: Deferred[Any] = Deferred()
        self._pending[number] = answer
        answer.addTimeout(RESPONSE_SECONDS, self._clock, _responseTimeout)
        answer.addBoth(self._discard, number)
        self.sendMessage({"id": number, "do": what, **members})
        return answer

    def _discard(self, result: Any, number: int) -> Any:
        self._pending.pop(number, None)
        return result

    def messageReceived(self, message: dict[str, Any]) -> None:
        """
        An answer, or an event.
        """
        event, number = message.get("event"), message.get("id")
        if isinstance(event, str):
            self._onEvent(event, message)
        elif not isNumber(number, 2**53):
            raise ControlProtocolError("a line is neither an answer nor an event")
        else:
            answer = self._pending.get(number) if isinstance(number, int) else None
            if answer is not None:            # else it came too late
                self._complete(answer, message)

    def _complete(self, answer: Deferred[Any], message: dict[str, Any]) -> None:
        match message:
            case {"ok": True}:
                answer.callback(message)
            case {"ok": False, "code": str(code), "reason": str(reason)}:
                answer.errback(Denied(code[:64], printable(reason)))
            case _:
                raise ControlProtocolError("an answer is neither yes nor no")

    def messagesEnded(self, reason: Failure) -> None:
        """
        Nothing more will be answered.
        """
        for answer in list(self._pending.values()):
            answer.errback(ControlLost("the session was lost before the edge answered"))
        self._onEnded(reason)


def _responseTimeout(result: Any, seconds: float) -> Any:
    if not isinstance(result, Failure):
        return result
    raise ControlLost(f"the edge did not answer within {seconds:g} seconds")
