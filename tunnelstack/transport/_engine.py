"""
RFC 6455 by autobahn, behind a handful of callbacks: the only module that imports it.

An engine is the Twisted protocol on the network's side of a WebSocket.  autobahn makes the handshake, reads
frames and masks; it does nothing else here.  Its timers, its closing handshake, its logging and its buffering of
messages are out of use, because a carrier needs the caller's clock, one place that knows why a connection ended,
and octets as they arrive.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any, Protocol

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.interfaces import ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.transport._handshake import (
    HEAD_LIMIT,
    Location,
    Refusal,
    UpgradeFailed,
    refusalOctets,
    requestHead,
    responseStatus,
)

CLOSE_NORMAL, CLOSE_PROTOCOL, CLOSE_TEXT, CLOSE_PAYLOAD, CLOSE_SIZE = 1000, 1002, 1003, 1007, 1009
_ClientProtocol: Any = WebSocketClientProtocol    # their own annotations contradict one another
_ServerProtocol: Any = WebSocketServerProtocol
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10     # opcodes
_NO_REACTOR = object()     # autobahn would install one; it never uses it
RESERVED_CODES = frozenset((1004, 1005, 1006, 1015))   # never in a Close frame


class Party(Protocol):
    """
    What an engine tells whoever waits for its WebSocket to open.
    """

    def writesPaused(self) -> None: ...
    def writesResumed(self) -> None: ...
    def lost(self, reason: Failure) -> None: ...


class Carrier(Party, Protocol):
    """
    What it tells the transport that it serves once the WebSocket is open.

    @ivar stalled: the application does not read: no frame is taken from the octets at hand.
    @ivar records: whole messages of either kind are wanted; without it, text is refused.
    @ivar maxMessage: octets that one incoming message may have.
    """

    stalled: bool
    records: bool
    maxMessage: int

    def octetsReceived(self, octets: bytes) -> None: ...
    def messageEnded(self, text: bool) -> None: ...
    def closeReceived(self, code: int | None, reason: str) -> None: ...
    def violated(self, code: int, reason: str) -> None: ...


class _Silence:
    """
    autobahn's logger: the carrier says what there is to say.
    """

    def debug(self, *ignored: object, **fields: object) -> None:
        pass

    trace = info = warn = error = critical = failure = debug


def validCode(code: int) -> bool:
    """
    Whether a Close frame may carry this code (RFC 6455, section 7.4, and the registry for 1012-1014).
    """
    return (1000 <= code <= 1014 and code not in RESERVED_CODES) or 3000 <= code <= 4999


class _Engine:
    """
    What both sides of a WebSocket have in common.  Mixed in before autobahn's class.

    @ivar party: who waits for the WebSocket to open, then the same as C{carrier}.
    @ivar carrier: the transport it serves, from L{serve} on.
    @ivar heard: something arrived since somebody last set this to false.
    @ivar full: the network takes no more for now.
    """

    log = _Silence()
    openHandshakeTimeout = closeHandshakeTimeout = serverConnectionDropTimeout = 0
    webStatus = False
    heard = False
    full = False
    _gone = False
    _pong: bytes | None = None
    _size = 0
    _text = False

    # what autobahn provides
    STATE_CLOSED: int
    STATE_CONNECTING: int
    STATE_OPEN: int
    state: int
    data: bytes
    transport: Any
    processData: Callable[[], bool]
    processHandshake: Callable[[], Any]
    sendFrame: Callable[..., None]
    _connectionMade: Callable[[], None]
    _dispose: Callable[[Failure], None]

    party: Party
    carrier: Carrier

    # The network's side

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._connectionMade()

    def dataReceived(self, data: bytes) -> None:
        self.heard = True
        state = self.state
        if state == self.STATE_OPEN:
            self.data = self.data + data if self.data else data
            self.consume()
        elif state == self.STATE_CONNECTING:
            self.data += data
            self.greet()

    def connectionLost(self, reason: Failure) -> None:
        self.state = self.STATE_CLOSED
        self._gone = True
        self.party.lost(reason)

    def pauseProducing(self) -> None:
        self.full = True
        self.party.writesPaused()

    def resumeProducing(self) -> None:
        self.full = False
        self._answerPing()
        self.party.writesResumed()

    def stopProducing(self) -> None:
        """
        The network is gone; C{connectionLost} says so.
        """

    # The carrier's side

    def serve(self, carrier: Carrier) -> None:
        """
        The WebSocket is open, and this is who it is for.
        """
        self.party = self.carrier = carrier

    def greet(self) -> None:
        """
        Octets of the other side's head have arrived.
        """
        raise NotImplementedError

    def consume(self) -> None:
        """
        Take frames from the octets at hand, until the application stops reading.  Of many pings in one delivery
        only the last is answered (RFC 6455, section 5.5.3), and none while the network takes no more, so that
        pings cannot make us hold anything.
        """
        carrier = self.carrier
        while self.state == self.STATE_OPEN and not carrier.stalled and self.processData():
            pass
        if self._pong is not None and not self.full:
            self._answerPing()

    def sendBinary(self, octets: bytes) -> None:
        """
        Send one binary message.
        """
        self.sendFrame(BINARY, octets)

    def sendText(self, octets: bytes) -> None:
        """
        Send one text message; the octets are UTF-8.
        """
        self.sendFrame(TEXT, octets)

    def sendPing(self, payload: bytes) -> None:
        self.sendFrame(PING, payload)

    def sendClose(self, code: int | None, reason: bytes = b"") -> None:
        """
        Send a Close frame; frames of the peer are still read.

        @param code: C{None} sends an empty one.
        """
        self.sendFrame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason[:123])

    def leave(self) -> None:
        """
        Read no more frames; flush what was written and close the connection below.
        """
        self.state = self.STATE_CLOSED
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """
        End the connection below at once, if it is not gone already: TLS fails when it is.
        """
        self.state = self.STATE_CLOSED
        if not self._gone:
            self.transport.abortConnection()

    # autobahn's side

    def consumeData(self) -> None:
        """
        autobahn asks for this at the end of its handshake, inside a Deferred that would swallow what an
        application raises.  L{greet} does it afterwards.
        """

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self.transport.write(data)

    def _onOpen(self) -> None:
        """
        The handshake is done; L{greet} goes on once autobahn's Deferreds are through.
        """

    def onMessageBegin(self, isBinary: bool) -> None:
        self._size = 0
        self._text = not isBinary
        if self._text and not self.carrier.records:
            self._fail_connection(CLOSE_TEXT, "text where octets are spoken")

    def onMessageFrameBegin(self, length: int) -> None:
        self._size += length
        if self._size > self.carrier.maxMessage:
            self._fail_connection(CLOSE_SIZE, f"a message of more than {self.carrier.maxMessage} octets")

    def onMessageFrameData(self, payload: bytes) -> None:
        self.carrier.octetsReceived(payload)

    def onMessageFrameEnd(self) -> None:
        """
        Where a frame ends means nothing.
        """

    def onMessageEnd(self) -> None:
        if self.carrier.records:
            self.carrier.messageEnded(self._text)

    def onPing(self, payload: bytes) -> None:
        self._pong = payload

    def onPong(self, payload: bytes) -> None:
        """
        It was L{heard}, and that is all a pong is for.
        """

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool:
        if code is not None and not validCode(code):
            self._fail_connection(CLOSE_PROTOCOL, f"close code {code}")
            return True
        try:
            reason = (reasonRaw or b"").decode("utf-8")
        except UnicodeDecodeError:
            self._fail_connection(CLOSE_PAYLOAD, "a close reason that is not UTF-8")
            return True
        self.carrier.closeReceived(code, reason)
        return True

    def _fail_connection(self, code: int, reason: str) -> None:
        if self.state != self.STATE_CLOSED:
            self.sendClose(code)
            self.state = self.STATE_CLOSED
            self.carrier.violated(code, reason)

    def _answerPing(self) -> None:
        payload, self._pong = self._pong, None
        if payload is not None and self.state == self.STATE_OPEN:
            self.sendFrame(PONG, payload)


class ClientEngine(_Engine, _ClientProtocol):
    """
    The side that asks.

    @ivar settled: called once with C{None} when the WebSocket is open, or with the exception that says why not.
    """

    _refusal: Refusal | None = None

    def __init__(self, location: Location, headers: list[tuple[str, str]], subprotocols: list[str]) -> None:
        super().__init__()
        self.location = location
        self.requestHeaders = headers
        self.subprotocols = subprotocols
        self.settled: Callable[[Exception | None], None]

    def startHandshake(self) -> None:
        self.websocket_key = b64encode(os.urandom(16))
        self.transport.write(
            requestHead(self.location, self.websocket_key, self.requestHeaders, self.subprotocols)
        )

    def greet(self) -> None:
        try:
            if self._refusal is not None:
                self._refused(self._refusal)
            elif (status := responseStatus(self.data)) == HTTPStatus.SWITCHING_PROTOCOLS:
                self.processHandshake()
            elif status is not None:
                self._refusal = Refusal(self.data)
                self._refused(self._refusal)
        except UpgradeFailed as failed:
            self.settled(failed)
        except Exception as broken:     # autobahn lets pass what its parser of heads runs into
            self.settled(UpgradeFailed("the answer cannot be read", error=repr(broken)))
        else:
            if self.state == self.STATE_OPEN:
                self.settled(None)
                self.consume()

    def _refused(self, refusal: Refusal) -> None:
        """
        Collect the body of an answer that is not 101.
        """
        if refusal.complete(self.data):
            self.settled(refusal.error(self.data))

    def connectionLost(self, reason: Failure) -> None:
        self._gone = True
        if self._refusal is not None and self.state == self.STATE_CONNECTING:
            self.settled(self._refusal.error(self.data))
        super().connectionLost(reason)

    def failHandshake(self, reason: str) -> None:
        raise UpgradeFailed(reason)


class ServerEngine(_Engine, _ServerProtocol):
    """
    The side that answers.

    @ivar accept: asked with the resource and the subprotocols that were offered; gives the subprotocol (or C{None})
        and the headers of the answer, or raises L{Denied}.
    @ivar settled: called once with whether the WebSocket is open; if not, a refusal was written.
    """

    _log = Logger()

    def __init__(self) -> None:
        super().__init__()
        self.accept: Callable[[str, list[str]], tuple[str | None, dict[str, list[str]]]]
        self.settled: Callable[[bool], None]

    def greet(self) -> None:
        end = self.data.find(b"\r\n\r\n", 0, HEAD_LIMIT)
        if end < 0:
            if len(self.data) >= HEAD_LIMIT:
                self.failHandshake("the head is too long", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        self.processHandshake()
        if self.state == self.STATE_OPEN:
            self.settled(True)
            self.consume()
        elif self.state == self.STATE_CONNECTING:
            self.failHandshake("the request cannot be read")

    def onConnect(self, request: Any) -> tuple[str | None, dict[str, list[str]]]:
        try:
            return self.accept(self.http_request_uri, request.protocols)
        except Denied as denied:
            raise ConnectionDeny(int(denied.status), denied.reason) from None
        except Exception:
            self._log.failure("no protocol for a WebSocket could be built")
            raise ConnectionDeny(500, "no protocol could be built") from None

    def failHandshake(
        self, reason: str, code: int = 400, responseHeaders: list[tuple[str, str]] | None = None
    ) -> None:
        self.transport.write(refusalOctets(code, reason, responseHeaders or []))
        self.leave()
        self.settled(False)


class Denied(Exception):
    """
    A request for a WebSocket is answered with an HTTP status instead.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


def clientParameters(subprotocols: list[str]) -> Any:
    """
    What autobahn's client protocol calls its factory.
    """
    return WebSocketClientFactory(protocols=subprotocols, reactor=_NO_REACTOR)


@cache
def serverParameters() -> Any:
    """
    What autobahn's server protocol calls its factory; one does for all.
    """
    return WebSocketServerFactory(server="", reactor=_NO_REACTOR)
