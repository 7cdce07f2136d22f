"""
What an agent answers when it has no response of the local server.
"""

from __future__ import annotations

from tunnelstack.exchange.error_page import errorPageHead
from tunnelstack.exchange.errors import ExchangeFailed
from tunnelstack.wire.http1.head import ResponseHead


def failurePage(failed: ExchangeFailed, trace: str) -> tuple[ResponseHead, bytes]:
    """
    As L{ErrorPages<tunnelstack.exchange.error_page.ErrorPages>}: a text, as the public agent sends it.
    """
    body = failed.sentence.encode()
    return errorPageHead(failed, trace, b"text/plain; charset=utf-8", len(body)), body
