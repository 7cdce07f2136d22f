"""
Which proxy leads to an edge, as the environment says: C{HTTPS_PROXY}, C{HTTP_PROXY}, C{NO_PROXY}, in small letters or capitals.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}


def proxyFor(url: str, environ: Mapping[str, str]) -> str:
    """
    @param url: of an edge.
    @return: the URL of the proxy, C{""} for none.  This machine is always reached without.
    """
    parts = urlsplit(url)
    proxy = _value(environ, f"{parts.scheme}_proxy")
    if parts.scheme == "http" and "REQUEST_METHOD" in environ and "http_proxy" not in environ:
        return ""        # inside a CGI program, HTTP_PROXY is a header field that a stranger chose
    host = (parts.hostname or "").rstrip(".")
    if not proxy or isThisMachine(host) or bypassesProxy(host, parts.port or PORTS[parts.scheme], _value(environ, "no_proxy")):
        return ""
    return proxy


def bypassesProxy(host: str, port: int, rules: str) -> bool:
    """
    Whether a host is reached without a proxy.

    @param rules: C{NO_PROXY}: names (with everything below them), addresses, networks, each with a port or for all, or C{*};
        between commas or spaces.
    """
    return any(_matches(host, port, rule) for rule in rules.replace(",", " ").split())


def _matches(host: str, port: int, rule: str) -> bool:
    if rule == "*":
        return True
    address = _address(host)
    if "/" in rule:
        try:
            return address is not None and address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    name, colon, wanted = rule.rpartition(":")
    if colon and wanted.isdecimal() and (name.endswith("]") or ":" not in name):
        if int(wanted) != port:
            return False
        rule = name
    rule = rule.strip("[]").rstrip(".").lower()
    if address is not None:
        return address == _address(rule)
    name = rule.removeprefix("*").removeprefix(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def isThisMachine(host: str) -> bool:
    """
    Whether a host, without brackets and in lower case, is this machine by its name or address.
    """
    address = _address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _value(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.upper()) or "").strip()
