"""
The octets that a stream has to send.
"""

from __future__ import annotations


def cutOff(queue: list[bytes], offset: int, most: int) -> tuple[bytes, int]:
    """
    Cut octets off a queue that holds more.

    @param queue: its pieces, which are changed.
    @param offset: how many octets of the first piece were cut off before.
    @param most: how many octets to cut off.
    @return: the octets, and the offset from now on.
    """
    first = queue[0]
    if len(first) - offset < most:            # joined once, then cut by offset
        if offset:
            queue[0] = first[offset:]
        first = b"".join(queue)
        queue[:] = [first]
        offset = 0
    data = first[offset:offset + most]
    offset += most
    if offset == len(first):
        del queue[0]
        offset = 0
    return data, offset
