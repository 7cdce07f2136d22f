"""
What an agent of Jetty changes in the headers of requests and responses: which it drops, how the local server learns the public
host, and redirects to the local server, which become redirects to the public host.

Source: shaferllc/jetty-client at e3a56e59.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from tunnelstack.wire.records.jetty import Headers

HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te", b"trailer",
})  # fmt: skip
"""Names of headers that are for one connection only.  Those that C{Connection} names are so, too."""

LOCATIONS = frozenset({b"location", b"x-inertia-location"})
"""Headers whose value is the URL of a redirect."""

_BLANKS = r"\s*+"
_REFRESH = re.compile(_BLANKS.join(("(", "[0-9.]*+", "[;,]", "url", "=", ")(.*)")), re.IGNORECASE | re.DOTALL)


def request_to_upstream(headers: Headers, host: str, port: int, public_host: str, *, keep_coding: bool = False) -> Headers:
    """
    @param host: of the local server.
    @param port: likewise; 80 and 443 are not part of C{Host}.
    @param keep_coding: whether C{Accept-Encoding} remains, which the stock agent drops because it rewrites bodies.
    @return: the headers for the local server.
    """
    dropped = {b"host"} | (set() if keep_coding else {b"accept-encoding"})
    kept = _without(headers, dropped)
    known = {name.lower() for name, _ in kept}
    authority = host if port in (80, 443) else f"{host}:{port}"
    added = [(b"Host", authority.encode())]
    if public_host and public_host.lower() != authority.lower() and b"x-forwarded-host" not in known:
        added.append((b"X-Forwarded-Host", public_host.encode()))
    if b"x-forwarded-proto" not in known:
        added.append((b"X-Forwarded-Proto", b"https"))
    return (added[0], *kept, *added[1:])


def response_from_upstream(headers: Headers, *, keep_body: bool = False) -> Headers:
    """
    @param keep_body: whether the body passes unchanged, so that C{Content-Encoding} and C{Content-Length} remain.
    @return: the headers for the edge.
    """
    return tuple(_without(headers, set() if keep_body else {b"content-encoding", b"content-length"}))


def _without(headers: Headers, dropped: set[bytes]) -> list[tuple[bytes, bytes]]:
    named = {
        each.strip(b" \t").lower() for name, value in headers if name.lower() == b"connection" for each in value.split(b",")
    }  # fmt: skip
    return [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP | named | dropped]


def lookup_hosts(names: Iterable[str]) -> frozenset[str]:
    """
    @param names: of the local server.
    @return: these in lower case, and each after C{www.}.
    """
    lower = {name.lower() for name in names if name}
    return frozenset(lower | {f"www.{name}" for name in lower if not name.startswith("www.")})


def public_headers(headers: Headers, hosts: frozenset[str], public_host: str, upstream_host: str = "") -> Headers:
    """
    @param hosts: see L{lookup_hosts}.
    @param upstream_host: see L{public_url_of}.
    @return: the headers of a response, with redirects to the public host.
    """
    return tuple((name, _public_value(name.lower(), value, hosts, public_host, upstream_host)) for name, value in headers)


def _public_value(name: bytes, value: bytes, hosts: frozenset[str], public_host: str, upstream_host: str) -> bytes:
    text = value.decode("latin-1")
    if name in LOCATIONS:
        return public_url_of(text, hosts, public_host, upstream_host).encode("latin-1")
    found = _REFRESH.fullmatch(text) if name == b"refresh" else None
    if found is None:
        return value
    url = found[2].rstrip(" \t")
    quote = url[0] if len(url) > 1 and url[0] in "'\"" and url[-1] == url[0] else ""
    changed = public_url_of(url[1:-1] if quote else url, hosts, public_host, upstream_host)
    return f"{found[1]}{quote}{changed}{quote}".encode("latin-1")


def public_url_of(url: str, hosts: frozenset[str], public_host: str, upstream_host: str = "") -> str:
    """
    @param hosts: those that are replaced, in lower case.
    @param upstream_host: is replaced wherever it stands, if this makes the URL one of the public host.
    @return: the URL at the public host; the same if it has no host, or another one.
    """
    parts = _split(url)
    if parts is None or not parts.netloc or parts.scheme.lower() not in ("", "http", "https"):
        return url
    if (parts.hostname or "").lower() in hosts:
        tail = (f"?{parts.query}" if parts.query else "") + (f"#{parts.fragment}" if parts.fragment else "")
        return f"https://{public_host}{parts.path or '/'}{tail}"
    return _replaced(url, upstream_host, public_host)


def _replaced(url: str, upstream_host: str, public_host: str) -> str:
    if not upstream_host or upstream_host.lower() not in url.lower():
        return url
    changed = re.sub(re.escape(upstream_host), lambda _: public_host, url, flags=re.IGNORECASE)
    parts = _split(changed)
    return changed if parts and parts.hostname == public_host.lower() and changed.count("://") <= 1 else url


def _split(url: str) -> SplitResult | None:
    """
    @return: C{None} if it is no URL, or one with characters that C{urlsplit} would drop or that end a header.
    """
    if not all(each > " " and each != "\x7f" for each in url):
        return None
    try:
        parts = urlsplit(url)
        return parts if parts.hostname is not None or not parts.netloc else None
    except ValueError:
        return None
