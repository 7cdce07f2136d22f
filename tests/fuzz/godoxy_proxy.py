"""
Bent octets for requests to the API of a GoDoxy agent: an input is the fields of scheme, host and configuration, one a line, of
which the last is the query of an examination of health as well.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Hashable

from tunnelstack.errors import PeerError
from tunnelstack.wire.http1.head import Fields
from tunnelstack.wire.records.godoxy_proxy import (
    decode_health_query_untrusted,
    decode_proxied_server_untrusted,
)

NAMES = (b"X-Proxy-Scheme", b"X-Proxy-Host", b"X-Proxy-Config")

SEEDS = [
    b"http\n127.0.0.1:3000\n{}", b"https\n[fd00::1]:8443\n" + b'{"no_tls_verify":true,"ssl_server_name":"a"}',
    b'h2c\na\n{"response_header_timeout":1500000000,"max_conns_per_host":7}', b'http\na\n{"ssl_protocols":["tlsv1.3"]}',
    b"\n\nscheme=http&host=a%3A1&path=%2Fb&timeout=1500",
]
FOUND = [
    b'http\na\n{"response_header_timeout":1' + b"0" * 400 + b"}",  # no float is as large
]


def target(data: bytes) -> Hashable:
    """
    @return: what was made of the fields, with the configuration as it is and in Base64, and of the query.
    """
    lines = data.split(b"\n", 2)
    values = lines + [b""] * (3 - len(lines))
    fields: Fields = list(zip(NAMES, values, strict=True))
    encoded: Fields = [*fields[:2], (NAMES[2], b64encode(values[2]))]
    older: Fields = [fields[1], (b"X-Proxy-Https", values[0]), (b"X-Proxy-Response-Header-Timeout", values[2])]
    query = decode_health_query_untrusted(b"/?" + values[2])
    return server(fields), server(encoded), server(older), bool(query.scheme), bool(query.host), query.seconds > 5


def server(fields: Fields) -> Hashable:
    try:
        found = decode_proxied_server_untrusted(fields)
    except PeerError as error:
        return str(error.args[0])
    assert 0 < found.port < 65_536 and found.host
    return found.scheme, found.insecure, found.server_name == found.host, found.unsupported
