"""
The error codes of HTTP/2.  Source: RFC 9113, section 7.
"""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """
    Why a stream was reset, or a connection ended.  A peer may send others.
    """

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


def code_text(code: int) -> str:
    """
    @return: the name of a code, as it is in the RFC; for one that is not there, its number.
    """
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"code {code}"
