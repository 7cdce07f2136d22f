"""
The states of clients, and the calls of developers that wait for them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tunnelstack.waiters import Waiters


class ClientState(IntEnum):
    """
    The state of a client.  A server uses only L{UNKNOWN}, L{CONNECTED} and L{CLOSED}.

    Source: koding/tunnel C{client.go}.
    """

    UNKNOWN = 0
    STARTED = 1
    CONNECTING = 2
    CONNECTED = 3
    DISCONNECTED = 4
    CLOSED = 5

    def __str__(self) -> str:
        return f"Client{self.name.capitalize()}"


@frozen
class StateChange:
    """
    A client is in another state.

    @ivar client: its name on the edge, C{""} for one that is unknown there; on the client's side the address of the server.
    @ivar error: why, if it was not orderly.
    """

    client: str
    previous: ClientState
    current: ClientState
    error: BaseException | None = None

    def __str__(self) -> str:
        what = f"{self.client}: {self.previous} becomes {self.current}"
        return what if self.error is None else f"{what} ({self.error})"


Watcher = Callable[[StateChange], object]


class ClientStates:
    """
    The states of several clients.
    """

    log = Logger()

    def __init__(self) -> None:
        self._states: dict[str, ClientState] = {}
        self._watchers: list[Watcher] = []
        self._waiting: dict[tuple[str, ClientState], Waiters[StateChange]] = {}

    def state(self, client: str) -> ClientState:
        """
        @return: the state of a client.
        """
        return self._states.get(client, ClientState.UNKNOWN)

    def watch(self, watcher: Watcher) -> None:
        """
        Call C{watcher} with each L{StateChange}.  What it raises is logged.
        """
        self._watchers.append(watcher)

    def when(self, client: str, state: ClientState) -> Deferred[StateChange]:
        """
        @return: fires the next time that a client enters a state.
        """
        return self._waiting.setdefault((client, state), Waiters()).wait()

    def forget(self, client: str) -> None:
        """
        A client has no hosts any more.
        """
        self._states.pop(client, None)

    def change(self, client: str, state: ClientState, error: BaseException | None = None) -> None:
        """
        A client is in a state now.

        @param client: C{""} for one that has no name, whose state is not remembered.
        """
        change = StateChange(client, self.state(client), state, error)
        if client:
            self._states[client] = state
        for watcher in list(self._watchers):
            try:
                watcher(change)
            except Exception:
                self.log.failure("a callback for the states of clients failed")
        waiting = self._waiting.pop((client, state), None)
        if waiting is not None:
            waiting.fire(change)
