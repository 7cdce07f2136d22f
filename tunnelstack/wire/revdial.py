"""
revdial's control connection: the side that requests connections, and the side that makes them.

Over one connection travel JSON lines; each connection is requested with a line, and arrives as a connection of
its own that names the request (the pick-up).  The I{dialler} requests; the I{listener} is behind NAT and picks up.
Neither depends on what the connections are, and each has the time from its caller.

Source: golang/build C{revdial/v2/revdial.go}, and its descendant over WebSocket.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import define

from tunnelstack.errors import PeerError, Unavailable
from tunnelstack.wire.go_json import encode_fields
from tunnelstack.wire.jsonline import LineReader, decode_object

LINE = 4096
"""Octets of the longest line, its line feed included."""

KEEPALIVE_INTERVAL = 30.0
"""Seconds between lines that are only a sign of life, in both directions."""

KEEPALIVE_TIMEOUT = 35.0
"""Seconds without one of them after which a listener gives its dialler up."""

PICK_UP_TIMEOUT = 20.0
"""Seconds that a pick-up may take, from the line that requests it."""

PENDING = 256
"""Connections that may be awaited, or picked up, at the same time."""

KEEP_ALIVE, CONN_READY, PICKUP_FAILED = "keep-alive", "conn-ready", "pickup-failed"
_PATH = re.compile("[!-~]+")
_TICKET = re.compile(r"[?&]uuid=([^&#]*)")
_DIALLER = re.compile(r"[?&]revdial\.dialer=([^&#]*)")


class BadControlLine(PeerError):
    """
    A control line whose members are of the wrong kind, or which lacks one.
    """


class TooManyPickUps(Unavailable):
    """
    No further connection can be requested until one of the requested ones has arrived.
    """


@define
class PickUpFailed:
    """
    The listener could not make the requested connection.

    @ivar ticket: what L{DiallerLines.dial} was given.
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
class PickUpRequested:
    """
    The dialler requests a connection.

    @ivar path: where to connect to, as received: path and query.
    """

    path: str


@define
class DiallerTimedOut:
    """
    Nothing was received from the dialler for L{KEEPALIVE_TIMEOUT} seconds: the control connection is to be closed.
    """


