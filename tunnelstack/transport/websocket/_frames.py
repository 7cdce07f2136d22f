"""
The frames of RFC 6455 as numbers and octets.
"""

from __future__ import annotations

import os
from itertools import chain, count
from struct import Struct

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10     # opcodes
LAST = 0x80                                          # this frame ends its message
MASKED = 0x80                                        # in the octet of the length
SHORT, LONG = Struct("!BBH"), Struct("!BBQ")         # heads of frames from 126 and from 65536 octets
NORMAL, GOING_AWAY = 1000, 1001                      # close codes of an orderly end
CLOSE_PROTOCOL, CLOSE_TEXT, CLOSE_PAYLOAD, CLOSE_SIZE = 1002, 1003, 1007, 1009
LONGEST_REASON = 123
"""Octets of the text in a Close frame: a control frame has 125 at most (RFC 6455, section 5.5)."""

RESERVED_CODES = frozenset((1004, 1005, 1006, 1015))   # never in a Close frame


KEYS = 1024
"""Masking keys that are made at once."""

_pools = (map(bytes, zip(*[iter(os.urandom(4 * KEYS))] * 4, strict=True)) for _ in count())

nextKey = chain.from_iterable(_pools).__next__
"""Gives unpredictable masking keys (RFC 6455, section 5.3), without a system call for each."""


def validCode(code: int) -> bool:
    """
    Whether a Close frame may carry this code (RFC 6455, section 7.4, and the registry for 1012-1014).
    """
    return (1000 <= code <= 1014 and code not in RESERVED_CODES) or 3000 <= code <= 4999
