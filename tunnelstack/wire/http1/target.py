"""
Request targets: which octets they have, and every way in which a program that receives one may read its path.

A target reaches another program: a web server, a framework, a file system.  Programs cut, fold and
decode paths differently, and one path may name C{/admin} for one of them and something else for another.  A decision about a
path is safe only if it is the same for every reading of the path.  L{readings} gives these: the results of the operations in
C{OPERATIONS}, in any order and number, which include every order in which a known server applies them.  L{folded} is the last
operation: two paths with the same folded form are the same file where neither case nor the composition of characters counts.

Source: RFC 9112, section 3.2; RFC 3986, sections 5.2.4 and 6.2; the WHATWG's URL standard, section 4.4; RFC 3629, section 10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from unicodedata import normalize
from urllib.parse import unquote_to_bytes

OCTET = rb"[!\"$-~\x80-\xff]"
"""An octet of a target.  Control octets and blanks would end it for some programs, and a C{#} ends the path for most."""

ABSOLUTE = re.compile(rb"https?://(?:[^/?@]*@)?([0-9A-Za-z._~%!$&'()*+,;=:\[\]-]+)((?:[/?].*)?)\Z", re.IGNORECASE | re.DOTALL)

_WORD = rb"[a-z0-9_~!$&'()*+,=:@-]++"

PLAIN = re.compile(rb"/(?:" + _WORD + rb"(?:\.++" + _WORD + rb")*+(?:/|(?=\?|\Z)))*+(?:\?|\Z)")
"""Matches at the beginning of a target whose path has one reading, and is its own folded form.  It may miss some."""

MOST_READINGS = 64
"""Readings of one path.  Paths that people and programs use have fewer than ten."""

MOST_OCTETS = 32 * 1024
"""Octets of all readings of one path together, where there is more than one."""

_DOT = re.compile(rb"%2[eE]")
_SEPARATORS = re.compile(rb"(%2[fF]|%5[cC])")
_UNICODE = re.compile(rb"%[uU]([0-9A-Fa-f]{4})")
_PARAMETERS = re.compile(rb";[^/]*")
_SLASHES = re.compile(rb"//+")
_AUTHORITY = re.compile(rb"//[^/]*")
_HOST = re.compile(rb"//+[^/]*")
_TERMINATOR = re.compile(rb"[\0?#]")
_TRAILING = re.compile(rb"(?<=[^/. ])[. ]+(?=/|\Z)")
_OVERLONG = re.compile(
    rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80\x81][\x80-\xbf]|\xf0\x80[\x80\x81][\x80-\xbf]"
    rb"|\xf8\x80\x80[\x80\x81][\x80-\xbf]|\xfc\x80\x80\x80[\x80\x81][\x80-\xbf]"
)
_UNPRINTABLE = re.compile(rb"[^!-~]")

unprintable = _UNPRINTABLE.search
"""Finds an octet that L{percent_encoded} changes, without a call of Python."""


def path_of(target: bytes) -> bytes:
    """
    The path of a target in origin form.
    """
    return target.partition(b"?")[0]


def split_absolute(target: bytes) -> tuple[bytes, bytes] | None:
    """
    @return: the host, with its port, and the target in origin form; C{None} if the target is not an absolute HTTP URL.
    """
    absolute = ABSOLUTE.match(target)
    if absolute is None:
        return None
    host, rest = absolute.groups()
    return host, rest if rest.startswith(b"/") else b"/" + rest


def percent_encoded(target: bytes) -> bytes:
    """
    A target in printable ASCII: every other octet as C{%XX}.  A target that is in ASCII already is not changed.
    """
    return _UNPRINTABLE.sub(lambda found: b"%%%02X" % found[0][0], target)


def folded(path: bytes) -> bytes:
    """
    A path as a program compares it that ignores case, and how characters are composed.
    """
    if path.isascii():
        return path.lower()
    return normalize("NFKC", path.decode("utf-8", "surrogateescape").casefold()).encode("utf-8", "surrogateescape")


