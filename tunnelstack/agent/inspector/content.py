"""
Bodies as they are shown: without the coding of their content, and as text if they are text.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from codecs import getincrementaldecoder

from attrs import frozen

from tunnelstack.agent.inspector.recorded_request import RecordedBody
from tunnelstack.wire.http1.head import Fields, first
from tunnelstack.wire.http1.redaction import text_of

DECODED_OCTETS = 4 * 1024 * 1024
"""Octets of one body without its coding."""

CODINGS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}

CHARSETS = {
    "": "utf-8", "utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8", "ascii": "utf-8", "iso-8859-1": "cp1252",
    "latin1": "cp1252", "windows-1252": "cp1252", "utf-16": "utf-16", "utf-16le": "utf-16-le", "utf-16be": "utf-16-be",
}  # fmt: skip

TEXT_TYPES = ("application/json", "application/xml", "application/javascript", "application/x-www-form-urlencoded",
    "application/graphql", "application/x-ndjson", "application/yaml", "application/toml", "image/svg+xml")  # fmt: skip


@frozen
class Content:
    """
    A body as it is shown.

    @ivar type: the media type, in lower case and without parameters; C{""} if there is none.
    @ivar octets: what is kept, without its coding.
    @ivar text: the same as text; C{None} if it is not text.
    @ivar why: why it is not complete or still coded; C{""} otherwise.
    @ivar isShown: something is kept, without its coding.
    """

    type: str
    octets: bytes
    text: str | None
    why: str
    isShown: bool = True

    @property
    def body64(self) -> str | None:
        """
        What is kept as Base64, if it is not text.
        """
        return None if self.text is not None else b64encode(self.octets).decode()


def mediaType(fields: Fields) -> tuple[str, str]:
    """
    @return: the media type in lower case, and its charset.
    """
    kind, _, parameters = text_of(first(fields, b"content-type") or b"").lower().partition(";")
    charset = ""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset":
            charset = value.strip(' "')
    return kind.strip(), charset


def contentOf(fields: Fields, body: RecordedBody) -> Content:
    """
    @param fields: of the body's message.
    """
    kind, charset = mediaType(fields)
    octets, isDecoded, why = _decoded(first(fields, b"content-encoding") or b"", bytes(body.kept))
    text = asText(kind, charset, octets) if isDecoded else None
    return Content(kind, octets, text, body.why or why, isDecoded and bool(octets))


def asText(kind: str, charset: str, octets: bytes) -> str | None:
    """
    @return: text; C{None} if the octets are not text, by their type or their content.
    """
    codec = CHARSETS.get(charset)
    isText = not kind or kind.startswith("text/") or kind in TEXT_TYPES or kind.endswith(("+json", "+xml"))
    if not isText or codec is None:
        return None
    try:
        text = getincrementaldecoder(codec)("replace" if kind else "strict").decode(octets)     # it may end within a character
    except UnicodeDecodeError:
        return None
    return None if not kind and "\0" in text else text


def _decoded(coding: bytes, octets: bytes) -> tuple[bytes, bool, str]:
    """
    @return: the octets without their coding, whether they have none now, and why they still have it or are not all.
    """
    coding = coding.strip().lower()
    if coding in (b"", b"identity") or not octets:
        return octets, True, ""
    bits = CODINGS.get(coding)
    if bits is None:
        return octets, False, f"the coding {text_of(coding)[:40]} is not decoded"
    for each in (bits, -zlib.MAX_WBITS) if coding == b"deflate" else (bits,):      # some servers send no header
        try:
            decoder = zlib.decompressobj(each)
            decoded = decoder.decompress(octets, DECODED_OCTETS)
        except zlib.error:
            continue
        return decoded, True, f"only {DECODED_OCTETS} octets are decoded" if decoder.unconsumed_tail else ""
    return octets, False, f"the body is not {text_of(coding)}"
