"""
The page at the apex of a development edge, C{http://localhost:8080/}: the services that are up, with links.

It is for browsers and programs on the same machine.  Its host is compared, so that a page of another site cannot read it under
a name that leads to loopback; and a request that a proxy has forwarded, such as another tunnel, does not get it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from tunnelstack.edge.public.routes import normalizedHost
from tunnelstack.exchange.forward import NULL_RECEIVER
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.wire.addresses import read_address
from tunnelstack.wire.http1 import cdn_loop
from tunnelstack.wire.http1.forwarded import FORWARDING_NAMES
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.target import path_of

if TYPE_CHECKING:
    from tunnelstack.edge.running_edge import RunningEdge

LOOPBACK_HOSTS = ("127.0.0.1", "::1")

FORWARDED = FORWARDING_NAMES | {cdn_loop.NAME.lower()}
"""Fields of a request that a proxy has forwarded."""


@implementer(IExchangeServer)
class ServiceIndex:
    """
    Serves the page of one edge.
    """

    def __init__(self, edge: RunningEdge) -> None:
        self._edge = edge

    def serves(self, head: RequestHead, host: bytes, peer: str) -> bool:
        """
        As of L{IndexPage<tunnelstack.edge.public.site.IndexPage>}.
        """
        address = read_address(peer)
        return (
            path_of(head.target) == b"/"
            and normalizedHost(host) in (self._edge.config.domain.lower(), *LOOPBACK_HOSTS)
            and address is not None and address.is_loopback
            and not any(name.lower() in FORWARDED for name, _ in head.fields)
        )

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        from tunnelstack.edge.service_page import respondWithServices  # see L{tunnelstack.edge.deferred}

        respondWithServices(self._edge, head, exchange)
        return NULL_RECEIVER