def readings(path: bytes) -> Collection[bytes] | None:
    """
    Every reading of a path, itself included.

    @param path: without a query.
    @return: C{None} if there are more than C{MOST_READINGS}, or more than C{MOST_OCTETS} octets in them.
    """
    if PLAIN.match(path.lower()) and b"?" not in path:
        return (path,)
    known, waiting, octets = {path}, [path], len(path)
    while waiting and octets <= MOST_OCTETS:
        current = waiting.pop()
        for operation in OPERATIONS:
            read = operation(current)
            if read not in known:
                known.add(read)
                waiting.append(read)
                octets += len(read)
        if len(known) > MOST_READINGS:
            return None
    return known if octets <= MOST_OCTETS else None


def _without_escaped_separators(path: bytes) -> bytes:
    """
    Decode all but slashes and backslashes, as programs do that split a path first and decode each segment then.
    """
    if b"%" not in path:
        return path
    pieces = _SEPARATORS.split(path)
    return b"".join(piece if index % 2 else unquote_to_bytes(piece) for index, piece in enumerate(pieces))


def _without_escaped_dots(path: bytes) -> bytes:
    """
    Decode dots alone, as URL parsers do that take C{%2e%2e} for a dot segment (WHATWG URL, section 4.1).
    """
    return _DOT.sub(b".", path)


def _without_unicode_escapes(path: bytes) -> bytes:
    """
    C{%u0061} is C{a}.  IIS takes it.
    """
    return _UNICODE.sub(lambda found: chr(int(found[1], 16)).encode("utf-8", "surrogatepass"), path)


def _without_dot_segments(path: bytes) -> bytes:
    """
    As in RFC 3986, section 5.2.4: a final slash stays, and so do empty segments.
    """
    if b"/." not in path:
        return path
    pieces: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del pieces[-1:]
        elif segment != b".":
            pieces.append(segment)
    if segments[-1:] in ([b"."], [b".."]):
        pieces.append(b"")
    return b"/" + b"/".join(pieces)


def _without_repeated_slashes(path: bytes) -> bytes:
    return _SLASHES.sub(b"/", path)


def _without_authority(path: bytes) -> bytes:
    """
    C{//host/path} is a reference to another host for programs that read the target as a URL (RFC 3986, section 4.2).
    """
    return _AUTHORITY.sub(b"", path, 1) or b"/" if path.startswith(b"//") else path


def _without_host(path: bytes) -> bytes:
    """
    The same for programs that take more slashes for two, as the standard of the WHATWG requires.
    """
    return _HOST.sub(b"", path, 1) or b"/" if path.startswith(b"///") else path


def _without_backslashes(path: bytes) -> bytes:
    return path.replace(b"\\", b"/")


def _without_parameters(path: bytes) -> bytes:
    """
    C{/admin;x} is C{/admin} for servlets.
    """
    return _PARAMETERS.sub(b"", path)


def _cut(path: bytes) -> bytes:
    """
    What was decoded may end a path that is read as a C string, or as a URL a second time.
    """
    return _TERMINATOR.split(path, 1)[0]


def _without_trailing_dots(path: bytes) -> bytes:
    """
    Dots and blanks at the end of a name are no part of it on Windows.
    """
    return _TRAILING.sub(b"", path)


def _without_overlong_characters(path: bytes) -> bytes:
    """
    ASCII that is encoded in more octets than UTF-8 allows, which careless decoders take.
    """
    if path.isascii():
        return path
    return _OVERLONG.sub(lambda found: bytes([(found[0][-2] & 1) << 6 | found[0][-1] & 0x3F]), path)


OPERATIONS: tuple[Callable[[bytes], bytes], ...] = (
    unquote_to_bytes,
    _without_escaped_separators,
    _without_escaped_dots,
    _without_unicode_escapes,
    _without_dot_segments,
    _without_repeated_slashes,
    _without_authority,
    _without_host,
    _without_backslashes,
    _without_parameters,
    _cut,
    _without_trailing_dots,
    _without_overlong_characters,
)
"""What programs do to a path.  Each gives a path that begins with a slash if it is given one, and is never longer."""
