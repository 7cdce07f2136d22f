"""
Responses of servers that are not strict, read as every client reads them.

A head comes here when the strict parser has refused it.  It is taken where it has only one reading, and what is passed on is
written anew as RFC 9112 has it.  Its connection is not used again.  Requests are never read like this: theirs are two readers,
this program and the server could disagree.

Source: RFC 9112, sections 2.2 (line ends), 5.1 (blanks before a colon), 5.2 (folded lines) and 6.3 (lengths).
"""

from __future__ import annotations

import re

from tunnelstack.wire.http1.framing import response_framing_untrusted, tokens, without
from tunnelstack.wire.http1.head import (
    HTTP_1_1,
    BadMessage,
    HeadLimits,
    HeadTooLarge,
    ResponseHead,
    read_response_untrusted,
    values,
)

END = re.compile(rb"[^\r\n]\r?\n\r?\n")
_LINE_ENDS = rb"[\r\n]*+"
BEGINNING = re.compile(_LINE_ENDS + rb"(?:HTTP/1\.|(?:HTTP/1|HTTP/|HTTP|HTT|HT|H)?\Z)")


def begins_like_a_response(octets: bytes) -> bool:
    """
    @return: whether this may become the head of a response, after empty lines.
    """
    return BEGINNING.match(octets) is not None


def find_end_lenient(octets: bytes, searched: int, limits: HeadLimits) -> int:
    """
    As L{find_end_untrusted<tunnelstack.wire.http1.head.find_end_untrusted>}, where a line feed alone ends a line.

    @raise BadMessage: too long, or nothing that could become a response.
    """
    if not begins_like_a_response(octets):
        raise BadMessage("this does not begin like an HTTP/1.1 response", 502)
    end = END.search(octets, max(0, searched - 4), limits.octets)
    if end is not None:
        return end.end()
    if len(octets) >= limits.octets:
        raise HeadTooLarge("the head is too long", "octets", limits.octets)
    return -1


def read_response_lenient(octets: bytes, end: int, method: bytes, limits: HeadLimits) -> ResponseHead:
    """
    @param octets: begins with a head.
    @param end: what L{find_end_lenient} found.
    @param method: of the request that is answered.
    @return: the head as it should have been, with its C{framing}.
    @raise BadMessage: it has no reading, or more than one.
    """
    head = read_response_untrusted(regular := regular_lines(octets[:end]), len(regular), limits)
    _settle_length(head)
    head.framing = framing = response_framing_untrusted(head, method)
    framing.keep_alive = False
    return head


def regular_lines(octets: bytes) -> bytes:
    """
    @param octets: lines with an empty one at their end, perhaps after empty ones.
    @return: the same with CR LF, unfolded, without blanks before the colon of a field.
    """
    found: list[bytes] = []
    for line in octets.strip(b"\r\n").split(b"\n"):
        line = line.removesuffix(b"\r")
        if line[:1] in (b" ", b"\t") and len(found) > 1:
            found[-1] += b" " + line.strip(b"\t ")
        else:
            name, colon, value = line.partition(b":")
            found.append(name.rstrip(b"\t ") + colon + value if colon and found else line)
    return b"\r\n".join(found) + b"\r\n\r\n"


def _settle_length(head: ResponseHead) -> None:
    """
    Give a head one length of its body.
    """
    codings = [coding for value in values(head.fields, b"transfer-encoding") for coding in tokens(value)]
    lengths = {length.strip(b"\t ") for value in values(head.fields, b"content-length") for length in value.split(b",")}
    if codings and codings != [b"identity"]:
        length = (b"Transfer-Encoding", b", ".join(codings))      # it overrides a length, in HTTP/1.0 too
        head.version = HTTP_1_1
    elif len(lengths) > 1:
        raise BadMessage("more than one Content-Length")
    elif lengths:
        length = (b"Content-Length", lengths.pop())
    elif not codings:
        return
    else:
        head.fields = without(head.fields, b"transfer-encoding")
        return
    head.fields = [*without(head.fields, b"transfer-encoding", b"content-length"), length]
