"""
autobahn's parser of WebSocket frames: the only module that imports autobahn.

Nothing else of autobahn is used.  Its opening handshake has a parser of HTTP heads of its own, and its timers, its closing
handshake and its buffering of messages leave no room for the caller's clock, for one place that has the reason of a
connection's end, and for octets that are delivered as they arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

from attrs import frozen
from autobahn.websocket import USES_NVX
from autobahn.websocket.protocol import TrafficStats, Utf8Validator, WebSocketProtocol
from autobahn.websocket.xormasker import create_xor_masker

from tunnelstack.settings.record import Record
from tunnelstack.transport.websocket._frames import CLOSE_PAYLOAD, CLOSE_PROTOCOL

_WebSocketProtocol: Any = WebSocketProtocol      # its own annotations contradict one another


class ParserListener(Protocol):
    """
    What receives the parsed frames.
    """

    def messageBegun(self, text: bool) -> None: ...
    def frameBegun(self, length: int) -> None: ...
    def payloadReceived(self, octets: bytes) -> None: ...
    def messageEnded(self) -> None: ...
    def pingReceived(self, payload: bytes) -> None: ...
    def pongReceived(self, payload: bytes) -> None: ...
    def closeReceived(self, code: int | None, reason: bytes) -> None: ...
    def violated(self, code: int, reason: str) -> None: ...


class _NullLogger:
    """
    autobahn's logger.  What it would log, the transport reports.
    """

    def debug(self, *ignored: object, **fields: object) -> None:
        pass

    trace = info = warn = error = critical = failure = debug


@frozen(eq=False, repr=False)
class _Side(Record):
    """
    What the parser reads of autobahn's factory.
    """

    isServer: bool


CLIENT, SERVER = _Side(False), _Side(True)


SHORT = 400
"""Octets up to which a number of Python's is masked faster than memory is by a function in C."""


def xor(key: bytes, octets: bytes, start: int, end: int) -> bytes | bytearray:
    """
    Mask or unmask.

    @param start: the first octet of C{octets}.
    @param end: the octet after the last one.
    """
    length = end - start
    if length > SHORT:
        return _xorLong(key, memoryview(octets)[start:end])
    pad = (key * (length // 4 + 1))[:length]
    return (int.from_bytes(octets[start:end], "little") ^ int.from_bytes(pad, "little")).to_bytes(length, "little")


def _xorByMasker(key: bytes, octets: memoryview) -> bytes:
    masked: bytes = create_xor_masker(key, len(octets)).process(octets)
    return masked


def _xorInPlace() -> Callable[[bytes, memoryview], bytearray]:
    """
    What autobahn's masker in C does, without its objects, which take longer than the masking, and without two of its copies.
    """
    from _nvx_xormasker import ffi, lib  # type: ignore[import-not-found]

    new, process, free, pointer = lib.nvx_xormask_new, lib.nvx_xormask_process, lib.nvx_xormask_free, ffi.from_buffer

    def xorInPlace(key: bytes, octets: memoryview) -> bytearray:
        masked, masker = bytearray(octets), new(key)
        process(masker, pointer(masked), len(masked))
        free(masker)
        return masked

    return xorInPlace


_xorLong: Callable[[bytes, memoryview], bytes | bytearray] = _xorInPlace() if USES_NVX else _xorByMasker


class FrameParser(_WebSocketProtocol):
    """
    Parses everything that RFC 6455 allows, and rejects the rest.

    Append octets to C{data} and call C{processData} until it returns false or the listener accepts no more.  autobahn's own
    C{__init__} and C{_connectionMade} are not called: they make futures, timers and copies of some 30 options for each
    connection.  The class attributes are the options and the state that C{processData} reads.

    @ivar data: octets that were received and not parsed yet.
    @ivar inside_message: some of a message was parsed, and not its end.
    @ivar current_frame: the frame whose head was parsed, until its end is; or C{None}.
    """

    log = _NullLogger()
    state = None                              # autobahn counts octets while this is "open"; those figures have no user
    trafficStats = TrafficStats()
    trackedTimings = _perMessageCompress = autoPingTimeoutCall = autoPingPending = None
    applyMask = requireMaskedClientFrames = utf8validateIncoming = True
    acceptMaskedServerFrames = logFrames = autoPingRestartOnAnyTraffic = False

    def __init__(self, server: bool, listener: ParserListener) -> None:
        """
        @param server: whether this is the server's side: a client's frames have to be masked, a server's not.
        """
        self.factory = SERVER if server else CLIENT
        self.listener = listener
        self.data = b""
        self.current_frame: Any = None
        self.inside_message = False

    @cached_property
    def utf8validator(self) -> Any:
        """
        Made for the first text message: most connections have none.
        """
        return Utf8Validator()

    def _onMessageBegin(self, isBinary: bool) -> None:
        self.listener.messageBegun(not isBinary)

    def _onMessageFrameBegin(self, length: int) -> None:
        self.listener.frameBegun(length)

    def _onMessageFrameData(self, payload: bytes) -> None:
        self.listener.payloadReceived(payload)

    def _onMessageFrameEnd(self) -> None:
        """
        The end of a frame has no meaning of its own.
        """

    def _onMessageEnd(self) -> None:
        self.listener.messageEnded()

    def _onPing(self, payload: bytes) -> None:
        self.listener.pingReceived(payload)

    def _onPong(self, payload: bytes) -> None:
        self.listener.pongReceived(payload)

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool:
        self.listener.closeReceived(code, reasonRaw or b"")
        return True

    def _protocol_violation(self, reason: str) -> bool:
        self.listener.violated(CLOSE_PROTOCOL, reason)
        return True

    def _invalid_payload(self, reason: str) -> bool:
        self.listener.violated(CLOSE_PAYLOAD, reason)
        return True
