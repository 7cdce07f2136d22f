"""
The socket of Docker or Podman, as far as edges may use it.

A genuine agent gives the whole socket, and by it the machine, to every holder of a certificate.  Here it has to be granted, and
C{GET} is the only method unless others are granted, too.  An upgrade controls a container whatever its method is, so it needs
C{POST}.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.godoxy.agent_proxy import textPage
from tunnelstack.exchange.errors import ExchangeFailed
from tunnelstack.exchange.forward import NULL_RECEIVER, forward
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.whole_message import textResponse
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IReactor, IServerExchange
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.http1.framing import without
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.target import path_of, percent_encoded


@implementer(IExchangeServer)
class DockerServer:
    """
    Forwards requests to the socket.
    """

    log = Logger()

    def __init__(self, reactor: IReactor, path: str, methods: Iterable[str]) -> None:
        self._methods = frozenset(method.encode() for method in methods)
        self.pool = ExchangePool(UNIXClientEndpoint(reactor, path), clock=reactor, explain=_explain)

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        upgrade = bool(exchange.framing.upgrade)
        if head.method not in self._methods or (upgrade and b"POST" not in self._methods):
            what = "an upgrade" if upgrade else head.method.decode("latin-1")
            self.log.warn(
                "403 for a request from {peer} to the socket of containers: {method} {path}: {what} is not granted",
                peer=addressText(exchange.peer), method=head.method.decode("latin-1"), what=what,
                path=percent_encoded(path_of(head.target)).decode(),
            )
            textResponse(403, f"This agent does not accept {what} for its containers.").send(exchange)
            return NULL_RECEIVER
        fields = [(b"Host", b"docker"), *without(head.fields, b"host")]
        request = RequestHead(head.method, head.target, fields, head.version, head.framing)
        return forward(exchange, request, self.pool.exchange, pages=textPage, onFailure=self._failed)

    def _failed(self, failed: ExchangeFailed) -> None:
        self.log.warn("a request to the socket of containers failed: {failed}", failed=failed)


def _explain(failure: Failure) -> str:
    return "The socket of containers does not answer."
