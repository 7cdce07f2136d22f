"""
The requests that an edge has with one agent: which may be sent, and which frames of the agent are for whom.

Pure: it is called with what happens and with the time, and returns what follows.

::

    state       the request                                       ends by
    ----------  ------------------------------------------------  ------------------------------------------------
    NEW         is not whole, and cannot be sent in parts         submit
    QUEUED      waits for a slot                                  its turn
    AWAITING    was sent, perhaps in part                         http_response, http_response_start
    STREAMING   has the head of its response                      http_response_end
    RAW         has changed its protocol                          finish

    any of them --> over, by leave: the visitor does not wait any more
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Generic, TypeVar

from attrs import define

from tunnelstack.errors import PeerError, Unavailable
from tunnelstack.wire.records.jetty import MOST_QUEUED, MOST_REQUESTS

LATE_SECONDS = 600.0
"""Seconds for which a request that was left is known, so that late frames for it are no mistake."""

MOST_LATE = 4096
"""Such requests that are known; the oldest is forgotten for a further one."""

T = TypeVar("T")


class State(Enum):
    """
    See above.
    """

    NEW = "new"
    QUEUED = "queued"
    AWAITING = "awaiting"
    STREAMING = "streaming"
    RAW = "raw"


NEW, QUEUED, AWAITING, STREAMING, RAW = State


class TableFull(Unavailable):
    """
    As many requests are under way and wait as may.
    """


class OutOfOrder(PeerError):
    """
    A frame cannot follow what came before for its request, which has failed.

    @ivar owner: of the request, which is over.
    """

    def __init__(self, message: str, owner: object) -> None:
        super().__init__(message)
        self.owner = owner


@define
class _Request(Generic[T]):
    """
    A request that its owner waits for.
    """

    owner: T
    state: State = NEW
    ended: bool = False                       # of RAW: the agent's direction is


@define
class _Late:
    """
    A request that was left after it was sent.

    @ivar until: when it is forgotten.
    @ivar slot: until when it takes the slot of one that is served; C{0} if it does not.
    """

    until: float
    slot: float


class RequestTable(Generic[T]):
    """
    Requests by their identifiers.  C{T} is their owner.

    @ivar unknown: frames for requests that are not known, or that are over.
    @ivar late: frames for requests that were left.
    """

    def __init__(self, *, awaiting: int = MOST_REQUESTS, sent: int = MOST_REQUESTS, queued: int = MOST_QUEUED) -> None:
        """
        @param awaiting: requests that may be without the head of a response: an agent that serves one at a time has one.
        @param sent: requests that may be under way.
        @param queued: requests that may be there in addition.
        """
        self._mostAwaiting = awaiting
        self._mostSent = sent
        self._most = sent + queued
        self._requests: dict[str, _Request[T]] = {}
        self._queue: deque[str] = deque()
        self._late: dict[str, _Late] = {}
        self._awaiting = 0                    # AWAITING, and late ones that take a slot
        self._sent = 0                        # these, STREAMING and RAW
        self.unknown = self.late = 0

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def awaiting(self) -> int:
        """
        How many slots of requests without a response are taken.
        """
        return self._awaiting

    @property
    def sent(self) -> int:
        """
        How many requests are under way.
        """
        return self._sent

    def owners(self) -> list[T]:
        """
        @return: the owners of all requests.
        """
        return [each.owner for each in self._requests.values()]

    # What the edge does

    def checkRoom(self) -> None:
        """
        @raise TableFull: no request can be added.
        """
        if len(self._requests) >= self._most:
            raise TableFull("too many requests are under way", requests=len(self._requests))

    def add(self, identifier: str, owner: T) -> None:
        """
        A request begins.

        @raise TableFull: there are too many.
        """
        self.checkRoom()
        self._requests[identifier] = _Request(owner)

    def submit(self, identifier: str) -> None:
        """
        A request can be sent, or begun: it is queued until L{takeNext} returns its owner.
        """
        request = self._requests[identifier]
        if request.state is NEW:
            request.state = QUEUED
            self._queue.append(identifier)

    def takeNext(self) -> T | None:
        """
        @return: the owner of a request that is to be sent now, and is under way from now on; C{None} if there is none.
        """
        if not self._queue or self._awaiting >= self._mostAwaiting or self._sent >= self._mostSent:
            return None
        request = self._requests[self._queue.popleft()]
        request.state = AWAITING
        self._awaiting += 1
        self._sent += 1
        return request.owner

    def leave(self, identifier: str, now: float, slotSeconds: float) -> bool:
        """
        The owner of a request does not wait any more.

        @param slotSeconds: for how long an agent may still serve it that cannot be notified; C{0} if it is notified.
        @return: whether the agent has the request, and should be notified if possible.
        """
        request = self._requests.pop(identifier, None)
        if request is None:
            return False
        if request.state in (NEW, QUEUED):
            if request.state is QUEUED:
                self._queue.remove(identifier)
            return False
        keeps = slotSeconds > 0 and request.state is AWAITING
        if request.state is AWAITING and not keeps:
            self._awaiting -= 1
        if not keeps:
            self._sent -= 1
        self._late[identifier] = _Late(now + LATE_SECONDS, now + slotSeconds if keeps else 0.0)
        if len(self._late) > MOST_LATE:
            self._forget(next(iter(self._late)))
        return True

    def finish(self, identifier: str) -> None:
        """
        A request is over: both directions of one that has changed its protocol, or a request that failed.
        """
        self._pop(identifier)

    def expire(self, now: float) -> None:
        """
        Forget what was left too long ago, and give slots back.
        """
        for identifier, late in list(self._late.items()):
            if late.until <= now:
                self._forget(identifier)
            elif 0 < late.slot <= now:
                self._freeSlot(late)

    def clear(self) -> list[T]:
        """
        The agent is lost.

        @return: the owners of all requests.
        """
        owners = self.owners()
        self._requests.clear()
        self._queue.clear()
        self._late.clear()
        self._awaiting = self._sent = 0
        return owners

    # What the agent sends

    def whole(self, identifier: str) -> T | None:
        """
        A whole response.

        @return: its owner, whose request is over; C{None} if it is dropped.
        """
        if self._stateOf(identifier) is AWAITING:
            return self._pop(identifier)
        return self._drop(identifier, ends=True)

    def ownerAwaiting(self, identifier: str) -> T | None:
        """
        @return: the owner of a request that waits for its response; C{None} if there is none.
        """
        return self._requests[identifier].owner if self._stateOf(identifier) is AWAITING else None

    def start(self, identifier: str, raw: bool) -> T | None:
        """
        The head of a response whose body follows.

        @param raw: it changes the protocol.
        @return: its owner; C{None} if it is dropped.
        """
        if self._stateOf(identifier) is not AWAITING:
            return self._drop(identifier, starts=True)
        request = self._requests[identifier]
        request.state = RAW if raw else STREAMING
        self._awaiting -= 1
        return request.owner

    def chunk(self, identifier: str) -> T | None:
        """
        A part of the body.

        @return: its owner; C{None} if it is dropped.
        @raise OutOfOrder: there was no head.
        """
        state = self._stateOf(identifier)
        if state is AWAITING:
            raise OutOfOrder("a part of a response comes before its head", self._pop(identifier))
        if state is STREAMING or (state is RAW and not self._requests[identifier].ended):
            return self._requests[identifier].owner
        return self._drop(identifier)

    def end(self, identifier: str) -> T | None:
        """
        The response is complete, or the agent's direction is.

        @return: its owner, whose request is over unless it has changed its protocol; C{None} if it is dropped.
        @raise OutOfOrder: there was no head.
        """
        state = self._stateOf(identifier)
        if state is AWAITING:
            raise OutOfOrder("a response ends before its head", self._pop(identifier))
        if state is STREAMING:
            return self._pop(identifier)
        if state is RAW and not self._requests[identifier].ended:
            self._requests[identifier].ended = True
            return self._requests[identifier].owner
        return self._drop(identifier, ends=True)

    def failed(self, identifier: str) -> T | None:
        """
        The agent cannot complete a response, or has sent a wrong frame for it.

        @return: its owner, whose request is over; C{None} if it is dropped.
        """
        if self._stateOf(identifier) in (AWAITING, STREAMING, RAW):
            return self._pop(identifier)
        return self._drop(identifier, ends=True)

    # Parts

    def _stateOf(self, identifier: str) -> State | None:
        request = self._requests.get(identifier)
        return None if request is None else request.state

    def _pop(self, identifier: str) -> T | None:
        request = self._requests.pop(identifier, None)
        if request is None:
            return None
        if request.state is QUEUED:
            self._queue.remove(identifier)
        self._awaiting -= request.state is AWAITING
        self._sent -= request.state in (AWAITING, STREAMING, RAW)
        return request.owner

    def _drop(self, identifier: str, *, starts: bool = False, ends: bool = False) -> T | None:
        """
        @return: C{None}.
        """
        late = self._late.get(identifier)
        if late is None:
            self.unknown += 1
            return None
        self.late += 1
        if ends:
            self._forget(identifier)
        elif starts and late.slot:
            self._freeSlot(late)
        return None

    def _forget(self, identifier: str) -> None:
        late = self._late.pop(identifier)
        if late.slot:
            self._freeSlot(late)

    def _freeSlot(self, late: _Late) -> None:
        late.slot = 0.0
        self._awaiting -= 1
        self._sent -= 1
