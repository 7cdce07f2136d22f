"""
What a GoDoxy agent reads of a request to its HTTPS API: the web server to which it is forwarded, and the address whose health
is examined.

The main program names a web server in header fields, by one of two sets.  Newer ones send C{X-Proxy-Scheme}, C{X-Proxy-Host}
and C{X-Proxy-Config}, which is a JSON object in Base64; older ones C{X-Proxy-Host}, C{X-Proxy-Https},
C{X-Proxy-Skip-Tls-Verify} and C{X-Proxy-Response-Header-Timeout}.

Source: godoxy C{agent/pkg/agentproxy/config.go} and C{agent/pkg/handler/check_health.go}, v0.31.0.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from typing import Any
from urllib.parse import parse_qs

from attrs import frozen

from tunnelstack.errors import PeerError
from tunnelstack.wire.go_json import encode_string
from tunnelstack.wire.http1.head import Fields, first
from tunnelstack.wire.jsonline import decode_object
from tunnelstack.wire.records.godoxy_api import LARGEST_INTEGER, NANOSECOND, SCHEMES

DEFAULT_PORTS = {"http": 80, "https": 443, "h2c": 80}

SCHEME, HOST, CONFIG = b"x-proxy-scheme", b"x-proxy-host", b"x-proxy-config"
HTTPS, SKIP_VERIFY, TIMEOUT = b"x-proxy-https", b"x-proxy-skip-tls-verify", b"x-proxy-response-header-timeout"

RESPONSE_SECONDS = 60.0
"""Seconds for the head of a response, unless the request has another number."""

LONGEST_RESPONSE_SECONDS = 86_400.0

HEALTH_SECONDS = 5.0
"""Seconds of an examination, unless the request has another number."""

LONGEST_HEALTH_SECONDS = 60.0

CONFIG_OCTETS = 16 * 1024
"""Octets of the longest C{X-Proxy-Config}."""

TRUE = frozenset((b"1", b"t", b"T", b"TRUE", b"true", b"True"))
"""What Go reads as true."""

_AUTHORITY = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%a-z]+)\]|(?P<host>[0-9A-Za-z._-]+))(?::(?P<port>[0-9]{1,5}))?")


class BadProxyRequest(PeerError):
    """
    The fields that name a web server cannot be read.
    """


@frozen(kw_only=True)
class ProxiedServer:
    """
    A web server that requests are forwarded to.

    @ivar scheme: one of L{SCHEMES}.
    @ivar host: without a port, and without brackets.
    @ivar insecure: its certificate is not verified.
    @ivar server_name: what its certificate must be for, and what SNI sends.
    @ivar response_seconds: for the head of the response.
    @ivar connections: how many may be open; 0 is no limit.
    @ivar unsupported: keys of the configuration that no agent of ours can comply with.
    """

    scheme: str
    host: str
    port: int
    insecure: bool = False
    server_name: str = ""
    response_seconds: float = RESPONSE_SECONDS
    connections: int = 0
    unsupported: tuple[str, ...] = ()


def read_authority(text: str, default_port: int) -> tuple[str, int]:
    """
    @param text: C{host}, C{host:port} or C{[address]:port}.
    @param default_port: 0 if there must be a port.
    @raise BadProxyRequest: it is none of these.
    """
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise BadProxyRequest("the host is malformed" if text else "missing host")
    port = default_port if found["port"] is None else int(found["port"])
    if not 0 < port < 65_536:
        raise BadProxyRequest("no port specified" if port == 0 else "the port is out of range")
    return found["six"] or found["host"], port


def decode_proxied_server_untrusted(fields: Fields) -> ProxiedServer:
    """
    @param fields: of a request's head.
    @raise BadProxyRequest: they are malformed.
    """
    if first(fields, SCHEME) is None and first(fields, CONFIG) is None:
        return _older(fields)
    scheme = _text(fields, SCHEME)
    if scheme not in SCHEMES:
        raise BadProxyRequest(f"invalid scheme; it is one of {', '.join(SCHEMES)}")
    host, port = read_authority(_text(fields, HOST), DEFAULT_PORTS[scheme])
    config = _config(_text(fields, CONFIG))
    name = config.get("ssl_server_name", "")
    return ProxiedServer(
        scheme=scheme, host=host, port=port, insecure=_boolean(config, "no_tls_verify"),
        server_name=host if name in ("", "on", "off", None) else str(name),
        response_seconds=_seconds(_number(config, "response_header_timeout") * NANOSECOND),
        connections=max(0, _number(config, "max_conns_per_host")), unsupported=tuple(_unsupported(config)),
    )


def _older(fields: Fields) -> ProxiedServer:
    """
    The older set, in which garbage counts as absent.
    """
    scheme = "https" if _text(fields, HTTPS).encode() in TRUE else "http"
    host, port = read_authority(_text(fields, HOST), DEFAULT_PORTS[scheme])
    seconds = _text(fields, TIMEOUT)
    return ProxiedServer(
        scheme=scheme, host=host, port=port, insecure=_text(fields, SKIP_VERIFY).encode() in TRUE, server_name=host,
        response_seconds=_seconds(float(seconds) if seconds.isascii() and seconds.isdigit() and len(seconds) < 10 else 0.0),
    )


def _text(fields: Fields, name: bytes) -> str:
    return (first(fields, name) or b"").decode("latin-1").strip()


def _seconds(seconds: float) -> float:
    return min(seconds, LONGEST_RESPONSE_SECONDS) if seconds > 0 else RESPONSE_SECONDS


def _config(text: str) -> dict[str, Any]:
    """
    @raise BadProxyRequest: it is no JSON object in Base64.
    """
    if len(text) > CONFIG_OCTETS:
        raise BadProxyRequest("the configuration is too long", octets=len(text))
    try:
        octets = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise BadProxyRequest("the configuration is not Base64") from None
    try:
        return decode_object(octets)
    except PeerError:
        raise BadProxyRequest("the configuration is not a JSON object") from None


def _number(config: dict[str, Any], key: str) -> int:
    value = config.get(key, 0)
    if type(value) is not int:
        raise BadProxyRequest(f"{key} is not a whole number")
    return max(-LARGEST_INTEGER, min(value, LARGEST_INTEGER))


def _boolean(config: dict[str, Any], key: str) -> bool:
    value = config.get(key, False)
    if type(value) is not bool:
        raise BadProxyRequest(f"{key} is neither true nor false")
    return value


def _unsupported(config: dict[str, Any]) -> list[str]:
    """
    Paths of files on this machine, which a peer is not to name, and versions of TLS that are no longer used.
    """
    found = [key for key in ("ssl_trusted_certificate", "ssl_certificate", "ssl_certificate_key") if config.get(key)]
    protocols = config.get("ssl_protocols") or []
    if protocols and not (isinstance(protocols, list) and {"tlsv1.2", "tlsv1.3"}.intersection(map(str, protocols))):
        found.append("ssl_protocols")
    return found


@frozen(kw_only=True)
class HealthQuery:
    """
    The address whose health is examined.

    @ivar scheme: as it was sent.
    @ivar host: C{""} if there is none.
    @ivar port: C{""} if there is none.
    @ivar seconds: how long the examination may take.
    """

    scheme: str = ""
    host: str = ""
    port: str = ""
    path: str = ""
    seconds: float = HEALTH_SECONDS


def decode_health_query_untrusted(target: bytes) -> HealthQuery:
    """
    @param target: of the request.
    """
    query = parse_qs(target.partition(b"?")[2].decode("latin-1"), keep_blank_values=True)

    def one(name: str) -> str:
        return query.get(name, [""])[0]

    milliseconds = one("timeout")
    seconds = int(milliseconds) / 1000 if milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) < 10 else 0.0
    return HealthQuery(
        scheme=one("scheme"), host=one("host"), port=one("port"), path=one("path"),
        seconds=min(seconds, LONGEST_HEALTH_SECONDS) or HEALTH_SECONDS,
    )


def encode_health(healthy: bool, detail: str, seconds: float) -> bytes:
    """
    @param seconds: how long it took.
    @return: the body of an answer about the health of an address.
    """
    word = "true" if healthy else "false"
    return f'{{"healthy":{word},"detail":{encode_string(detail)},"latency":{max(0, round(seconds / NANOSECOND))}}}\n'.encode()


def encode_agent_info(version: str, name: str, runtime: str, *, udp: bool) -> bytes:
    """
    @param udp: streams of datagrams are accepted.
    @return: the body of an answer about the agent itself.  Genuine main programs ignore the last two members, and find out by
        probes.
    """
    members = f'"version":{encode_string(version)},"name":{encode_string(name)},"runtime":{encode_string(runtime)}'
    return f'{{{members},"supports_tcp_stream":true,"supports_udp_stream":{"true" if udp else "false"}}}\n'.encode()
