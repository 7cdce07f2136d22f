"""
revdial's control connection: the side that is asked for connections, and the side that asks for them.

Over one connection travel JSON lines; each connection that is wanted is asked for with a line, and comes as a connection of
its own that names what it was asked for (the pick-up).  The I{dialler} asks; the I{listener} is behind NAT and picks up.
Neither knows what the connections are, nor the time but what it is told.

Source: golang/build C{revdial/v2/revdial.go}, and its descendant over WebSocket.
"""

from __future__ import annotations

import re
from typing import Any

from attrs import define

from tunnelstack.errors import PeerError, Unavailable
from tunnelstack.wire.go_json import encode_fields
from tunnelstack.wire.jsonline import Lines, decode_object

LINE = 4096
"""Octets of the longest line, its line feed included."""

INTERVAL = 30.0
"""Seconds between lines that only say that somebody is there, in both directions."""

SILENCE = 35.0
"""Seconds without one of them after which a listener gives its dialler up."""

PICK_UP = 20.0
"""Seconds that a pick-up may take, from the line that asks for it."""

PENDING = 256
"""Connections that may be awaited, or picked up, at the same time."""

KEEP_ALIVE, CONN_READY, PICKUP_FAILED = "keep-alive", "conn-ready", "pickup-failed"
_PATH = re.compile("[!-~]+")
_TICKET = re.compile(r"[?&]uuid=([^&#]*)")
_DIALLER = re.compile(r"[?&]revdial\.dialer=([^&#]*)")


class BadLine(PeerError):
    """
    A control line whose members are of the wrong kind, or which lacks one.
    """


class TooManyPickUps(Unavailable):
    """
    No further connection can be asked for until one of those asked for has come.
    """


@define
class PickUpFailed:
    """
    The listener could not pick up what was asked for.

    @ivar ticket: what L{Dialler.dial} was given.
    @ivar reason: the listener's own words.
    """

    ticket: str
    reason: str


@define
class PickUpExpired:
    """
    Nothing came in time.
    """

    ticket: str


@define
class PickUpAsked:
    """
    The dialler wants a connection.

    @ivar path: where to connect to, as received: path and query.
    """

    path: str


@define
class DiallerSilent:
    """
    The dialler has not been heard for L{SILENCE} seconds: the control connection is to be closed.
    """


def encode_line(command: str, path: str = "", error: str = "") -> bytes:
    """
    @return: a control line; members that are empty are left out.
    """
    fields = (("command", command), ("connPath", path), ("err", error))
    return encode_fields(field for field in fields if field[1]) + b"\n"


def decode_line_untrusted(line: bytes) -> tuple[str, str, str]:
    """
    @param line: without its line feed.
    @return: command, path and error; empty where the line has none, or C{null}.
    @raise PeerError: no JSON object, or members that are no strings.
    """
    members: dict[str, Any] = decode_object(line)
    said = (members.get(name) for name in ("command", "connPath", "err"))
    command, path, error = ("" if text is None else text for text in said)
    if not (isinstance(command, str) and isinstance(path, str) and isinstance(error, str)):
        raise BadLine("a member of a control line is no string")
    return command, path, error


def pick_up_path(base: str, dialler: str, ticket: str) -> str:
    """
    @param base: the path of the door for pick-ups, perhaps with a query.
    @param dialler: the dialler's own identifier, 32 hexadecimal digits.
    @param ticket: the connection's, a UUID.
    """
    return f"{base}{'&' if '?' in base else '?'}revdial.dialer={dialler}&uuid={ticket}"


def read_pick_up_untrusted(path: str) -> tuple[str, str]:
    """
    @param path: of a connection that came to the door for pick-ups, with its query.
    @return: dialler and ticket; empty where it names none, as the peers of old diallers do with the ticket.
    """
    dialler, ticket = _DIALLER.search(path), _TICKET.search(path)
    return dialler.group(1) if dialler else "", ticket.group(1) if ticket else ""


def pick_up_url(server: str, path: str) -> str:
    """
    @param server: the one that the control connection goes to, C{http://} or C{https://}, perhaps with a path.
    @param path: what the dialler asked for.
    @return: C{ws://} or C{wss://}; never another server, whatever the path looks like.
    """
    return f"ws{server.removeprefix('http').rstrip('/')}/{path.lstrip('/')}"


class _Control:
    """
    What both sides have in common: lines, and a sign of life now and then.
    """

    def __init__(self) -> None:
        self._lines = Lines(LINE - 1)
        self._out: list[bytes] = []
        self._sign_due: float | None = None

    def data_to_send(self) -> list[bytes]:
        """
        @return: lines to write now, each to be one message where messages are kept.
        """
        out, self._out = self._out, []
        return out

    def receive_eof(self) -> list[Any]:
        """
        @raise PeerError: inside a line.
        """
        self._lines.receive_eof()
        return []

    def receive_data(self, octets: bytes) -> list[Any]:
        """
        @return: events, oldest first.
        @raise PeerError: a line that is too long or none; the connection is to be closed.
        """
        events: list[Any] = []
        self._lines.feed(octets)
        while (line := self._lines.next_line()) is not None:
            self._line(*decode_line_untrusted(line), events)
        return events

    def _line(self, command: str, path: str, error: str, events: list[Any]) -> None:
        raise NotImplementedError

    def _give_sign(self, now: float) -> None:
        self._out.append(encode_line(KEEP_ALIVE))
        self._sign_due = now + INTERVAL

    def _sign_if_due(self, now: float) -> None:
        """
        The first call gives the first sign.
        """
        if self._sign_due is None or now >= self._sign_due:
            self._give_sign(now)


