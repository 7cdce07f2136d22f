"""
JSON exactly as Go's C{encoding/json} writes it, for peers that are recorded octet by octet: no spaces, the keys of a map
sorted by their octets, C{<}, C{>}, C{&} and the two Unicode line separators escaped, everything else beyond ASCII as it is.

Source: Go C{encoding/json}, C{encode.go} (C{appendString} with HTML escapes, as C{Encoder} and C{Marshal} do by default).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_SPECIAL = re.compile('["\\\\<>&\u2028\u2029\x00-\x1f]|[\ud800-\udfff]')


def encode_string(text: str) -> str:
    """
    @return: the text between its quotation marks; half a surrogate pair becomes U+FFFD, as invalid UTF-8 does in Go.
    """
    return f'"{_SPECIAL.sub(_escape, text)}"'


def encode_strings(members: Mapping[str, str]) -> bytes:
    """
    @return: a C{map[string]string}, keys sorted, without a line feed.
    """
    return encode_fields((key, members[key]) for key in sorted(members, key=lambda key: key.encode("utf-8", "replace")))


def encode_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """
    @return: a struct of strings, fields in the order given, without a line feed.
    """
    inner = ",".join(f"{encode_string(name)}:{encode_string(value)}" for name, value in fields)
    return f"{{{inner}}}".encode()


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    if "\ud800" <= character <= "\udfff":
        return "\\ufffd"
    return _SHORT.get(character) or f"\\u{ord(character):04x}"
