"""
Who may read the administration of an edge, and who may change something.

Browsers are the danger: a page of another site can send requests to an address that only the operator's machine can reach, or
that an operator has forwarded from a Unix socket.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from ipaddress import ip_address

from tunnelstack.pages.access import (
    NO_WRITING_HEADER,
    OTHER_SITE,
    WRITING_HEADER,
    PageToken,
    Refused,
    hostField,
    hostName,
    isOfOtherSite,
    isOtherOrigin,
)
from tunnelstack.wire.http1.head import RequestHead

COOKIE = "tunnelstack-dashboard"

MONITORED = (b"/health", b"/ready", b"/metrics")
"""Resources for monitors, which use any host; they say nothing about agents, unless C{per_service} of C{[metrics]} is set."""

OTHER_HOST: Refused = (
    421, "the host must be an address, localhost, a name without dots, or one of hosts in [admin]; or send the token"
)
READ_ONLY: Refused = (403, "this address is read-only; use the Unix socket, or set token_file in [admin]")
NO_TOKEN: Refused = (403, "this address is read-only without the token of [admin], as Authorization: Bearer")


class AdminAccess:
    """
    Decides on each request of one listener.

    @ivar token: lets its bearer change something; C{None} if there is none.
    @ivar writable: whether everybody who can connect may change something.
    """

    def __init__(self, token: Callable[[], str] | None = None, hosts: Collection[str] = (), *, writable: bool = False) -> None:
        """
        @param hosts: names with dots under which the listener is asked, in lower case.
        """
        self.token = None if token is None else PageToken(token, COOKIE)
        self.writable = writable
        self._hosts = hosts

    def mayChange(self, head: RequestHead) -> bool:
        """
        @return: whether a request may change something.
        """
        return self.writable or (self.token is not None and self.token.isShown(head))

    def refusal(self, head: RequestHead) -> Refused | None:
        """
        @return: why a request is refused; C{None} if it is allowed.
        """
        path = head.target.partition(b"?")[0]
        if path not in MONITORED and not self._isOwnHost(hostName(hostField(head))) and not self._hasToken(head):
            return OTHER_HOST
        return OTHER_SITE if isOtherOrigin(head) or (path != b"/" and isOfOtherSite(head)) else None

    def refusalToChange(self, head: RequestHead) -> Refused | None:
        """
        @return: why a request may not change anything; C{None} if it may.
        """
        if not self.mayChange(head):
            return READ_ONLY if self.token is None else NO_TOKEN
        byCookie = self.token is not None and not (self.writable or self.token.inField(head))
        return NO_WRITING_HEADER if byCookie and head.field(WRITING_HEADER) is None else None

    def _hasToken(self, head: RequestHead) -> bool:
        return self.token is not None and self.token.isShown(head)

    def _isOwnHost(self, name: str) -> bool:
        """
        @return: whether no other site can have this name.
        """
        if "." not in name and ":" not in name:
            return True
        try:
            ip_address(name)
        except ValueError:
            return name.rstrip(".") in self._hosts
        return True
