"""
What a client of HTTP/2 sends first, so that a server that reads HTTP/1.1 can recognize it.  Source: RFC 9113, section 3.4.
"""

from __future__ import annotations

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def match_preface(octets: bytes) -> bool | None:
    """
    @param octets: the first that a client has sent.
    @return: whether they begin an HTTP/2 connection; C{None} if that cannot be told from so few.
    """
    if len(octets) >= len(PREFACE):
        return octets.startswith(PREFACE)
    return None if PREFACE.startswith(octets) else False
