"""
HTTP connections of commands to a running edge or agent.
"""

from __future__ import annotations

import ssl
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlsplit

SCHEMES = "http://", "https://"


def connectionTo(url: str, timeout: float) -> HTTPConnection:
    """
    @param url: C{http://host:port} or C{https://host:port}.  With C{https}, the certificate is verified with the authorities of
        the system, or those of the file that C{SSL_CERT_FILE} names.
    @param timeout: seconds for each answer.
    @return: a connection that is opened by its first request.
    @raise ValueError: it is not such a URL.
    """
    parts = urlsplit(url)
    if not url.startswith(SCHEMES) or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username:
        raise ValueError(url)
    if parts.scheme == "http":
        return HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
    return HTTPSConnection(parts.hostname, parts.port or 443, timeout=timeout, context=ssl.create_default_context())
