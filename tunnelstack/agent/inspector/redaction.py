"""
Which fields have credentials, whose values are not shown.
"""

from __future__ import annotations

import re

from tunnelstack.pages.json_octets import textOf
from tunnelstack.wire.http1.head import Fields

REDACTED = "\N{BULLET}" * 4
"""Shown instead of a value.  In the fields of an edited request it stands for the value that was received."""

SECRET = re.compile(
    rb"(?:proxy-|tunnel-)?authorization|set-cookie2?|cookie2?"
    rb"|(?:.*[-_])?(?:api[-_]?key|access[-_]?key|secret(?:[-_]?key)?|tokens?|auth(?:[-_]?(?:key|token))?|passw(?:or)?d|"
    rb"passphrase|credentials?|session(?:[-_]?id)?|signature|jwt(?:[-_]assertion)?|client[-_]?cert)(?:[-_].*)?"
    rb"|x-?apikey|xsrf|x-amz-signature|x-forwarded-client-cert", re.IGNORECASE
)
"""Names of fields with credentials."""


def isSecret(name: bytes) -> bool:
    """
    @return: whether a field of this name has credentials.
    """
    return SECRET.fullmatch(name) is not None


def shownFields(fields: Fields, reveal: bool) -> list[list[str]]:
    """
    @param reveal: show credentials.
    @return: names and values.
    """
    return [[textOf(name), textOf(value) if reveal or not isSecret(name) else REDACTED] for name, value in fields]
