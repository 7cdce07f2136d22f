"""
The HTTPS API of a GoDoxy agent, and how the main program has requests forwarded by it.

The agent reports itself at C{/info}, examines an address at C{/health}, and forwards what comes below C{/proxy/http}.  Header
fields of such a request name the web server::

    X-Proxy-Scheme: http                 http, https or h2c
    X-Proxy-Host: 127.0.0.1:3000
    X-Proxy-Config: e30=                 a JSON object in Base64

Agents up to version 0.18.6 know other fields: C{X-Proxy-Host}, C{X-Proxy-Https}, C{X-Proxy-Skip-Tls-Verify} and
C{X-Proxy-Response-Header-Timeout}.

Source: godoxy C{agent/pkg/handler}, C{agent/pkg/agentproxy}, C{agent/pkg/agent/config.go}, v0.31.0.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any
from urllib.parse import quote, urlencode

from attrs import frozen

from tunnelstack.errors import PeerError
from tunnelstack.wire.go_json import encode_string
from tunnelstack.wire.http1.head import Fields
from tunnelstack.wire.jsonline import decode_object
from tunnelstack.wire.printable_text import printable

API_PATH = "/godoxy/agent"
INFO_PATH = f"{API_PATH}/info"
HEALTH_PATH = f"{API_PATH}/health"
PROXY_PATH = f"{API_PATH}/proxy/http"

SCHEMES = ("http", "https", "h2c")
"""The schemes of web servers that an agent can reach."""

RUNTIMES = ("docker", "podman")

NANOSECOND = 1e-9

LARGEST_INTEGER = (1 << 63) - 1
"""Of Go's C{time.Duration}; a number in JSON may be larger than any C{float}."""
"""Durations are whole nanoseconds."""

ANSWER_OCTETS = 64 * 1024
"""Octets of the longest answer of the API that is read."""

NAME_CHARACTERS = 255
"""Characters of an agent's name and version that are kept."""

Version = tuple[int, int, int]

FIELDS_SINCE: Version = (0, 18, 6)
"""Later versions know C{X-Proxy-Config}; this one does not yet, as genuine main programs reckon."""

NO_VERSION: Version = (0, 0, 0)

_VERSION = re.compile(r"v(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:-\w+)?")
_FIELD = re.compile(rb"x[-_]proxy[-_]", re.IGNORECASE)


class BadAnswer(PeerError):
    """
    An answer of the API cannot be read.
    """


@frozen(kw_only=True)
class AgentInfo:
    """
    What an agent reports of itself.

    @ivar version: as text, such as C{v0.31.0}.
    @ivar runtime: C{docker} or C{podman}.
    """

    name: str = ""
    version: str = ""
    runtime: str = "docker"


def decode_info_untrusted(body: bytes) -> AgentInfo:
    """
    @raise BadAnswer: it is no such object.
    """
    members = _object(body)
    return AgentInfo(
        name=_text(members, "name"), version=_text(members, "version"), runtime=_text(members, "runtime") or "docker"
    )


@frozen(kw_only=True)
class HealthResult:
    """
    What an agent found at an address.

    @ivar latency: seconds.
    """

    healthy: bool
    detail: str = ""
    latency: float = 0.0


def decode_health_untrusted(body: bytes) -> HealthResult:
    """
    @raise BadAnswer: it is no such object.
    """
    members = _object(body)
    healthy, latency = members.get("healthy"), members.get("latency", 0)
    if not isinstance(healthy, bool) or type(latency) not in (int, float) or abs(latency) > LARGEST_INTEGER:
        raise BadAnswer("the answer about the health of a service has other members")
    return HealthResult(healthy=healthy, detail=_text(members, "detail"), latency=latency * NANOSECOND)


def health_target(scheme: str, host: str, path: str = "", timeout: float = 5.0) -> bytes:
    """
    @param host: with its port.
    @param timeout: seconds.
    @return: the target of a request that asks for the health of an address.
    """
    query = {"scheme": scheme, "host": host, "path": path, "timeout": str(round(timeout * 1000))}
    present = {name: value for name, value in query.items() if value}
    return f"{HEALTH_PATH}?{urlencode(present, quote_via=quote, safe='')}".encode()


def read_version(text: str) -> Version:
    """
    @return: the numbers of a version; L{NO_VERSION} for a text of another form.
    """
    found = _VERSION.fullmatch(text)
    return NO_VERSION if found is None else (int(found[1]), int(found[2]), int(found[3]))


@frozen(kw_only=True)
class ProxyTarget:
    """
    The web server that an agent forwards a request to.

    @ivar scheme: one of L{SCHEMES}.
    @ivar host: with its port.
    @ivar insecure: its certificate is not verified.
    @ivar server_name: what its certificate must be for; C{""} for the host of the request.
    @ivar response_seconds: within which the head of its response must begin; 0 for the agent's own bound.
    """

    scheme: str = "http"
    host: str
    insecure: bool = False
    server_name: str = ""
    response_seconds: float = 0.0


def proxy_fields(target: ProxyTarget, version: Version) -> Fields:
    """
    @param version: of the agent.
    @return: the fields that name a web server.
    """
    host = (b"X-Proxy-Host", target.host.encode("latin-1", "replace"))
    if version > FIELDS_SINCE:
        return [(b"X-Proxy-Scheme", target.scheme.encode()), host, (b"X-Proxy-Config", b64encode(_config(target)))]
    return [
        host,
        (b"X-Proxy-Https", _word(target.scheme == "https")),
        (b"X-Proxy-Skip-Tls-Verify", _word(target.insecure)),
        (b"X-Proxy-Response-Header-Timeout", b"%d" % target.response_seconds),
    ]


def is_proxy_field(name: bytes) -> bool:
    """
    @return: whether a field's name is one of those that name a web server.
    """
    return _FIELD.match(name) is not None


def _config(target: ProxyTarget) -> bytes:
    members = [
        f'"no_tls_verify":{_word(target.insecure).decode()}',
        f'"response_header_timeout":{round(target.response_seconds / NANOSECOND)}',
        '"max_conns_per_host":0',
        '"disable_compression":false',
    ]
    if target.server_name:
        members.append(f'"ssl_server_name":{encode_string(target.server_name)}')
    return f"{{{','.join(members)}}}".encode()


def _word(value: bool) -> bytes:
    return b"true" if value else b"false"


def _object(body: bytes) -> dict[str, Any]:
    try:
        return decode_object(body)
    except PeerError as error:
        raise BadAnswer("the answer is no JSON object", octets=len(body)) from error


def _text(members: dict[str, Any], name: str) -> str:
    """
    @raise BadAnswer: the member is not text.
    """
    value = members.get(name, "")
    if not isinstance(value, str):
        raise BadAnswer("a member of the answer is not text", member=name)
    return printable(value, NAME_CHARACTERS)