RevdialEvent = PickUpFailed | PickUpExpired | PickUpRequested | DiallerTimedOut


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
    members = decode_object(line)
    said = (members.get(name) for name in ("command", "connPath", "err"))
    command, path, error = ("" if text is None else text for text in said)
    if not (isinstance(command, str) and isinstance(path, str) and isinstance(error, str)):
        raise BadControlLine("a member of a control line is not a string")
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
    @param path: of the dialler's request.
    @return: C{ws://} or C{wss://}; never another server, whatever the path looks like.
    """
    return f"ws{server.removeprefix('http').rstrip('/')}/{path.lstrip('/')}"


class _ControlLines:
    """
    What both sides have in common: lines, and a sign of life now and then.
    """

    def __init__(self) -> None:
        self._lines = LineReader(LINE - 1)
        self._out: list[bytes] = []
        self._keepalive_due: float | None = None

    def data_to_send(self) -> list[bytes]:
        """
        @return: lines to write now, each to be one message where messages are kept.
        """
        out, self._out = self._out, []
        return out

    def receive_eof(self) -> list[RevdialEvent]:
        """
        @raise PeerError: inside a line.
        """
        self._lines.receive_eof()
        return []

    def _received(self, octets: bytes) -> Iterator[tuple[str, str, str]]:
        """
        @return: the lines that are whole now: command, path and error of each.
        @raise PeerError: a line that is too long or none; the connection is to be closed.
        """
        self._lines.feed(octets)
        while (line := self._lines.next_line()) is not None:
            yield decode_line_untrusted(line)

    def _send_keepalive(self, now: float) -> None:
        self._out.append(encode_line(KEEP_ALIVE))
        self._keepalive_due = now + KEEPALIVE_INTERVAL

    def _send_keepalive_if_due(self, now: float) -> None:
        """
        The first call gives the first sign.
        """
        if self._keepalive_due is None or now >= self._keepalive_due:
            self._send_keepalive(now)


class DiallerLines(_ControlLines):
    """
    Asks for connections.

    @ivar identifier: what the pick-ups name it by; the owner keeps the table of diallers.
    """

    def __init__(self, identifier: str, base: str) -> None:
        super().__init__()
        self.identifier = identifier
        self._base = base
        self._pending: dict[str, float] = {}            # ticket -> deadline, oldest first

    def dial(self, ticket: str, now: float) -> None:
        """
        Ask for a connection.  A sign of life follows, since listeners do not take the question for one.

        @raise TooManyPickUps: more are awaited than may be.
        """
        if len(self._pending) >= PENDING:
            raise TooManyPickUps("too many connections are awaited", awaited=len(self._pending))
        self._pending[ticket] = now + PICK_UP_TIMEOUT
        self._out.append(encode_line(CONN_READY, pick_up_path(self._base, self.identifier, ticket)))
        self._send_keepalive(now)

    def picked_up(self, ticket: str) -> bool:
        """
        A connection came that names a ticket.

        @return: whether it was awaited; a second one with the same ticket is not.
        """
        return self._pending.pop(ticket, None) is not None

    def cancel(self, ticket: str) -> None:
        """
        The connection is not expected any more.
        """
        self._pending.pop(ticket, None)

    def receive_data(self, octets: bytes) -> list[RevdialEvent]:
        """
        @return: events, oldest first.
        @raise PeerError: a line that is too long or none; the connection is to be closed.
        """
        events: list[RevdialEvent] = []
        for command, path, error in self._received(octets):
            if command == PICKUP_FAILED:                # others are signs of life, or of future listeners
                found = _TICKET.search(path)
                if found is not None and self._pending.pop(found.group(1), None) is not None:
                    events.append(PickUpFailed(found.group(1), error))
        return events

    def next_deadline(self) -> float | None:
        """
        @return: when C{expire} is to be called; C{None} before its first call.
        """
        first = next(iter(self._pending.values()), None)
        if self._keepalive_due is None or first is None:
            return self._keepalive_due
        return min(first, self._keepalive_due)

    def expire(self, now: float) -> list[PickUpExpired]:
        """
        Time has passed; the first call, at connection, gives the first sign of life.
        """
        self._send_keepalive_if_due(now)
        late = [ticket for ticket, deadline in self._pending.items() if deadline <= now]
        for ticket in late:
            del self._pending[ticket]
        return [PickUpExpired(ticket) for ticket in late]


class ListenerLines(_ControlLines):
    """
    The side that receives requests for connections.
    """

    def __init__(self) -> None:
        super().__init__()
        self._keepalive_received = False
        self._peer_deadline: float | None = None
        self._requested: dict[str, None] = {}               # paths that were neither picked up nor reported

    def receive_data(self, octets: bytes) -> list[RevdialEvent]:
        """
        @return: events, oldest first.
        @raise PeerError: a line that is too long or none, or a path that is none; the connection is to be closed.
        """
        events: list[RevdialEvent] = []
        for command, path, _ in self._received(octets):
            if command == KEEP_ALIVE:
                self._keepalive_received = True
            elif command == CONN_READY:
                self._pick_up_requested(path, events)
        return events

    def _pick_up_requested(self, path: str, events: list[RevdialEvent]) -> None:
        if not _PATH.fullmatch(path):
            raise BadControlLine("the dialler does not name where to connect to", path=path[:64])
        if path in self._requested:
            return
        self._requested[path] = None
        if len(self._requested) > PENDING:
            self.report_failure(path, "too many connections are being made")
        else:
            events.append(PickUpRequested(path))

    def picked_up(self, path: str) -> None:
        """
        The requested connection has arrived.
        """
        self._requested.pop(path, None)

    def report_failure(self, path: str, reason: str) -> None:
        """
        It could not be made: report that, once.  A dialler that receives two reports may give up the connection of another
        request.
        """
        if path in self._requested:
            del self._requested[path]
            self._out += _failure_line(path, reason)

    def next_deadline(self) -> float | None:
        """
        @return: when C{expire} is to be called; C{None} before its first call.
        """
        if self._keepalive_due is None or self._peer_deadline is None:
            return None
        return min(self._keepalive_due, self._peer_deadline)

    def expire(self, now: float) -> list[DiallerTimedOut]:
        """
        Time has passed; the first call, at connection, gives the first sign of life and starts to listen for the dialler's.
        """
        if self._keepalive_received or self._peer_deadline is None:
            self._keepalive_received = False
            self._peer_deadline = now + KEEPALIVE_TIMEOUT
        self._send_keepalive_if_due(now)
        return [DiallerTimedOut()] if now >= self._peer_deadline else []


def _failure_line(path: str, reason: str) -> list[bytes]:
    """
    @return: a failure, in a line that is not too long for its reader; none where the path alone is.
    """
    for length in (1024, 128, 0):
        line = encode_line(PICKUP_FAILED, path, reason[:length])
        if len(line) <= LINE:
            return [line]
    return []
