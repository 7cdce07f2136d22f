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
    ControlBroken,
    isNumber,
    printable,
    readGrant,
    writeService,
)
from tunnelstack.dialect.native.control_stream import Talk
from tunnelstack.errors import Denied, Unavailable
from tunnelstack.records import Grant, Service

ANSWER_SECONDS = 30.0
"""Seconds that an agent waits for an answer."""


class ControlLost(Unavailable):
    """
    The conversation is over, and what was asked was not answered.
    """


class ControlClient(Talk):
    """
    Asks, and keeps the questions that are not answered yet.
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
