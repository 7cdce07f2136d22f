"""
Responses as the genuine ShellHub server writes them.
"""

from __future__ import annotations

from tunnelstack.exchange.whole_message import JSON, WholeResponse
from tunnelstack.wire.records.shellhub_bootstrap import encode_message


def messageResponse(status: int, text: str, *fields: tuple[bytes, bytes]) -> WholeResponse:
    """
    A refusal: a JSON object with a C{messageResponse}.
    """
    return WholeResponse(status, encode_message(text), JSON, fields)
