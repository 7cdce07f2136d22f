"""
The first response of a connection, as it arrives, without its interim responses (1xx but 101): for peers that take an interim
response for the final one.
"""

from __future__ import annotations

from tunnelstack.wire.http1.head import (
    DEFAULT_LIMITS,
    BadMessage,
    HeadLimits,
    find_end_untrusted,
    read_response_untrusted,
)


class FinalResponseFilter:
    """
    Passes on the octets of one response.  Heads are read only to find out which of them is final; all octets that are not an
    interim response pass unchanged, even those that are no HTTP.

    @ivar done: the final head has passed; L{receive_data} passes everything on.
    @ivar switched: the final status is 101.  What follows the head is held back until L{take_held} is called.
    """

    __slots__ = ("_buffer", "_holding", "_limits", "_searched", "done", "switched")

    def __init__(self, limits: HeadLimits = DEFAULT_LIMITS) -> None:
        """
        @param limits: a longer head passes unread.
        """
        self._limits = limits
        self._buffer = b""
        self._searched = 0
        self.done = self.switched = self._holding = False

    def receive_data(self, octets: bytes) -> bytes:
        """
        @return: what is to be passed on now.
        """
        if self.done and not self._holding:
            return octets
        self._buffer += octets
        if self._holding:
            return b""
        try:
            return self._read_heads()
        except BadMessage:
            return self._pass_all()

    def receive_eof(self) -> bytes:
        """
        @return: what was held back, for whatever reason.
        """
        return self._pass_all()

    def take_held(self) -> bytes:
        """
        @return: what has followed a head with status 101; from now on nothing is held back.
        """
        self._holding = False
        held, self._buffer = self._buffer, b""
        return held

    def _read_heads(self) -> bytes:
        """
        @raise BadMessage: this is no head of a response.
        """
        while self._buffer:
            end = find_end_untrusted(self._buffer, self._searched, self._limits)
            if end < 0:
                self._searched = len(self._buffer)
                return b""
            head = read_response_untrusted(self._buffer, end, self._limits)
            octets, self._buffer, self._searched = self._buffer[:end], self._buffer[end:], 0
            if head.status == 101:
                self.done = self.switched = self._holding = True
                return octets
            if head.status >= 200:
                return octets + self._pass_all()
        return b""

    def _pass_all(self) -> bytes:
        self.done = True
        return self.take_held()
