"""
Who may use the inspector.  Off loopback, a token is needed.
"""

from __future__ import annotations

from tunnelstack.pages.access import (
    NO_WRITING_HEADER,
    OTHER_SITE,
    WRITING_HEADER,
    PageToken,
    Refused,
    hostField,
    isLoopbackHost,
    isOfOtherSite,
    isOtherOrigin,
)
from tunnelstack.wire.http1.head import RequestHead

COOKIE = "tunnelstack-inspector"

OTHER_HOST: Refused = (421, "the host of the inspector is localhost, or an address of loopback")
NO_TOKEN: Refused = (401, "the inspector needs its token, as ?token=... in the address, or as Authorization: Bearer")


class Access:
    """
    Decides on each request.

    @ivar token: C{None} if none is needed, which is for loopback only.
    """

    def __init__(self, token: PageToken | None) -> None:
        self.token = token

    def refusal(self, head: RequestHead) -> Refused | None:
        """
        @return: why a request is refused; C{None} if it is allowed.
        """
        if self.token is None and not isLoopbackHost(hostField(head)):
            return OTHER_HOST
        if isOtherOrigin(head) or (head.target.startswith(b"/api/") and isOfOtherSite(head)):
            return OTHER_SITE
        if head.method not in (b"GET", b"HEAD") and head.field(WRITING_HEADER) is None:
            return NO_WRITING_HEADER
        return None if self.token is None or self.token.isShown(head) else NO_TOKEN
