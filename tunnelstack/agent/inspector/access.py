"""
Who may use the inspector: its own page and programs, but not the pages of other sites in the same browser.

A page of another site can send requests to this machine, and a name of its own can lead to this machine (DNS rebinding).  So
the host must be an address or C{localhost}, and the origin must be that of the inspector.  Off loopback, a token is needed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from tunnelstack.agent.inspector.redaction import textOf
from tunnelstack.wire.http1.head import RequestHead

COOKIE = b"tunnelstack-inspector"

LOOPBACK = re.compile(r"tcp6?:[0-9]+:(?:.*:)?interface=(?:127(?:\.[0-9]+){3}|localhost|\\:\\:1)(?::.*)?")

WRITING_HEADER = b"x-tunnelstack"
"""Sent with requests that change something.  A page of another site cannot add it without being allowed to."""


def isLoopback(listen: str) -> bool:
    """
    @param listen: an endpoint string.
    @return: whether only this machine can connect to it.
    """
    return LOOPBACK.fullmatch(listen) is not None


class Access:
    """
    Decides on each request.
    """

    def __init__(self, token: Callable[[], str] | None) -> None:
        """
        @param token: gives the token; C{None} if none is needed, which is for loopback only.
        """
        self._token = token

    def refusal(self, head: RequestHead) -> tuple[int, str] | None:
        """
        @return: the status and a sentence for a request that is refused; C{None} if it is allowed.
        """
        host = textOf(head.field(b"host") or b"").lower()
        if self._token is None and not _isOwnHost(host):
            return 421, "the host of the inspector is localhost, or an address of loopback"
        origin = head.field(b"origin")
        if origin is not None and textOf(origin).lower() not in (f"http://{host}", f"https://{host}"):
            return 403, "requests from pages of other sites are rejected"
        isAPI = head.target.startswith(b"/api/")
        if isAPI and (head.field(b"sec-fetch-site") or b"none") not in (b"none", b"same-origin"):
            return 403, "requests from pages of other sites are rejected"
        if head.method not in (b"GET", b"HEAD") and head.field(WRITING_HEADER) is None:
            return 403, "the request needs the field X-Tunnelstack: 1"
        if self._token is not None and not self.hasToken(head) and not self._hasCookie(head):
            return 401, "the inspector needs its token, as ?token=... in the address, or as Authorization: Bearer"
        return None

    def hasToken(self, head: RequestHead) -> bool:
        """
        @return: whether a token is in the field Authorization, or in the query.
        """
        scheme, _, given = (head.field(b"authorization") or b"").partition(b" ")
        if scheme.lower() == b"bearer" and self._isToken(given.strip()):
            return True
        return self.tokenInQuery(head)

    def tokenInQuery(self, head: RequestHead) -> bool:
        """
        @return: whether the token is in the query of the page's address.
        """
        path, _, query = head.target.partition(b"?")
        if self._token is None or path != b"/":
            return False
        given = parse_qs(textOf(query), max_num_fields=16).get("token", [""])[0] if query.count(b"&") < 16 else ""
        return self._isToken(given.encode("utf-8", "replace"))

    def cookie(self) -> bytes:
        """
        @return: the value of C{Set-Cookie} for a browser that has shown the token.
        """
        return COOKIE + b"=" + self._cookieValue() + b"; Path=/; HttpOnly; SameSite=Strict"

    def _isToken(self, given: bytes) -> bool:
        token = "" if self._token is None else self._token()
        return bool(token) and hmac.compare_digest(given, token.encode())

    def _hasCookie(self, head: RequestHead) -> bool:
        wanted = self._cookieValue()
        for each in (head.field(b"cookie") or b"").split(b";"):
            name, _, value = each.strip().partition(b"=")
            if name == COOKIE and hmac.compare_digest(value, wanted):
                return True
        return False

    def _cookieValue(self) -> bytes:
        token = "" if self._token is None else self._token()
        return hmac.new(token.encode(), b"cookie of the inspector", sha256).hexdigest().encode()


def _isOwnHost(host: str) -> bool:
    """
    @param host: with or without a port.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
