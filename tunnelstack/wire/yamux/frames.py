"""
Yamux frames as octets.  A header is twelve, big-endian: version (1), kind (1), flags (2), stream identifier (4), length (4).
The length counts octets of payload (DATA), octets of credit (WINDOW), or is an opaque value (PING) or a reason (GOAWAY);
only DATA is followed by a payload.

Version, kind and flags are read as one number, the I{word}: a DATA frame without flags, which is nearly all of them, is the
word zero.

Source: hashicorp/yamux spec.md, "Framing"; const.go at v0.1.2.
"""

from __future__ import annotations

from struct import Struct

HEADER = Struct(">III")             # word, stream identifier, length
HEADER_SIZE = 12                    # octets

INITIAL_WINDOW = 256 * 1024         # octets; what either side may send on a new stream, fixed by the specification
MAX_CREDIT = 0xFFFF_FFFF        # octets; peers keep credit in 32 bits without a sign
FIRST_UNUSABLE_ID = 0xFFFF_FFFE     # hashicorp/yamux stops opening here

DATA, WINDOW, PING, GOAWAY = range(4)       # kinds
SYN, ACK, FIN, RST = 0x1, 0x2, 0x4, 0x8     # flags

NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = range(3)   # reasons of GOAWAY

WINDOW_SYN = WINDOW << 16 | SYN
WINDOW_ACK = WINDOW << 16 | ACK
WINDOW_FIN = WINDOW << 16 | FIN
WINDOW_RST = WINDOW << 16 | RST
WINDOW_PLAIN = WINDOW << 16
PING_REQUEST = PING << 16 | SYN
PING_REPLY = PING << 16 | ACK
GOAWAY_PLAIN = GOAWAY << 16

pack_header = HEADER.pack           # (word, stream identifier, length) -> twelve octets
unpack_header = HEADER.unpack_from  # (octets, offset) -> (word, stream identifier, length)
