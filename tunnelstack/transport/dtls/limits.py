"""
What one end of DTLS allows: times, sizes and numbers.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import and_, ge, gt, le

LONGEST_RECORD = 16384
"""Octets of payload that a record may have (RFC 6347, section 4.1)."""


@frozen
class DTLSLimits:
    """
    @ivar handshakeSeconds: from the first datagram of a peer, or to it, until the handshake must be complete.
    @ivar idleSeconds: after as long without a datagram in either direction an association is closed; 0 never closes it.
    @ivar flightOctets: the size that the datagrams of a handshake should not exceed, so that networks carry them whole.
        Payload is never divided, whatever its size.
    @ivar payloadOctets: the largest payload that is sent.
    @ivar associations: how many peers a server has at once, those in their handshake included.
    @ivar handshakes: how many of them may be in their handshake.  Peers that have not proved their address do not count, since
        nothing is kept for them.
    """

    handshakeSeconds: float = field(default=30.0, validator=gt(0))
    idleSeconds: float = field(default=300.0, validator=ge(0))
    flightOctets: int = field(default=1200, validator=and_(ge(256), le(65507)))
    payloadOctets: int = field(default=LONGEST_RECORD, validator=and_(ge(1), le(LONGEST_RECORD)))
    associations: int = field(default=4096, validator=ge(1))
    handshakes: int = field(default=1024, validator=ge(1))
