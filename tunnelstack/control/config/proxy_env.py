"""
The HTTP proxy for an edge from the environment: C{HTTPS_PROXY}, C{HTTP_PROXY}, C{NO_PROXY}, in lower or upper case.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}


def proxyFor(url: str, environ: Mapping[str, str]) -> str:
    """
    @param url: the edge's URL.
    @return: the URL of the proxy; C{""} for none.  This machine is always reached without a proxy.
    """
    parts = urlsplit(url)
    proxy = _value(environ, f"{parts.scheme}_proxy")
    if parts.scheme == "http" and "REQUEST_METHOD" in environ and "http_proxy" not in environ:
        return ""        # in a CGI program, HTTP_PROXY is the client's header field Proxy (CVE-2016-5385)
    host = (parts.hostname or "").rstrip(".")
    if not proxy or isThisMachine(host) or bypassesProxy(host, parts.port or PORTS[parts.scheme], _value(environ, "no_proxy")):
        return ""
    return proxy


def bypassesProxy(host: str, port: int, rules: str) -> bool:
    """
    @param rules: C{NO_PROXY}: names (which include their subdomains), addresses and networks, each with an optional port, or
        C{*}; separated by commas or spaces.
    @return: whether a host is reached without a proxy.
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
    @param host: in lower case; an IPv6 address without brackets.
    @return: whether it is a name or an address of this machine.
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
