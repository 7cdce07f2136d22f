"""
Who may use a page of an operator: the page itself and programs, but not the pages of other sites in the same browser.

A page of another site can send requests to this machine, and a name of its own can lead to this machine (DNS rebinding).  So
the host must be one that no other site can have, and the origin must be that of the page.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.redaction import text_of

LOOPBACK = re.compile(r"tcp6?:[0-9]+:(?:.*:)?interface=(?:127(?:\.[0-9]+){3}|localhost|\\:\\:1)(?::.*)?")

WRITING_HEADER = b"x-tunnelstack"
"""Sent with requests that change something.  A page of another site cannot add it without being allowed to."""

Refused = tuple[int, str]
"""The status and a sentence for a request that is refused."""

OTHER_SITE: Refused = (403, "requests from pages of other sites are rejected")
NO_WRITING_HEADER: Refused = (403, "the request needs the field X-Tunnelstack: 1")


def isLoopback(listen: str) -> bool:
    """
    @param listen: an endpoint string.
    @return: whether only this machine can connect to it.
    """
    return LOOPBACK.fullmatch(listen) is not None


def hostField(head: RequestHead) -> str:
    """
    @return: the field C{Host}, with its port, in lower case.
    """
    return text_of(head.field(b"host") or b"").lower()


def hostName(host: str) -> str:
    """
    @param host: with or without a port.
    @return: the name or address; C{""} if it is not one.
    """
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def isLoopbackHost(host: str) -> bool:
    """
    @param host: with or without a port.
    @return: whether it is C{localhost}, or an address of loopback.
    """
    name = hostName(host)
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def isOtherOrigin(head: RequestHead) -> bool:
    """
    @return: whether a request has the origin of another site.
    """
    host, origin = hostField(head), head.field(b"origin")
    return origin is not None and text_of(origin).lower() not in (f"http://{host}", f"https://{host}")


def isOfOtherSite(head: RequestHead) -> bool:
    """
    @return: whether another site has caused a request, as far as the browser says so.  A link that a person has followed from
        there counts as well.
    """
    return isOtherOrigin(head) or (head.field(b"sec-fetch-site") or b"none") not in (b"none", b"same-origin")


class PageToken:
    """
    A secret that programs send as C{Authorization: Bearer}, and browsers as a cookie once they have shown it.
    """

    def __init__(self, token: Callable[[], str], cookie: str) -> None:
        """
        @param token: gives the token; C{""} is accepted from nobody.
        @param cookie: the name of the cookie.
        """
        self._token = token
        self._name = cookie.encode()

    def isShown(self, head: RequestHead) -> bool:
        """
        @return: whether a request has the token, or the cookie.
        """
        return self.inField(head) or self._inCookie(head) or self.inQuery(head)

    def inField(self, head: RequestHead) -> bool:
        """
        @return: whether the token is in the field C{Authorization}.
        """
        scheme, _, given = (head.field(b"authorization") or b"").partition(b" ")
        return scheme.lower() == b"bearer" and self._isToken(given.strip())

    def inQuery(self, head: RequestHead) -> bool:
        """
        @return: whether the token is in the query of the page's address.
        """
        path, _, query = head.target.partition(b"?")
        if path != b"/" or query.count(b"&") >= 16:
            return False
        given = parse_qs(text_of(query), max_num_fields=16).get("token", [""])[0]
        return self._isToken(given.encode("utf-8", "replace"))

    def cookie(self) -> bytes:
        """
        @return: the value of C{Set-Cookie} for a browser that has shown the token.
        """
        return self._name + b"=" + self._cookieValue() + b"; Path=/; HttpOnly; SameSite=Strict"

    def noCookie(self) -> bytes:
        """
        @return: the value of C{Set-Cookie} for a browser that shall forget it.
        """
        return self._name + b"=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"

    def _isToken(self, given: bytes) -> bool:
        token = self._token()
        return bool(token) and hmac.compare_digest(given, token.encode())

    def _inCookie(self, head: RequestHead) -> bool:
        wanted = self._cookieValue()
        return bool(wanted) and any(
            name == self._name and hmac.compare_digest(value, wanted)
            for name, _, value in (each.strip().partition(b"=") for each in (head.field(b"cookie") or b"").split(b";"))
        )

    def _cookieValue(self) -> bytes:
        token = self._token()
        return hmac.new(token.encode(), b"cookie of " + self._name, sha256).hexdigest().encode() if token else b""
