"""
The names of HTTP's versions in ALPN.  Source: RFC 9113, section 3.1; RFC 7301, section 6.
"""

from __future__ import annotations

ALPN_HTTP2 = b"h2"
ALPN_HTTP1 = b"http/1.1"
