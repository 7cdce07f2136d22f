"""
Requests as an agent forwards them: below the path of its API, with fields that name the web server.
"""

from __future__ import annotations

from tunnelstack.dialect.godoxy.edge_settings import ServiceSettings, parseHTTPTarget
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.target import path_of, readings
from tunnelstack.wire.records.godoxy_api import PROXY_PATH, ProxyTarget, Version, is_proxy_field, proxy_fields

PREFIX = PROXY_PATH.encode()

NO_PATH = "The agent of this site takes requests with a path only."
ELSEWHERE = "The path of the request leads out of this site."


def proxyTarget(service: ServiceSettings) -> ProxyTarget:
    """
    @param service: of kind C{http}.
    @return: what the agent is told of it.
    """
    scheme, host = parseHTTPTarget(service.target)
    return ProxyTarget(
        scheme=scheme, host=host, insecure=service.insecure, server_name=service.serverName,
        response_seconds=service.responseSeconds,
    )


def proxyHead(head: RequestHead, target: ProxyTarget, version: Version) -> RequestHead:
    """
    @param head: of a visitor's request.  Fields in it that would name another web server are left out.
    @param version: of the agent.
    @return: the head of the request to the agent.
    @raise ExchangeFailed: the target has no path, or one that an agent could read as another part of its API.
    """
    if not head.target.startswith(b"/"):
        raise ExchangeFailed(FailureKind.UNSUPPORTED, NO_PATH)
    path = PREFIX + path_of(head.target)
    found = readings(path)
    if found is None or not all(each.startswith(PREFIX + b"/") for each in found):
        raise ExchangeFailed(FailureKind.MALFORMED, ELSEWHERE)
    fields = [field for field in head.fields if not is_proxy_field(field[0])]
    fields += proxy_fields(target, version)
    return RequestHead(head.method, PREFIX + head.target, fields, head.version, head.framing)