class Dialler(_Control):
    """
    Asks for connections.

    @ivar identifier: what the pick-ups name it by; the owner keeps the table of diallers.
    """

    def __init__(self, identifier: str, base: str) -> None:
        super().__init__()
        self.identifier = identifier
        self._base = base
        self._awaited: dict[str, float] = {}            # ticket -> deadline, oldest first

    def dial(self, ticket: str, now: float) -> None:
        """
        Ask for a connection.  A sign of life follows, since listeners do not take the question for one.

        @raise TooManyPickUps: more are awaited than may be.
        """
        if len(self._awaited) >= PENDING:
            raise TooManyPickUps("too many connections are awaited", awaited=len(self._awaited))
        self._awaited[ticket] = now + PICK_UP
        self._out.append(encode_line(CONN_READY, pick_up_path(self._base, self.identifier, ticket)))
        self._give_sign(now)

    def picked_up(self, ticket: str) -> bool:
        """
        A connection came that names a ticket.

        @return: whether it was awaited; a second one with the same ticket is not.
        """
        return self._awaited.pop(ticket, None) is not None

    def give_up(self, ticket: str) -> None:
        """
        Nobody waits for it any more.
        """
        self._awaited.pop(ticket, None)

    def _line(self, command: str, path: str, error: str, events: list[Any]) -> None:
        if command != PICKUP_FAILED:
            return                                      # signs of life, and what future listeners may say
        found = _TICKET.search(path)
        if found is not None and self._awaited.pop(found.group(1), None) is not None:
            events.append(PickUpFailed(found.group(1), error))

    def next_deadline(self) -> float | None:
        """
        @return: when C{expire} wants to be called; C{None} before its first call.
        """
        first = next(iter(self._awaited.values()), None)
        if self._sign_due is None or first is None:
            return self._sign_due
        return min(first, self._sign_due)

    def expire(self, now: float) -> list[PickUpExpired]:
        """
        Time has passed; the first call, at connection, gives the first sign of life.
        """
        self._sign_if_due(now)
        late = [ticket for ticket, deadline in self._awaited.items() if deadline <= now]
        for ticket in late:
            del self._awaited[ticket]
        return [PickUpExpired(ticket) for ticket in late]


class Listener(_Control):
    """
    Is asked for connections.
    """

    def __init__(self) -> None:
        super().__init__()
        self._heard = False
        self._silent_at: float | None = None
        self._asked: dict[str, None] = {}               # paths that were neither picked up nor reported

    def _line(self, command: str, path: str, error: str, events: list[Any]) -> None:
        if command == KEEP_ALIVE:
            self._heard = True
        elif command == CONN_READY:
            self._ask(path, events)

    def _ask(self, path: str, events: list[Any]) -> None:
        if not _PATH.fullmatch(path):
            raise BadLine("the dialler does not say where to connect to", path=path[:64])
        if path in self._asked:
            return
        self._asked[path] = None
        if len(self._asked) > PENDING:
            self.failed(path, "too many connections are being made")
        else:
            events.append(PickUpAsked(path))

    def picked_up(self, path: str) -> None:
        """
        The connection that was asked for is there.
        """
        self._asked.pop(path, None)

    def failed(self, path: str, reason: str) -> None:
        """
        It could not be made: say so, once.  A dialler that is told twice may give up a connection of somebody else's.
        """
        if path in self._asked:
            del self._asked[path]
            self._out += _fitted(path, reason)

    def next_deadline(self) -> float | None:
        """
        @return: when C{expire} wants to be called; C{None} before its first call.
        """
        if self._sign_due is None or self._silent_at is None:
            return None
        return min(self._sign_due, self._silent_at)

    def expire(self, now: float) -> list[DiallerSilent]:
        """
        Time has passed; the first call, at connection, gives the first sign of life and starts to listen for the dialler's.
        """
        if self._heard or self._silent_at is None:
            self._heard = False
            self._silent_at = now + SILENCE
        self._sign_if_due(now)
        return [DiallerSilent()] if now >= self._silent_at else []


def _fitted(path: str, reason: str) -> list[bytes]:
    """
    @return: a failure, in a line that is not too long for its reader; none where the path alone is.
    """
    for length in (1024, 128, 0):
        line = encode_line(PICKUP_FAILED, path, reason[:length])
        if len(line) <= LINE:
            return [line]
    return []
