"""
Cookies, by which a server verifies that a peer receives what is sent to its address, without keeping anything for it.

Source: RFC 6347, section 4.2.1.
"""

from __future__ import annotations

import hmac
import secrets

from attrs import frozen

COOKIE_OCTETS = 20
"""As long as peers that keep a copy of their own expect; RFC 6347 allows 255."""

SECRET_SECONDS = 300.0
"""How long a secret is used.  The one before it is still accepted, so a cookie lives for at least as long."""

CookieAddress = tuple[str, int]
"""Host and port, as a UDP port of Twisted gives them."""


class CookieSecrets:
    """
    The secret of a server, and the one before it.
    """

    def __init__(self, now: float) -> None:
        self._secrets = [secrets.token_bytes(32)]
        self._since = now

    def rotate(self, now: float) -> None:
        """
        Make a new secret if the present one is old enough.

        @param now: in seconds, of a clock that never goes back.
        """
        if now - self._since >= SECRET_SECONDS:
            self._secrets = [secrets.token_bytes(32), self._secrets[0]]
            self._since = now

    def make(self, address: CookieAddress) -> bytes:
        """
        The cookie for a peer.
        """
        return self._cookie(self._secrets[0], address)

    def verify(self, address: CookieAddress, cookie: bytes) -> bool:
        """
        Whether a cookie was made for the peer.
        """
        return any(hmac.compare_digest(self._cookie(secret, address), cookie) for secret in self._secrets)

    def _cookie(self, secret: bytes, address: CookieAddress) -> bytes:
        host, port = address
        return hmac.digest(secret, f"{host} {port}".encode(), "sha256")[:COOKIE_OCTETS]


@frozen
class PeerCookies:
    """
    The cookies of one peer, which its connection carries until it has been accepted.
    """

    secrets: CookieSecrets
    address: CookieAddress

    def make(self) -> bytes:
        return self.secrets.make(self.address)

    def verify(self, cookie: bytes) -> bool:
        return self.secrets.verify(self.address, cookie)
