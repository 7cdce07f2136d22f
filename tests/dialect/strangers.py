"""
Agents that do as a test says: a session with an edge whose every octet the test chooses.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.promises.streams import Collect
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.testing import EdgeAndAgent
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.wire.negotiation.multistream.tokens import HEADER, token

__all__ = ["Stranger", "Stream", "told"]

CONTROL = b"/tunnelstack/control/1.0.0"
HELLO = b'{"version":"stranger","instance":"x"}\n'


class Stream(Collect):
    """
    One end of a stream, without any negotiation of ours.
    """


def told(octets: bytes, name: bytes = CONTROL) -> list[dict[str, Any]]:
    """
    The JSON lines behind header and name.
    """
    opened = HEADER + token(name)
    assert octets.startswith(opened), octets
    return [json.loads(line) for line in octets[len(opened):].splitlines()]


class Raw(Protocol):
    """
    A carrier without a session.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Stranger:
    """
    A session with the edge of an L{EdgeAndAgent}.

    @ivar control: its control stream, once it has one.
    """

    def __init__(self, both: EdgeAndAgent, token: str = "") -> None:
        self.both = both
        self.token = token or both.token
        self.session = YamuxSession(False, clock=both.network)
        self.control: Any = None

    def endpoint(self, subprotocols: tuple[str, ...] = ("tunnelstack.v1",)) -> WebSocketClientEndpoint:
        return WebSocketClientEndpoint(
            self.both.network, "http://localhost:8080/_tunnel/1", headers=[("Authorization", f"Bearer {self.token}")],
            subprotocols=subprotocols,
        )

    def sendRequest(self) -> Stranger:
        """
        Get a session, and say nothing on it.
        """
        self.endpoint().connect(quiet(lambda: self.session))
        self.both.settle()
        return self

    def raw(self) -> Raw:
        """
        Get a WebSocket, and nothing on it.
        """
        protocol = Raw()
        self.endpoint().connect(quiet(lambda: protocol))
        self.both.settle()
        return protocol

    def hello(self, line: bytes = HELLO) -> Stranger:
        """
        Open the control stream.
        """
        self.control = self.open(CONTROL, line)
        return self

    def open(self, name: bytes, octets: bytes = b"") -> Any:
        """
        Open a stream, and say header, name, and some octets.
        """
        stream = Stream()
        self.session.connector.connect(quiet(lambda: stream))
        stream.transport.write(HEADER + token(name) + octets)
        self.both.settle()
        return stream

    def say(self, octets: bytes | dict[str, Any]) -> None:
        """
        Say something on the control stream.
        """
        line = octets if isinstance(octets, bytes) else json.dumps(octets).encode() + b"\n"
        self.control.transport.write(line)
        self.both.settle()

    def heard(self) -> list[dict[str, Any]]:
        """
        What the edge has said on the control stream.
        """
        return told(self.control.got)

    @property
    def gone(self) -> bool:
        """
        The edge has ended the session.
        """
        return self.session.lostReason() is not None

    def leave(self) -> None:
        """
        Go without a word.
        """
        if not self.gone:
            self.session.abort()
        self.both.settle()


def quiet(build: Any) -> Any:
    """
    A factory that does not log.
    """
    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda address: build()
    return factory
