"""
TLS over an endpoint.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import Unavailable
from tunnelstack.transport.tls import HandshakeProtocol, clientContext, tlsFactory
from tunnelstack.wire.printable_text import quoted


class HandshakeLost(Unavailable):
    """
    The server closed the connection during the TLS handshake.
    """


class ProtocolNotSelected(Unavailable):
    """
    The server has selected another protocol by ALPN than the one that is needed, or none.
    """


@implementer(IStreamClientEndpoint)
class SecureEndpoint:
    """
    TLS over an endpoint, with a server whose certificate is verified.

    The protocol is built, and C{connect} fires, once the handshake is complete: nothing of the protocol is sent on a connection
    that did not verify.  C{connect} fails with L{CertificateRejected<tunnelstack.transport.verification.CertificateRejected>},
    L{HandshakeLost}, L{ProtocolNotSelected}, another error of OpenSSL, C{TimeoutError}, or as the endpoint below does.
    """

    def __init__(
        self,
        clock: IReactorTime,
        host: str,
        below: IStreamClientEndpoint,
        context: IOpenSSLClientConnectionCreator | None = None,
        timeout: float = 30.0,
        alpn: bytes | None = None,
        halfClose: bool = False,
    ) -> None:
        """
        @param host: what the server's certificate must be for, unless C{context} is given.
        @param context: from L{clientContext}; unless given, that for C{host} and the system's roots.
        @param timeout: seconds for the handshake.
        @param alpn: the protocol that the server must have selected; C{None} accepts any, and none.
        @param halfClose: let one direction end before the other, see
            L{HalfCloseTLS<tunnelstack.transport.half_close_tls.HalfCloseTLS>}.
        """
        self._clock = clock
        self._halfClose = halfClose
        self._host = host
        self._below = below
        self._context = context
        self._timeout = timeout
        self._alpn = alpn

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        attempt = _Attempt(protocolFactory, self._clock, self._timeout, self._alpn)
        context = self._context or clientContext(self._host)
        attempt.connecting = self._below.connect(tlsFactory(context, True, attempt, self._clock, self._halfClose))
        attempt.connecting.addErrback(attempt.failed)
        return attempt.outcome


class _Attempt(Factory):
    """
    One attempt to connect, until its handshake is over.
    """

    noisy = False

    def __init__(
        self, application: IProtocolFactory, clock: IReactorTime, timeout: float, alpn: bytes | None = None
    ) -> None:
        self.application = application
        self.connecting: Deferred[IProtocol]
        self.outcome: Deferred[IProtocol] = Deferred(self._cancelled)
        self._clock = clock
        self._timeout = timeout
        self._alpn = alpn
        self._handshake: HandshakeProtocol | None = None

    def doStart(self) -> None:
        self.application.doStart()

    def doStop(self) -> None:
        self.application.doStop()

    def buildProtocol(self, address: IAddress | None) -> HandshakeProtocol:
        self._handshake = HandshakeProtocol(
            self._clock, self._timeout, lambda connection: self._build(address, connection.negotiatedProtocol), self._ended
        )
        return self._handshake

    def _build(self, address: IAddress | None, selected: bytes | None) -> IProtocol | None:
        if self.outcome.called:                # cancelled
            return None
        if self._alpn is not None and selected != self._alpn:
            what = "no protocol" if not selected else quoted(selected)
            self.failed(Failure(ProtocolNotSelected(f"the server has selected {what} instead of {quoted(self._alpn)} by ALPN")))
            return None
        try:
            protocol = self.application.buildProtocol(cast(IAddress, address))
        except Exception:
            self.failed(Failure())
            return None
        if protocol is None:
            self.failed(Failure(NoProtocol()))
        return protocol

    def _ended(self, outcome: IProtocol | Failure) -> None:
        if not isinstance(outcome, Failure):
            self.outcome.callback(outcome)
        elif outcome.check(ConnectionDone, ConnectionLost):
            self.failed(Failure(HandshakeLost("the server closed the connection during the TLS handshake")))
        else:
            self.failed(outcome)

    def failed(self, failure: Failure) -> None:
        """
        The connection or its handshake failed.
        """
        if not self.outcome.called:
            self.outcome.errback(failure)

    def _cancelled(self, outcome: Deferred[IProtocol]) -> None:
        if self._handshake is None:
            self.connecting.cancel()
        elif self._handshake.transport is not None:
            self._handshake.transport.abortConnection()
