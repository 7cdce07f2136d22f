"""
Why something failed or ended, as text for people: the one function for reasons in logs and messages.

The sentences of Twisted and OpenSSL do not fit into ours: Twisted calls every end that it did not initiate "non-clean", and the
texts of OpenSSL are those of its source.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from OpenSSL.SSL import Error, SysCallError
from twisted.internet import error as twisted
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

TIMEOUT = "there was no answer in time"

CONNECTION_TEXTS: Mapping[type[BaseException], str] = {
    twisted.ConnectionDone: "the connection was closed",
    twisted.ConnectionLost: "the connection was lost",
    twisted.ConnectionAborted: "the connection was aborted",
    twisted.ConnectionClosed: "the connection was closed",
    twisted.ConnectionFdescWentAway: "the connection was lost",
    twisted.FileDescriptorOverrun: "the connection was lost",
    twisted.ConnectionRefusedError: "the connection was refused",
    twisted.NoRouteError: "there is no route to the host",
    twisted.DNSLookupError: "the host name cannot be resolved",
    twisted.UnknownHostError: "the host name cannot be resolved",
    twisted.TimeoutError: TIMEOUT,
    twisted.TCPTimedOutError: TIMEOUT,
    DeferredTimeout: TIMEOUT,
    TimeoutError: TIMEOUT,
    CancelledError: "it was cancelled",
}
"""For errors of Twisted that add nothing to their class.  Our subclasses have sentences of their own."""

OWN_DETAILS = (*CONNECTION_DONE.args, *CONNECTION_LOST.args)

EOF = "unexpected eof while reading"

TLS_TEXTS = {
    "wrong version number": "the peer does not use TLS",
    "record layer failure": "the peer does not use TLS",
    EOF: "the peer closed the connection without ending TLS",
}
"""For what OpenSSL reports."""


def errorText(error: BaseException | Failure | None) -> str:
    """
    @param error: why something failed, or why a connection ended; the C{value} of a C{Failure} is C{None} for its type only.
    @return: the reason, without a capital letter and a full stop.
    """
    if isinstance(error, Failure):
        error = error.value
    error = ConnectionError() if error is None else error
    known = CONNECTION_TEXTS.get(type(error))
    if known is not None:
        detail = detailText(error)
        return f"{known}: {detail}" if detail and isinstance(error, twisted.ConnectionClosed) else detail or known
    if isinstance(error, twisted.ConnectError) and type(error).__module__ == twisted.__name__:
        return f"it cannot be reached: {error.args[0]}" if error.args and error.args[0] else "it cannot be reached"
    if isinstance(error, SysCallError) and error.args and isinstance(error.args[0], int):
        return os.strerror(error.args[0]) if error.args[0] > 0 else TLS_TEXTS[EOF]
    worded = type(error).__str__ is not Error.__str__         # as C{CertificateRejected} is, which few processes need to load
    if isinstance(error, Error) and not worded and error.args and error.args[0]:
        return "; ".join(TLS_TEXTS.get(str(reason[-1]), str(reason[-1])) for reason in error.args[0])
    return str(error) or type(error).__name__


def detailText(error: BaseException) -> str:
    """
    @param error: of a class in L{CONNECTION_TEXTS}.
    @return: what it adds to its class; C{""} if nothing, or only what Twisted or the system says in other words.
    """
    detail = error.args[0] if error.args else ""
    if isinstance(error, (DeferredTimeout, TimeoutError)) and isinstance(detail, (int, float)):
        return f"there was no answer within {detail:g} seconds"
    worded = isinstance(error, (twisted.ConnectionClosed, twisted.TimeoutError, DeferredTimeout, TimeoutError))
    system = getattr(error, "osError", None) is not None or detail in OWN_DETAILS
    return str(detail) if worded and not system else ""
