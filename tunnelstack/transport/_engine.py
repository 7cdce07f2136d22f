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
from collections.abc import Callable, Iterator
from functools import cache
from http import HTTPStatus
from struct import Struct
from typing import Any, Protocol

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.types import ConnectionDeny
from autobahn.websocket.xormasker import create_xor_masker
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

CLOSE_PROTOCOL, CLOSE_TEXT, CLOSE_PAYLOAD, CLOSE_SIZE = 1002, 1003, 1007, 1009
_ClientProtocol: Any = WebSocketClientProtocol    # their own annotations contradict one another
_ServerProtocol: Any = WebSocketServerProtocol
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10     # opcodes
LAST = 0x80                                          # this frame ends its message
MASKED = 0x80                                        # in the octet of the length
SHORT, LONG = Struct("!BBH"), Struct("!BBQ")         # heads of frames from 126 and from 65536 octets
HANDSHAKE = (     # who asked for it, what autobahn keeps of it, and its queue for a way of sending that is not ours
    "accept",
    "settled",
    "http_headers",
    "http_request_data",
    "http_request_params",
    "http_response_data",
    "http_status_line",
    "send_queue",
    "_transport_details",
)
INTERIM = frozenset(range(100, 200)) - {int(HTTPStatus.SWITCHING_PROTOCOLS)}
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


def _keys() -> Iterator[bytes]:
    """
    Masking keys nobody can foretell (RFC 6455, section 5.3), without a system call for each.
    """
    while True:
        pool = os.urandom(4096)
        for at in range(0, 4096, 4):
            yield pool[at : at + 4]


nextKey = _keys().__next__


def xor(key: bytes, octets: bytes) -> bytes:
    """
    Mask or unmask.  autobahn's masker (in C, where cffi is found) takes 3 us to set up: short ones go without.
    """
    length = len(octets)
    if length > 1024:
        masked: bytes = create_xor_masker(key, length).process(octets)
        return masked
    pad = (key * (length // 4 + 1))[:length]
    return (int.from_bytes(octets, "little") ^ int.from_bytes(pad, "little")).to_bytes(length, "little")


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
    @cvar ownMask: the bit that says that our frames are masked, where they are.
    @cvar peerMask: the same for the peer's.
    @ivar heard: something arrived since somebody last set this to false.
    @ivar full: the network takes no more for now.
    """

    log = _Silence()
    openHandshakeTimeout = closeHandshakeTimeout = serverConnectionDropTimeout = 0
    webStatus = False
    ownMask: int
    peerMask: int
    heard = False
    full = False
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
    current_frame: Any
    inside_message: bool
    _connectionMade: Callable[[], None]

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
        The WebSocket is open, and this is who it is for.  What was needed to get there is let go.
        """
        self.party = self.carrier = carrier
        for name in HANDSHAKE:
            self.__dict__.pop(name, None)

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
        while self.state == self.STATE_OPEN and not carrier.stalled:
            between = self.current_frame is None and not self.inside_message
            if not (between and self._takeWhole()) and not self.processData():
                break
        if self._pong is not None and not self.full:
            self._answerPing()

    def _takeWhole(self) -> bool:
        """
        Take the binary messages at hand that came in one whole frame each, which is how most come: autobahn needs
        7 us for one, this 2.  Whatever else there is, and whatever is wrong, is left to autobahn.

        @return: whether there were any.
        """
        carrier, data, size, start = self.carrier, self.data, len(self.data), 0
        while size - start > 6 and data[start] == LAST | BINARY:
            length = data[start + 1] ^ self.peerMask      # beyond 127: masked where it must not be, or not masked
            body = start + 2
            if length == 126:
                length = data[body] << 8 | data[body + 1]
                body += 2
                if length < 126:
                    break
            elif length > 126:
                break
            if self.peerMask:
                body += 4
            end = body + length
            if end > size or length > carrier.maxMessage:
                break
            octets = data[body:end]
            start = end
            carrier.octetsReceived(xor(data[body - 4 : body], octets) if self.peerMask else octets)
            if carrier.records:
                carrier.messageEnded(False)
            if self.state != self.STATE_OPEN or carrier.stalled:
                break
        if start:
            self.data = data[start:]
        return start > 0

    def sendBinary(self, octets: bytes) -> None:
        """
        Send one binary message.
        """
        self._say(BINARY, octets)

    def sendText(self, octets: bytes) -> None:
        """
        Send one text message; the octets are UTF-8.
        """
        self._say(TEXT, octets)

    def ping(self, payload: bytes) -> None:
        self._say(PING, payload)

    def _say(self, opcode: int, payload: bytes) -> None:
        """
        Send a frame that is a whole message; autobahn's way takes three times as long.
        """
        length = len(payload)
        high = self.ownMask
        if length < 126:
            head = bytes((LAST | opcode, high | length))
        elif length < 65536:
            head = SHORT.pack(LAST | opcode, high | 126, length)
        else:
            head = LONG.pack(LAST | opcode, high | 127, length)
        if high:
            key = nextKey()
            head += key
            payload = xor(key, payload)
        if length < 4096:
            self.transport.write(head + payload)
        else:
            self.transport.writeSequence((head, payload))

    def close(self, code: int | None) -> None:
        """
        Send a Close frame; frames of the peer are still read.

        @param code: C{None} sends an empty one.
        """
        self._say(CLOSE, b"" if code is None else code.to_bytes(2, "big"))

    def leave(self) -> None:
        """
        Read no more frames; flush what was written and close the connection below.
        """
        self.state = self.STATE_CLOSED
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """
        End the connection below at once.
        """
        self.state = self.STATE_CLOSED
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
            self.close(code)
            self.state = self.STATE_CLOSED
            self.carrier.violated(code, reason)

    def _answerPing(self) -> None:
        payload, self._pong = self._pong, None
        if payload is not None and self.state == self.STATE_OPEN:
            self._say(PONG, payload)


class ClientEngine(_Engine, _ClientProtocol):
    """
    The side that asks.

    @ivar settled: called once with C{None} when the WebSocket is open, or with the exception that says why not.
    """

    ownMask, peerMask = MASKED, 0
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
            elif (status := self._status()) == HTTPStatus.SWITCHING_PROTOCOLS:
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
            if self.state == self.STATE_OPEN:
                self.consume()

    def _status(self) -> int | None:
        """
        The status of the answer, past those that are not the last word (RFC 9110, section 15.2).
        """
        while (status := responseStatus(self.data)) in INTERIM:
            self.data = self.data.partition(b"\r\n\r\n")[2]
        return status

    def _refused(self, refusal: Refusal) -> None:
        """
        Collect the body of an answer that is not 101.
        """
        if refusal.complete(self.data):
            self.settled(refusal.error(self.data))

    def connectionLost(self, reason: Failure) -> None:
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

    ownMask, peerMask = 0, MASKED
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


def _fix(engine: Any, parameters: Any) -> None:
    """
    Options are the same for every connection: have them once, where autobahn copies (and prints) 30 for each.
    """
    for name in engine.CONFIG_ATTRS:
        if not hasattr(engine, name):
            value = getattr(parameters, name)
            setattr(engine, name, staticmethod(value) if callable(value) else value)
    engine.CONFIG_ATTRS = ()


_fix(ClientEngine, clientParameters([]))
_fix(ServerEngine, serverParameters())
