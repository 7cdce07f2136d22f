"""
HTTP/1.1 messages as octets: heads.
"""

from __future__ import annotations

from attrs import define

Fields = list[tuple[bytes, bytes]]


@define
class RequestHead:
    """
    The head of a request.

    @ivar method: the method's token.
    @ivar target: the request target as received.
    @ivar fields: (name, value) pairs in order, names as received.
    @ivar version: (major, minor).
    """

    method: bytes
    target: bytes
    fields: Fields
    version: tuple[int, int] = (1, 1)


@define
class ResponseHead:
    """
    The head of a response (fields as in L{RequestHead}).

    @ivar status: three digits.
    @ivar reason: the phrase, possibly empty.
    """

    status: int
    reason: bytes
    fields: Fields
    version: tuple[int, int] = (1, 1)
