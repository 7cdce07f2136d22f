"""
Why an exchange failed, and what the visitor is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from tunnelstack.errors import TunnelError, Unavailable
from tunnelstack.wire.http1.head import BadMessage, HeadTooLarge


class FailureKind(Enum):
    """
    Why an exchange failed.  The value is the status of the response, and the sentence of its page if there is no better one.
    """

    UNKNOWN = (404, "There is no such site here.")
    ABSENT = (503, "The agent of this site is not connected.")
    BUSY = (503, "This site accepts no more requests at the moment.")
    UNREACHABLE = (503, "The web server of this site does not answer.")
    STOPPED = (503, "This server is stopping.")
    BROKEN = (502, "The connection to the web server broke.")
    INVALID_RESPONSE = (502, "The response of the web server is not valid HTTP.")
    RESPONSE_TOO_LARGE = (502, "The head of the web server's response is too large.")
    GATEWAY_TIMEOUT = (504, "The web server took too long to answer.")
    UNAUTHORIZED = (401, "Authentication required.")
    FORBIDDEN = (403, "Access from your address is not allowed.")
    RATE_LIMITED = (429, "There are too many requests for this site; try again in a moment.")
    LOOP = (508, "The request was forwarded in a loop.")
    UNSUPPORTED = (501, "This site cannot carry such a request.")
    TOO_LARGE = (413, "The request is too large for this site.")
    MALFORMED = (400, "The request is malformed.")
    REQUEST_TIMEOUT = (408, "The request did not arrive in time.")
    CLIENT_CLOSED = (499, "The visitor closed the connection.")          # only logged

    @property
    def status(self) -> int:
        """
        The status of the response.
        """
        return self.value[0]

    @property
    def sentence(self) -> str:
        """
        The sentence of the page if there is no better one.
        """
        return self.value[1]


class ExchangeFailed(TunnelError):
    """
    The exchange has ended without a whole response.

    @ivar status: the status of the response, if none was begun.
    @ivar sentence: the sentence of the error page.
    @ivar retryAfter: seconds after which the visitor may try again; C{0} if that is not known.
    @ivar fields: further header fields of the response.
    """

    def __init__(
        self, kind: FailureKind, sentence: str = "", *, status: int = 0, retryAfter: int = 0,
        fields: Sequence[tuple[bytes, bytes]] = (), **details: object,
    ) -> None:
        self.kind = kind
        self.status = status or kind.status
        self.sentence = sentence or kind.sentence
        self.fields = fields
        self.retryAfter = retryAfter or (5 if self.status == 503 else 0)
        super().__init__(self.sentence, **details)


def unreadableResponse(bad: BadMessage) -> ExchangeFailed:
    """
    Why a response cannot be passed on, with the setting if that is the cause.
    """
    if isinstance(bad, HeadTooLarge):
        sentence = (
            f"The head of the web server's response has more than {bad.limit} {bad.what}; "
            f"see response_head_{bad.what} in [limits] of the agent, and of the edge."
        )
        return ExchangeFailed(FailureKind.RESPONSE_TOO_LARGE, sentence, limit=bad.limit)
    return ExchangeFailed(FailureKind.INVALID_RESPONSE, problem=str(bad))


class Busy(ExchangeFailed, Unavailable):
    """
    No further exchange can be begun at the moment.
    """

    def __init__(self, sentence: str = "") -> None:
        super().__init__(FailureKind.BUSY, sentence, retryAfter=1)
