"""
RFC 6455 by autobahn, behind a handful of callbacks: the only module that imports it.

An engine is the Twisted protocol on the network's side of a WebSocket.  autobahn makes the handshake, reads
frames and masks; it does nothing else here.  Its timers, its closing handshake, its logging and its buffering of
messages are out of use, because a listener needs the caller's clock, one place that knows why a connection ended,
and octets as they arrive.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.types import ConnectionDeny
from autobahn.websocket.xormasker import create_xor_masker
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.transport.websocket._frames import (
    CLOSE_PAYLOAD,
    CLOSE_PROTOCOL,
    CLOSE_SIZE,
    CLOSE_TEXT,
    MASKED,
    WebSocketFraming,
    validCode,
)
from tunnelstack.transport.websocket._handshake import (
    HEAD_LIMIT,
    RefusalResponse,
    UpgradeFailed,
    WebSocketLocation,
    encodeRefusal,
    requestHead,
    responseStatus,
)
from tunnelstack.wire.printable_text import printable

_ClientProtocol: Any = WebSocketClientProtocol    # their own annotations contradict one another
_ServerProtocol: Any = WebSocketServerProtocol
INTERIM = frozenset(range(100, 200)) - {int(HTTPStatus.SWITCHING_PROTOCOLS)}
_NO_REACTOR = object()     # autobahn would install one; it never uses it


class _NullLogger:
    """
    autobahn's logger: the listener says what there is to say.
    """

    def debug(self, *ignored: object, **fields: object) -> None:
        pass

    trace = info = warn = error = critical = failure = debug


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


class _AutobahnProtocol(WebSocketFraming):
    """
    What both sides have in common of being autobahn's protocol.  Mixed in before autobahn's class.
    """

    log = _NullLogger()
    openHandshakeTimeout = closeHandshakeTimeout = serverConnectionDropTimeout = 0
    webStatus = False
    handshake = (     # who asked for it, what autobahn keeps of it, and its queue for a way of sending that is not ours
        "accept",
        "handshakeDone",
        "http_headers",
        "http_request_data",
        "http_request_params",
        "http_response_data",
        "http_status_line",
        "send_queue",
        "_transport_details",
    )
    mask = staticmethod(xor)
    _size = 0
    _text = False

    def consumeData(self) -> None:
        """
        autobahn asks for this at the end of its handshake, inside a Deferred that would swallow what an
        application raises.  C{handshakeDataReceived} does it afterwards.
        """

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self.transport.write(data)

    def _onOpen(self) -> None:
        """
        The handshake is done; C{handshakeDataReceived} goes on once autobahn's Deferreds are through.
        """

    def onMessageBegin(self, isBinary: bool) -> None:
        self._size = 0
        self._text = not isBinary
        if self._text and not self.listener.records:
            self._fail_connection(CLOSE_TEXT, "text where octets are spoken")

    def onMessageFrameBegin(self, length: int) -> None:
        self._size += length
        if self._size > self.listener.maxMessage:
            self._fail_connection(CLOSE_SIZE, f"a message of more than {self.listener.maxMessage} octets")

    def onMessageFrameData(self, payload: bytes) -> None:
        self.listener.octetsReceived(payload)

    def onMessageFrameEnd(self) -> None:
        """
        Where a frame ends means nothing.
        """

    def onMessageEnd(self) -> None:
        if self.listener.records:
            self.listener.messageEnded(self._text)

    def onPing(self, payload: bytes) -> None:
        self._pong = payload

    def onPong(self, payload: bytes) -> None:
        """
        Whatever it answers: the peer listens.
        """
        self.pongSeen = True

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool:
        if code is not None and not validCode(code):
            self._fail_connection(CLOSE_PROTOCOL, f"close code {code}")
            return True
        try:
            reason = (reasonRaw or b"").decode("utf-8")
        except UnicodeDecodeError:
            self._fail_connection(CLOSE_PAYLOAD, "a close reason that is not UTF-8")
            return True
        self.listener.closeReceived(code, reason)
        return True

    def _fail_connection(self, code: int, reason: str) -> None:
        if self.state != self.STATE_CLOSED:
            self.close(code)
            self.state = self.STATE_CLOSED
            self.listener.protocolViolated(code, reason)


class AutobahnClient(_AutobahnProtocol, _ClientProtocol):
    """
    The side that asks.

    @ivar handshakeDone: called once with C{None} when the WebSocket is open, or with the exception that says why not.
    """

    ownMask, peerMask = MASKED, 0
    _refusal: RefusalResponse | None = None

    def __init__(self, location: WebSocketLocation, headers: list[tuple[str, str]], subprotocols: list[str]) -> None:
        super().__init__()
        self.location = location
        self.requestHeaders = headers
        self.subprotocols = subprotocols
        self.handshakeDone: Callable[[Exception | None], None]

    def startHandshake(self) -> None:
        self.websocket_key = b64encode(os.urandom(16))
        self.transport.write(
            requestHead(self.location, self.websocket_key, self.requestHeaders, self.subprotocols)
        )

    def handshakeDataReceived(self) -> None:
        try:
            if self._refusal is not None:
                self._refused(self._refusal)
            elif (status := self._status()) == HTTPStatus.SWITCHING_PROTOCOLS:
                self.processHandshake()
            elif status is not None:
                self._refusal = RefusalResponse(self.data)
                self._refused(self._refusal)
        except UpgradeFailed as failed:
            self.handshakeDone(failed)
        except Exception as broken:     # autobahn lets pass what its parser of heads runs into
            self.handshakeDone(UpgradeFailed("the answer cannot be read", error=repr(broken)))
        else:
            if self.state == self.STATE_OPEN:
                self.handshakeDone(None)
            if self.state == self.STATE_OPEN:
                self.consume()

    def _status(self) -> int | None:
        """
        The status of the answer, past those that are not the last word (RFC 9110, section 15.2).
        """
        while (status := responseStatus(self.data)) in INTERIM:
            self.data = self.data.partition(b"\r\n\r\n")[2]
        return status

    def _refused(self, refusal: RefusalResponse) -> None:
        """
        Collect the body of an answer that is not 101.
        """
        if refusal.complete(self.data):
            self.handshakeDone(refusal.error(self.data))

    def connectionLost(self, reason: Failure) -> None:
        if self._refusal is not None and self.state == self.STATE_CONNECTING:
            self.handshakeDone(self._refusal.error(self.data))
        super().connectionLost(reason)

    def failHandshake(self, reason: str) -> None:
        raise UpgradeFailed(printable(reason))                # it quotes fields of the answer


class AutobahnServer(_AutobahnProtocol, _ServerProtocol):
    """
    The side that answers.

    @ivar accept: asked with the resource and the subprotocols that were offered; gives the subprotocol (or C{None})
        and the headers of the answer, or raises L{HandshakeRefused}.
    @ivar handshakeDone: called once with whether the WebSocket is open; if not, a refusal was written.
    """

    ownMask, peerMask = 0, MASKED
    _log = Logger()

    def __init__(self) -> None:
        super().__init__()
        self.accept: Callable[[str, list[str]], tuple[str | None, dict[str, list[str]]]]
        self.handshakeDone: Callable[[bool], None]

    def handshakeDataReceived(self) -> None:
        end = self.data.find(b"\r\n\r\n", 0, HEAD_LIMIT)
        if end < 0:
            if len(self.data) >= HEAD_LIMIT:
                self.failHandshake("the head is too long", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        self.processHandshake()
        if self.state == self.STATE_OPEN:
            self.handshakeDone(True)
            self.consume()
        elif self.state == self.STATE_CONNECTING:
            self.failHandshake("the request cannot be read")

    def onConnect(self, request: Any) -> tuple[str | None, dict[str, list[str]]]:
        try:
            return self.accept(self.http_request_uri, request.protocols)
        except HandshakeRefused as denied:
            raise ConnectionDeny(int(denied.status), denied.reason) from None
        except Exception:
            self._log.failure("no protocol for a WebSocket could be built")
            raise ConnectionDeny(500, "no protocol could be built") from None

    def failHandshake(
        self, reason: str, code: int = 400, responseHeaders: list[tuple[str, str]] | None = None
    ) -> None:
        self.transport.write(encodeRefusal(code, reason, responseHeaders or []))
        self.flushAndClose()
        self.handshakeDone(False)


class HandshakeRefused(Exception):
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


_fix(AutobahnClient, clientParameters([]))
_fix(AutobahnServer, serverParameters())
