"""
Heads of HTTP/2 to those records that all floors use, and back, for both roles.

A request that HTTP/1.1 programs could read in another way than the sender meant it is refused here, before anything else sees
it.  The names of fields are in lower case on the side of HTTP/2, and are passed on so.  A body whose length is not known has
C{Transfer-Encoding: chunked} as its mark, see L{tunnelstack.wire.http1.framing}.

An extended C{CONNECT} for a WebSocket is a C{GET} with C{Upgrade: websocket} in the records, and a response that opens it has
the status 101 there.

Source: RFC 9113, section 8; RFC 8441.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus

from tunnelstack.wire.http1.framing import CHUNKED, HOST, UNTIL_CLOSE, Framing, outgoing_framing
from tunnelstack.wire.http1.head import (
    DEFAULT_LIMITS,
    TOKEN,
    BadMessage,
    Fields,
    HeadLimits,
    RequestHead,
    ResponseHead,
    first,
    values,
)
from tunnelstack.wire.http1.target import OCTET
from tunnelstack.wire.http2 import message_fields as kinds
from tunnelstack.wire.http2 import websocket
from tunnelstack.wire.http2.message_fields import (
    MalformedMessage,
    check_size,
    check_value,
    kind_of,
    read_length,
    split_pseudo,
)

HTTP_2 = (2, 0)
"""The C{version} of heads that arrived by HTTP/2."""

METHOD_NAME = re.compile(TOKEN + rb"++\Z")
PATH = re.compile(rb"/" + OCTET + rb"*+\Z")
STATUS = re.compile(rb"[1-9][0-9]{2}\Z")
SCHEMES = {b"http": b"80", b"https": b"443"}
"""The schemes of requests, with the port that each implies."""

METHOD, SCHEME, AUTHORITY, PATH_FIELD, PROTOCOL = b":method", b":scheme", b":authority", b":path", b":protocol"
REQUEST_PSEUDO = frozenset((METHOD, SCHEME, AUTHORITY, PATH_FIELD, PROTOCOL))
RESPONSE_PSEUDO = frozenset((b":status",))
CHUNKED_FIELD = (b"Transfer-Encoding", b"chunked")

NOT_SENT = frozenset((
    b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings", b"te", b"host",
))
"""Fields of HTTP/1.1 that HTTP/2 does not have, or writes in another way."""

HANDSHAKE = frozenset((websocket.KEY.lower(), websocket.ACCEPT.lower()))

REASONS = {int(status): status.phrase.encode() for status in HTTPStatus}


# Requests that arrive


def request_from_http2(
    fields: Fields, ended: bool, limits: HeadLimits = DEFAULT_LIMITS, make_key: Callable[[], bytes] = websocket.random_key,
) -> RequestHead:
    """
    Read the head of a request.

    @param fields: as they arrived, pseudo-fields included.
    @param ended: the stream ends with the head.
    @param make_key: makes the C{Sec-WebSocket-Key} for an extended C{CONNECT}.
    @return: the head, with its C{framing}.
    @raise BadMessage: it is refused; L{MalformedMessage} if the stream has to end with an error as well.
    """
    check_size(fields, limits)
    pseudo, others = split_pseudo(fields, REQUEST_PSEUDO)
    method = _method(pseudo)
    framing = Framing()
    kept = _request_fields(others, framing, ended, pseudo)
    if PROTOCOL in pseudo:
        return _websocket_request(pseudo, kept, framing, ended, make_key)
    target = pseudo[PATH_FIELD]
    if not PATH.match(target) and not (target == b"*" and method == b"OPTIONS"):
        raise BadMessage("the :path is malformed")
    return RequestHead(method, target, kept, HTTP_2, framing)


def _method(pseudo: dict[bytes, bytes]) -> bytes:
    """
    Check which pseudo-fields there are.
    """
    method = pseudo.get(METHOD, b"")
    if not METHOD_NAME.match(method):
        raise MalformedMessage("the request has no valid :method")
    if PROTOCOL in pseudo and method != b"CONNECT":
        raise MalformedMessage("a :protocol is for CONNECT")
    if method == b"CONNECT" and PROTOCOL not in pseudo:
        if SCHEME in pseudo or PATH_FIELD in pseudo or AUTHORITY not in pseudo:
            raise MalformedMessage("a CONNECT has an :authority, and neither :scheme nor :path")
        raise BadMessage("this server is not a proxy", 501)
    if SCHEME not in pseudo or PATH_FIELD not in pseudo:
        raise MalformedMessage("the request has no :scheme or no :path")
    if pseudo[SCHEME].lower() not in SCHEMES:
        raise BadMessage("the :scheme is neither http nor https")
    return method


def _request_fields(others: Fields, framing: Framing, ended: bool, pseudo: dict[bytes, bytes]) -> Fields:
    """
    Check the fields of a request, and note in C{framing} what they mean.

    @return: those that are passed on.
    """
    kept: Fields = [(b"Host", b"")]
    cookie = -1                           # where the cookies are
    host: bytes | None = None
    length: int | None = None
    for name, value in others:
        kind = kind_of(name)
        check_value(value)
        if kind == kinds.ORDINARY:
            kept.append((name, value))
        elif kind == kinds.COOKIE:
            if cookie < 0:
                cookie = len(kept)
                kept.append((name, value))
            else:
                kept[cookie] = (name, kept[cookie][1] + b"; " + value)
        elif kind == kinds.LENGTH:
            length = read_length(value, length)
            kept.append((name, value))
        elif kind == kinds.HOST:
            if host is not None:
                raise BadMessage("the request has more than one host")
            host = value
        elif kind == kinds.TE:
            if value.lower() != b"trailers":
                raise MalformedMessage("the value of te is not trailers")
            framing.trailers = True
        elif kind == kinds.EXPECT:
            framing.expect_continue = value.lower() == b"100-continue"
            kept.append((name, value))
        elif kind == kinds.PSEUDO:
            raise MalformedMessage("a pseudo-field comes after another field")
        elif kind == kinds.CONNECTION:
            raise MalformedMessage("the request has a field that concerns a connection")
    framing.host = _host(pseudo, host)
    kept[0] = (b"Host", framing.host)
    if framing.trailers:
        kept.append((b"TE", b"trailers"))
    framing.body = _body_length(length, ended, PROTOCOL in pseudo)
    if framing.body == CHUNKED:
        kept.append(CHUNKED_FIELD)
    return kept


def _body_length(length: int | None, ended: bool, connect: bool) -> int:
    if connect:
        if length is not None:
            raise MalformedMessage("a CONNECT has no content-length")
        return 0
    if not ended:
        return CHUNKED if length is None else length
    if length:
        raise MalformedMessage("the request ends before its content-length")
    return 0


def _host(pseudo: dict[bytes, bytes], host: bytes | None) -> bytes:
    """
    @return: the one host that the request is for.
    """
    authority = pseudo.get(AUTHORITY)
    if authority is None and host is None:
        raise BadMessage("the request has neither :authority nor host")
    for each in (authority, host):
        if each is not None and not (each and HOST.match(each)):
            raise BadMessage("the :authority or the host is no host")
    if authority is None or host is None:
        return authority or host or b""
    if _same_host(authority, host, pseudo.get(SCHEME, b"")):
        return authority
    raise BadMessage("the :authority and the host differ")


def _same_host(one: bytes, other: bytes, scheme: bytes) -> bool:
    """
    Compare hosts as RFC 3986, section 6.2.3, does.
    """
    port = SCHEMES.get(scheme.lower(), b"")
    return one == other or _normalized(one, port) == _normalized(other, port)


def _normalized(host: bytes, implied: bytes) -> bytes:
    host = host.lower()
    name, colon, port = host.rpartition(b":")
    if not colon or b"]" in port:
        return host
    port = port.lstrip(b"0")
    return name if port in (b"", implied) else name + b":" + port


def _websocket_request(
    pseudo: dict[bytes, bytes], kept: Fields, framing: Framing, ended: bool, make_key: Callable[[], bytes]
) -> RequestHead:
    """
    An extended C{CONNECT} as the C{GET} of HTTP/1.1.
    """
    if pseudo[PROTOCOL] != websocket.PROTOCOL:
        raise BadMessage("the :protocol of a CONNECT is not websocket", 501)
    if not PATH.match(pseudo[PATH_FIELD]):
        raise BadMessage("the :path is malformed")
    if ended:
        raise MalformedMessage("a CONNECT ends with its head")
    framing.upgrade = websocket.PROTOCOL
    if first(kept, websocket.VERSION.lower()) is None:
        kept.append((websocket.VERSION, websocket.NEWEST_VERSION))
    kept += [(websocket.KEY, make_key()), (b"Upgrade", websocket.PROTOCOL)]
    return RequestHead(b"GET", pseudo[PATH_FIELD], kept, HTTP_2, framing)


# Responses that are sent


def response_to_http2(head: ResponseHead, request: RequestHead | None) -> Fields:
    """
    @param request: what is answered, from L{request_from_http2}; C{None} if that was refused.
    @return: the fields of a response, or of an interim one.
    @raise BadMessage: the request is for a WebSocket, and this response does not open it, although it reports success.
    """
    status = head.status
    if request is not None and request.framing.upgrade and (status == 101 or 200 <= status < 300):
        if status != 101 or not websocket.is_accepted(request, head):
            raise BadMessage("the response does not open the WebSocket that was requested", 502)
        status = 200
    elif status == 101:
        raise BadMessage("the response changes the protocol, which the request did not offer", 502)
    fields = [(b":status", b"%d" % status)]
    without_length = head.status < 200 or head.status == 204
    for name, value in head.fields:
        name = name.lower()
        if name in NOT_SENT or name in HANDSHAKE or (without_length and name == b"content-length"):
            continue
        fields.append((name, value))
    return fields


# Requests that are sent


def request_to_http2(head: RequestHead, scheme: bytes) -> Fields:
    """
    A request that offers a WebSocket becomes an extended C{CONNECT}; any other C{Upgrade} is left out.

    @param scheme: C{http} or C{https}, as the server is reached.
    @return: the fields of a request.
    """
    framing = outgoing_framing(head)
    connect = websocket.opens_websocket(head)
    host = framing.host or first(head.fields, b"host") or b""
    fields = [(METHOD, b"CONNECT" if connect else head.method)]
    if connect:
        fields.append((PROTOCOL, websocket.PROTOCOL))
    fields += [(SCHEME, scheme), (AUTHORITY, host), (PATH_FIELD, head.target)]
    for name, value in head.fields:
        name = name.lower()
        if name not in NOT_SENT and not (connect and name in HANDSHAKE):
            fields.append((name, value))
    if framing.trailers:
        fields.append((b"te", b"trailers"))
    return fields


# Responses that arrive


def response_from_http2(
    fields: Fields, request: RequestHead, ended: bool, limits: HeadLimits = DEFAULT_LIMITS
) -> ResponseHead:
    """
    Read the head of a response, or of an interim one.  Fields that concern a connection are dropped, and blanks around values
    are removed: a server is read leniently where there is one reading.

    @param request: what is answered, as it was given to L{request_to_http2}.
    @param ended: the stream ends with the head.
    @return: the head, with its C{framing}.
    @raise BadMessage: it is no valid response.
    """
    check_size(fields, limits)
    pseudo, others = split_pseudo(fields, RESPONSE_PSEUDO)
    digits = pseudo.get(b":status", b"")
    if not STATUS.match(digits):
        raise MalformedMessage("the response has no valid :status", 502)
    status = int(digits)
    kept, length = _response_fields(others)
    if websocket.opens_websocket(request) and 200 <= status < 300:
        return _websocket_response(request, kept, ended)
    if status == 101:
        raise MalformedMessage("the response changes the protocol, which HTTP/2 cannot do", 502)
    if status < 200 and ended:
        raise MalformedMessage("the stream ends with an interim response", 502)
    framing = Framing(_response_body(status, request.method, length, ended))
    if framing.body == CHUNKED:
        kept.append(CHUNKED_FIELD)
    elif length is None and not framing.body and _may_have_body(status, request.method):
        kept.append((b"content-length", b"0"))
    return ResponseHead(status, REASONS.get(status, b""), kept, HTTP_2, framing)


def _response_fields(others: Fields) -> tuple[Fields, int | None]:
    """
    @return: the fields that are passed on, and the length that they give.
    """
    kept: Fields = []
    length: int | None = None
    for name, value in others:
        value = value.strip(kinds.BLANKS)
        kind = kind_of(name)
        check_value(value)
        if kind == kinds.PSEUDO:
            raise MalformedMessage("a pseudo-field comes after another field", 502)
        if kind == kinds.LENGTH:
            if length is not None and read_length(value, None) == length:
                continue
            length = read_length(value, length)
        elif kind not in (kinds.ORDINARY, kinds.COOKIE, kinds.EXPECT):
            continue
        kept.append((name, value))
    return kept, length


def _may_have_body(status: int, method: bytes) -> bool:
    return status >= 200 and status not in (204, 304) and method != b"HEAD"


def _response_body(status: int, method: bytes, length: int | None, ended: bool) -> int:
    if not _may_have_body(status, method):
        return 0
    if not ended:
        return CHUNKED if length is None else length
    if length:
        raise MalformedMessage("the response ends before its content-length", 502)
    return 0


def _websocket_response(request: RequestHead, kept: Fields, ended: bool) -> ResponseHead:
    """
    The response to an extended C{CONNECT} as that of HTTP/1.1.
    """
    keys = values(request.fields, websocket.KEY.lower())
    if ended or len(keys) != 1:
        raise BadMessage("the WebSocket is not opened", 502)
    fields = [field for field in kept if field[0] != b"content-length"]
    fields += [(b"Upgrade", websocket.PROTOCOL), (websocket.ACCEPT, websocket.accept_for(keys[0]))]
    return ResponseHead(101, REASONS[101], fields, HTTP_2, Framing(UNTIL_CLOSE, upgrade=websocket.PROTOCOL))
