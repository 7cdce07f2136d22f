"""
The octets that a stream has to send.
"""

from __future__ import annotations

FEW = 16
"""Pieces up to which what is left of them is not joined."""


def cutOff(queue: list[bytes], offset: int, most: int) -> tuple[bytes, int]:
    """
    Cut octets off a queue that holds more.

    @param queue: its pieces, which are changed.
    @param offset: how many octets of the first piece were cut off before.
    @param most: how many octets to cut off.
    @return: the octets, and the offset from now on.
    """
    end = offset + most
    first = queue[0]
    if end <= len(first):
        data = first[offset:end]
        if end < len(first):
            return data, end
        del queue[0]
        return data, 0
    if len(queue) > FEW:                      # joined once, then cut by offset
        joined = b"".join(queue)
        queue[:] = [joined]
        return joined[offset:end], end
    end -= len(first)
    whole = 1
    while end >= (size := len(queue[whole])):
        end -= size
        whole += 1
    data = b"".join((memoryview(first)[offset:], *queue[1:whole], memoryview(queue[whole])[:end]))
    del queue[:whole]
    return data, end
