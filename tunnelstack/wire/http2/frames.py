"""
Frames of HTTP/2: where one ends, and those that are made here.  Source: RFC 9113, sections 4.1 and 6.

Octets are cut into frames before C{h2} gets to see them, because it would buffer a frame of any announced length, would not
count what a flood is made of, and fails after a GOAWAY (L{tunnelstack.wire.http2.connection}).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct

from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.errors import HTTP2Error, NotHTTP2
from tunnelstack.wire.http2.preface import PREFACE

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6
ENABLE_CONNECT_PROTOCOL = 0x8

KNOWN_SETTINGS = frozenset({
    HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE,
    ENABLE_CONNECT_PROTOCOL,
})  # fmt: skip

HEADER_SIZE = 9
LARGEST_ID = 0x7FFF_FFFF
GOAWAY_SIZE = HEADER_SIZE + 8
"""Octets of a GOAWAY frame without debug data."""

SETTING_SIZE = 6
PRIORITY_SIZE = 5

_header = Struct(">HBBBL")
_setting = Struct(">HL")
_words = Struct(">LL")


def pack_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """
    @return: the header of a frame.
    """
    return _header.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def pack_go_away(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """
    @return: a GOAWAY frame.
    """
    return pack_header(8 + len(debug), GOAWAY, 0, 0) + _words.pack(last_stream_id, code) + debug


def unpack_go_away(frame: bytes) -> tuple[int, int, bytes]:
    """
    @param frame: the whole frame.
    @return: the last stream that is processed, the code, and debug data.
    """
    if len(frame) < HEADER_SIZE + 8:
        raise HTTP2Error("a GOAWAY frame that is too short", ErrorCode.FRAME_SIZE_ERROR)
    last_stream_id, code = _words.unpack_from(frame, HEADER_SIZE)
    return last_stream_id & LARGEST_ID, code, frame[HEADER_SIZE + 8:]


def pack_settings(settings: Mapping[int, int]) -> bytes:
    """
    @return: a SETTINGS frame.
    """
    payload = b"".join(_setting.pack(*setting) for setting in settings.items())
    return pack_header(len(payload), SETTINGS, 0, 0) + payload


def known_settings(frame: bytes) -> bytes:
    """
    @param frame: a whole SETTINGS frame.
    @return: the same without the settings that are not known; C{h2} would keep every one of 65536.
    """
    payload = memoryview(frame)[HEADER_SIZE:]
    if len(payload) % SETTING_SIZE:
        return frame                          # h2 rejects it
    known = {number: value for number, value in _setting.iter_unpack(payload) if number in KNOWN_SETTINGS}
    return pack_settings(known) if len(known) * SETTING_SIZE < len(payload) else frame


def pack_window_update(stream_id: int, octets: int) -> bytes:
    """
    @return: a WINDOW_UPDATE frame.
    """
    return pack_header(4, WINDOW_UPDATE, 0, stream_id) + octets.to_bytes(4, "big")


def pack_reset(stream_id: int, code: int) -> bytes:
    """
    @return: an RST_STREAM frame.
    """
    return pack_header(4, RST_STREAM, 0, stream_id) + code.to_bytes(4, "big")


def set_flags(frame: bytes, flags: int) -> bytes:
    """
    @return: the frame with more flags.
    """
    return frame[:4] + bytes((frame[4] | flags,)) + frame[5:]


Frame = tuple[int, int, int, bytes]
"""Kind, flags, stream, and the whole frame with its header."""


class FrameScanner:
    """
    Cuts octets into frames.
    """

    def __init__(self, server: bool, max_frame: int) -> None:
        """
        @param server: the client's preface comes first.
        @param max_frame: octets of payload of the largest frame.
        """
        self._preface_left = PREFACE if server else b""
        self._max_frame = max_frame
        self._first = True                    # the first frame is to come, which is SETTINGS
        self._rest = bytearray()              # the beginning of a frame that was cut
        self._needed = HEADER_SIZE            # octets of it until more can be told

    @property
    def preface_seen(self) -> bool:
        """
        Whether the preface is complete.
        """
        return not self._preface_left

    @property
    def inside(self) -> bool:
        """
        Whether a frame is cut, or the preface.
        """
        return bool(self._rest or self._preface_left)

    def frames(self, data: bytes) -> Iterator[Frame]:
        """
        @param data: what was received, cut anywhere; all of it is to be consumed before the next call.
        @raise NotHTTP2: it does not begin with the preface, and SETTINGS.
        @raise HTTP2Error: a frame is too large; this is raised for its header.
        """
        if self._preface_left:
            data = self._take_preface(data)
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, end = 0, len(data)
        while end - at >= HEADER_SIZE:
            high, low, kind, flags, stream_id = _header.unpack_from(data, at)
            length = high << 8 | low
            if self._first and kind != SETTINGS:
                raise NotHTTP2("the peer does not use HTTP/2")
            if length > self._max_frame:
                raise HTTP2Error("a frame that is too large", ErrorCode.FRAME_SIZE_ERROR, octets=length, most=self._max_frame)
            size = HEADER_SIZE + length
            if end - at < size:
                self._needed = size
                break
            self._first = False
            yield kind, flags, stream_id & LARGEST_ID, data[at:at + size]
            at += size
        else:
            self._needed = HEADER_SIZE
        self._rest += data[at:]

    def _take_preface(self, data: bytes) -> bytes:
        left = self._preface_left
        octets = data[:len(left)]
        if not left.startswith(octets):
            raise NotHTTP2("the peer does not use HTTP/2")
        self._preface_left = left[len(octets):]
        return data[len(octets):]

