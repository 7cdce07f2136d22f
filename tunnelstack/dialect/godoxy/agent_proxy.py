"""
Requests that an edge has forwarded by an agent: header fields name the web server, and the path comes after a prefix.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from attrs import evolve
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.dialect.godoxy.agent_destinations import Destinations
from tunnelstack.dialect.godoxy.agent_servers import ServerPools
from tunnelstack.errors import Denied
from tunnelstack.exchange.error_page import errorPageHead
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.forward import NULL_RECEIVER, forward
from tunnelstack.exchange.whole_message import textResponse
from tunnelstack.interfaces import (
    IExchangeReceiver,
    IExchangeServer,
    IReactor,
    IServerExchange,
    IWholeResponseReceiver,
)
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.http1.framing import without
from tunnelstack.wire.http1.head import Fields, RequestHead, ResponseHead, values
from tunnelstack.wire.http1.target import path_of, percent_encoded
from tunnelstack.wire.records.godoxy_api import PROXY_PATH, is_proxy_field
from tunnelstack.wire.records.godoxy_proxy import (
    BadProxyRequest,
    ProxiedServer,
    decode_proxied_server_untrusted,
)

PREFIX = PROXY_PATH.encode()
"""What precedes the path of the web server."""

HIDDEN = (b"server", b"x-powered-by")
"""Fields of responses that are not passed on."""

FORWARDED = b"x-forwarded-for"


def isForwarded(target: bytes) -> bool:
    """
    @return: whether a request is for a web server.  Its path is used as it is, also with two slashes.
    """
    return target.startswith(PREFIX) and target[len(PREFIX) : len(PREFIX) + 1] in (b"", b"/", b"?")


@implementer(IExchangeServer)
class ProxyServer:
    """
    Forwards requests to the web servers that they name.
    """

    log = Logger()

    def __init__(self, reactor: IReactor, destinations: Destinations) -> None:
        self.pools = ServerPools(reactor, destinations)

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        try:
            server = decode_proxied_server_untrusted(head.fields)
            pool = self.pools.poolFor(self._supported(server))
        except BadProxyRequest as bad:
            return self._refuse(exchange, 400, f"failed to parse agent proxy config: {bad}")
        except Denied as denied:
            return self._refuse(exchange, 403, denied.sentence)
        except ExchangeFailed as failed:
            return self._refuse(exchange, failed.status, failed.sentence)
        return forward(
            exchange, prepareRequest(head, exchange), lambda receiver: pool.exchange(_VisibleResponse(receiver)),
            pages=textPage, onFailure=partial(self._failed, exchange),
        )

    def _supported(self, server: ProxiedServer) -> ProxiedServer:
        """
        @raise ExchangeFailed: this agent cannot connect to the server as it is asked to.
        """
        if server.unsupported:
            keys = ", ".join(server.unsupported)
            raise ExchangeFailed(FailureKind.UNSUPPORTED, f"This agent does not support {keys} of X-Proxy-Config.", status=500)
        return server

    def _refuse(self, exchange: IServerExchange, status: int, sentence: str) -> IExchangeReceiver:
        self.log.warn(
            "{status} for a request from {peer}: {reason}", status=status, peer=addressText(exchange.peer), reason=sentence,
        )
        textResponse(status, sentence).send(exchange)
        return NULL_RECEIVER

    def _failed(self, exchange: IServerExchange, failed: ExchangeFailed) -> None:
        self.log.warn(
            "{status} for {method} {path}: {failed}", status=_status(failed), method=exchange.head.method.decode("latin-1"),
            path=percent_encoded(path_of(exchange.head.target)[len(PREFIX) :]).decode(), failed=failed,
        )


def prepareRequest(head: RequestHead, exchange: IServerExchange) -> RequestHead:
    """
    @return: the head for the web server: its own path, without the fields that named it, and with the edge in
        C{X-Forwarded-For}.
    """
    target = head.target[len(PREFIX) :]
    fields = [field for field in head.fields if not is_proxy_field(field[0])]
    before = values(fields, FORWARDED)
    peer = str(getattr(exchange.peer, "host", "")).encode()
    fields = without(fields, FORWARDED)
    if before or peer:
        fields.append((b"X-Forwarded-For", b", ".join([*before, *([peer] if peer else [])])))
    fields += _missing(fields, ((b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Host", exchange.host)))
    target = target if target.startswith(b"/") else b"/" + target
    return RequestHead(head.method, target, fields, head.version, head.framing)


def _missing(fields: Fields, given: Iterable[tuple[bytes, bytes]]) -> Fields:
    """
    @return: what an edge has not sent of itself.
    """
    there = {name.lower() for name, _ in fields}
    return [(name, value) for name, value in given if value and name.lower() not in there]


def textPage(failed: ExchangeFailed, trace: str) -> tuple[ResponseHead, bytes]:
    """
    An error as one line of text, as genuine agents send it.
    """
    body = failed.sentence.encode() + b"\n"
    head = errorPageHead(failed, trace, b"text/plain; charset=utf-8", len(body))
    return evolve(head, status=_status(failed), reason=b"Bad Gateway" if _status(failed) == 502 else head.reason), body


def _status(failed: ExchangeFailed) -> int:
    return 502 if failed.kind is FailureKind.UNREACHABLE else failed.status


@implementer(IWholeResponseReceiver)
class _VisibleResponse:
    """
    Removes the fields of a response that are not passed on.
    """

    def __init__(self, receiver: IExchangeReceiver) -> None:
        self._receiver = receiver
        self.informational = receiver.informational
        self.bodyReceived = receiver.bodyReceived
        self.ended = receiver.ended
        self.failed = receiver.failed

    def headReceived(self, head: ResponseHead) -> None:
        self._receiver.headReceived(_visible(head))

    def responseReceived(self, head: ResponseHead, octets: bytes) -> None:
        receiver = IWholeResponseReceiver(self._receiver)
        receiver.responseReceived(_visible(head), octets)


def _visible(head: ResponseHead) -> ResponseHead:
    fields = without(head.fields, *HIDDEN)
    return ResponseHead(head.status, head.reason, fields, head.version, head.framing)
