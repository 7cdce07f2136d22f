"""
TLS over an endpoint.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import ConnectionDone, ConnectionLost, NoProtocol, TimeoutError
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
from tunnelstack.transport.tls import Handshaking, clientContext


class HandshakeLost(Unavailable):
    """
    The server closed the connection during the TLS handshake.
    """


@implementer(IStreamClientEndpoint)
class SecureEndpoint:
    """
    TLS over an endpoint, with a server whose certificate is verified.

    The protocol is built, and C{connect} fires, once the handshake is complete: nothing of the protocol is sent on a connection
    that did not verify.  C{connect} fails with L{CertificateRejected<tunnelstack.transport.verification.CertificateRejected>},
    L{HandshakeLost}, another error of OpenSSL, C{TimeoutError}, or as the endpoint below does.
    """

    def __init__(
        self,
        clock: IReactorTime,
        host: str,
        below: IStreamClientEndpoint,
        context: IOpenSSLClientConnectionCreator | None = None,
        timeout: float = 30.0,
    ) -> None:
        """
        @param host: what the server's certificate must be for, unless C{context} is given.
        @param context: from L{clientContext}; unless given, that for C{host} and the system's roots.
        @param timeout: seconds for the handshake.
        """
        self._clock = clock
        self._host = host
        self._below = below
        self._context = context
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        attempt = _Attempt(protocolFactory, self._clock, self._timeout)
        context = self._context or clientContext(self._host)
        attempt.connecting = wrapClientTLS(context, self._below, self._clock).connect(attempt)
        attempt.connecting.addErrback(attempt.failed)
        return attempt.outcome


class _Attempt(Factory):
    """
    One attempt to connect, until its handshake is over.
    """

    noisy = False

    def __init__(self, application: IProtocolFactory, clock: IReactorTime, timeout: float) -> None:
        self.application = application
        self.connecting: Deferred[IProtocol]
        self.outcome: Deferred[IProtocol] = Deferred(self._cancelled)
        self._clock = clock
        self._timeout = timeout
        self._handshaking: _ClientHandshaking | None = None

    def doStart(self) -> None:
        self.application.doStart()

    def doStop(self) -> None:
        self.application.doStop()

    def buildProtocol(self, address: IAddress | None) -> _ClientHandshaking:
        self._handshaking = _ClientHandshaking(self, address, self._clock, self._timeout)
        return self._handshaking

    def failed(self, failure: Failure) -> None:
        """
        The connection or its handshake failed.
        """
        if not self.outcome.called:
            self.outcome.errback(failure)

    def _cancelled(self, outcome: Deferred[IProtocol]) -> None:
        if self._handshaking is None:
            self.connecting.cancel()
        elif self._handshaking.transport is not None:
            self._handshaking.transport.abortConnection()


class _ClientHandshaking(Handshaking):
    """
    The client's side of a handshake.
    """

    def __init__(self, attempt: _Attempt, address: IAddress | None, clock: IReactorTime, timeout: float) -> None:
        super().__init__(clock, timeout)
        self._attempt = attempt
        self._address = address

    def build(self) -> IProtocol | None:
        if self._attempt.outcome.called:       # cancelled
            return None
        try:
            protocol = self._attempt.application.buildProtocol(cast(IAddress, self._address))
        except Exception:
            self._attempt.failed(Failure())
            return None
        if protocol is None:
            self._attempt.failed(Failure(NoProtocol()))
        return protocol

    def started(self, protocol: IProtocol) -> None:
        self._attempt.outcome.callback(protocol)

    def late(self) -> None:
        self._attempt.failed(Failure(TimeoutError(string=f"no TLS after {self.timeout:g} seconds")))

    def lost(self, reason: Failure) -> None:
        if reason.check(ConnectionDone, ConnectionLost):
            reason = Failure(HandshakeLost("the server closed the connection during the TLS handshake"))
        self._attempt.failed(reason)
