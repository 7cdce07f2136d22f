"""
How a visitor is recognized on a route with passwords that leaves the field C{Authorization} to the application: after it has
authenticated by name and password, by a cookie of the edge.

A cookie belongs to one route, one user and one password, and is good for L{LIFETIME}.  Its key is derived from the hash of the
password, so it ends when the password is changed or the user removed; and from a secret of this process, so the file of
passwords is not enough to make one, and it ends with the process.  Whoever has no good cookie is asked for the password again.

Source: RFC 6265bis (C{HttpOnly}, C{SameSite}).
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping
from secrets import token_bytes

from attrs import evolve, frozen
from zope.interface import implementer

from tunnelstack.exchange.errors import ExchangeFailed
from tunnelstack.exchange.opened import reportOpened
from tunnelstack.interfaces import IWholeResponseReceiver
from tunnelstack.settings.password_hash import PasswordEntry
from tunnelstack.settings.record import Record
from tunnelstack.wire.http1.head import Fields, ResponseHead, values

NAME = b"tunnelstack-visitor"

CREDENTIALS = b"tunnel-authorization"
"""The field by which a program without cookies sends name and password, in the form of C{Authorization}."""

CREDENTIAL_NAMES = (CREDENTIALS, CREDENTIALS.replace(b"-", b"_"))
"""The field, and its twin, which many programs cannot distinguish from it."""

LIFETIME = 24 * 3600.0
"""Seconds for which a cookie is good.  A browser gets another one with a page that it loads in the second half."""

MAX_COOKIES = 8
"""Cookies of this name that are read: one for each route on the host and path."""

MAX_VALUE = 1024
"""Octets of the longest value that is read."""

SECRET = token_bytes(32)
"""Of this process.  It outlives a reload of the configuration."""


@frozen(eq=False, repr=False)
class VisitorCookie(Record):
    """
    A good cookie.

    @ivar user: who has authenticated.
    @ivar expires: in seconds of the clock.
    """

    user: str
    expires: float

    def isFresh(self, now: float) -> bool:
        """
        @return: whether it need not be replaced yet.
        """
        return self.expires - now > LIFETIME / 2


class VisitorCookies:
    """
    The cookies of one route.
    """

    def __init__(self, users: Mapping[str, PasswordEntry], host: str, path: str, seconds: Callable[[], float]) -> None:
        """
        @param seconds: gives the time.
        """
        self._users = users
        self._route = b"%b%b" % (host.encode(), path.encode())
        self._path = "/" if ";" in path or "," in path else path
        self._seconds = seconds

    def make(self, user: str, secure: bool) -> bytes:
        """
        @param secure: the visitor uses TLS.
        @return: the value of C{Set-Cookie} for a user that has authenticated.
        """
        expires = int(self._seconds() + LIFETIME)
        name = urlsafe_b64encode(user.encode()).decode()
        value = f"{expires}.{name}.{self._code(self._users[user], expires)}"
        return f"{NAME.decode()}={value}; Path={self._path}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}".encode()

    def find(self, fields: Fields) -> VisitorCookie | None:
        """
        @return: the first good cookie of a request.
        """
        found = [value for name, value in _cookies(fields) if name == NAME and len(value) <= MAX_VALUE]
        return next(filter(None, map(self._read, found[:MAX_COOKIES])), None)

    def _read(self, value: bytes) -> VisitorCookie | None:
        try:
            expires, name, code = value.decode("ascii").split(".")
            user = urlsafe_b64decode(name).decode()
        except (ValueError, NotBase64):
            return None
        entry = self._users.get(user)
        if entry is None or not (expires.isdecimal() and len(expires) < 16 and int(expires) > self._seconds()):
            return None
        return VisitorCookie(user, int(expires)) if hmac.compare_digest(code, self._code(entry, int(expires))) else None

    def _code(self, entry: PasswordEntry, expires: int) -> str:
        """
        @return: the proof that this process has made a cookie.
        """
        key = hmac.digest(SECRET, b"%b%b" % (entry.salt, entry.digest), "sha256")
        return hmac.digest(key, b"%d %b %b" % (expires, entry.user.encode(), self._route), "sha256").hex()


def withoutCookies(fields: Fields) -> Fields:
    """
    @return: the fields of a request without cookies of this name, which are for the edge alone.
    """
    if not any(NAME in value for value in values(fields, b"cookie")):
        return fields
    kept: Fields = []
    for name, value in fields:
        if name.lower() == b"cookie" and NAME in value:
            value = b"; ".join(pair for pair in map(bytes.strip, value.split(b";")) if pair.partition(b"=")[0].strip() != NAME)
            if not value:
                continue
        kept.append((name, value))
    return kept


def _cookies(fields: Fields) -> list[tuple[bytes, bytes]]:
    pairs = [pair.partition(b"=") for line in values(fields, b"cookie") for pair in line.split(b";")]
    return [(name.strip(), value.strip()) for name, _, value in pairs]


@implementer(IWholeResponseReceiver)
class CookieSetter:
    """
    Adds a cookie to the head of a response.
    """

    __slots__ = ("_cookie", "_receiver", "bodyReceived", "ended", "informational")

    def __init__(self, receiver: IWholeResponseReceiver, cookie: bytes) -> None:
        """
        @param receiver: receives the response with the cookie.
        @param cookie: the value of C{Set-Cookie}.
        """
        self._receiver = receiver
        self._cookie = cookie
        self.informational = receiver.informational
        self.bodyReceived = receiver.bodyReceived
        self.ended = receiver.ended

    def _withCookie(self, head: ResponseHead) -> ResponseHead:
        return evolve(head, fields=[*head.fields, (b"Set-Cookie", self._cookie)])

    def headReceived(self, head: ResponseHead) -> None:
        self._receiver.headReceived(self._withCookie(head))

    def responseReceived(self, head: ResponseHead, octets: bytes) -> None:
        self._receiver.responseReceived(self._withCookie(head), octets)

    def failed(self, reason: ExchangeFailed) -> None:
        self._receiver.failed(reason)

    def connectionOpened(self) -> None:
        reportOpened(self._receiver)
