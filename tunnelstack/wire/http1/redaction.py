"""
What of a head is not shown to those who look at requests: credentials, and if wanted what tells who the visitor is.
"""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import unquote_to_bytes

from tunnelstack.wire.http1.head import Fields

REDACTED = "\N{BULLET}" * 4
"""Shown instead of a value.  In the fields of an edited request it stands for the value that was received."""

NONE, STANDARD, STRICT = "none", "standard", "strict"
"""How much is hidden: nothing; credentials; also addresses and where a visitor comes from, and all of a query's values."""

TIERS = (STANDARD, STRICT, NONE)

SECRET = re.compile(
    rb"(?:proxy-|tunnel-)?authorization|set-cookie2?|cookie2?"
    rb"|(?:.*[-_])?(?:api[-_]?key|access[-_]?key|secret(?:[-_]?key)?|tokens?|auth(?:[-_]?(?:key|token))?|passw(?:or)?d|"
    rb"passphrase|credentials?|session(?:[-_]?id)?|signature|jwt(?:[-_]assertion)?|client[-_]?cert)(?:[-_].*)?"
    rb"|x-?apikey|xsrf|x-amz-signature|x-forwarded-client-cert", re.IGNORECASE
)
"""Names of fields with credentials."""

PERSONAL = re.compile(
    rb"forwarded|x-forwarded(?:-.*)?|via|from|referer|origin|user-agent|accept-language|(?:.*-)?ip(?:v6)?|x-request-id|"
    rb"traceparent|tracestate|baggage|location|content-location|cf-ray", re.IGNORECASE
)
"""Names of fields that tell who a visitor is, or where it comes from."""

SECRET_PARAMETER = re.compile(rb"code|sig|key|otp|pin|state|nonce|hash|hmac|apikey|pwd|pass|sid|assertion", re.IGNORECASE)
"""Names of a query's parameters with credentials, beside those that fields have."""


_PARAMETER = re.compile(rb"([^&;=]*)=([^&;]*)")


def is_secret(name: bytes) -> bool:
    """
    @return: whether a field of this name has credentials.
    """
    return SECRET.fullmatch(name) is not None


def is_hidden(name: bytes, tier: str) -> bool:
    """
    @param tier: one of L{TIERS}.
    @return: whether the value of a field is hidden.
    """
    if tier == NONE:
        return False
    return is_secret(name) or (tier == STRICT and PERSONAL.fullmatch(name) is not None)


def text_of(octets: bytes) -> str:
    """
    @return: a part of a head as text.
    """
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def shown_fields(fields: Fields, tier: str) -> list[list[str]]:
    """
    @param tier: one of L{TIERS}.
    @return: names and values.
    """
    return [[text_of(name), REDACTED if is_hidden(name, tier) else text_of(value)] for name, value in fields]


def shown_query(query: bytes, tier: str) -> str:
    """
    @param query: of a target, without its C{?}.
    @param tier: one of L{TIERS}.
    @return: the query without the values of parameters that are hidden.
    """
    return text_of(query if tier == NONE else _PARAMETER.sub(partial(_shown_parameter, tier), query))


def _shown_parameter(tier: str, parameter: re.Match[bytes]) -> bytes:
    name = unquote_to_bytes(parameter[1])
    hidden = tier == STRICT or is_secret(name) or SECRET_PARAMETER.fullmatch(name) is not None
    return parameter[1] + b"=" + REDACTED.encode() if hidden else parameter[0]
