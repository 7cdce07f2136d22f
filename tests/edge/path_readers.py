"""
How programs that may stand behind a tunnel read the path of a request target: one small pure model for each.

A model gives the path under which the program looks for the resource, or C{None} where it refuses or redirects the request
instead (or where the model does not know).  C{tests.peers.test_path_readers} compares the models of nginx, Node, Go and Python
with the programs themselves; the others follow the programs' documentation.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes, urlsplit

Reader = Callable[[bytes], bytes | None]

_ESCAPE = re.compile(rb"%(.{0,2})", re.DOTALL)
_HEX = re.compile(rb"[0-9A-Fa-f]{2}")
_WHATWG_ENCODED = re.compile(rb"[\x80-\xff \"<>`{}^]")


def cut(target: bytes) -> bytes:
    """
    The part before the query.
    """
    return target.partition(b"?")[0]


def decoded(path: bytes) -> bytes | None:
    """
    Percent-decoded once; C{None} if an escape is malformed.
    """
    if any(not _HEX.fullmatch(found) for found in _ESCAPE.findall(path)):
        return None
    return unquote_to_bytes(path)


def dots(path: bytes, above: bool = True) -> bytes | None:
    """
    Without dot segments; empty segments count.

    @param above: whether C{..} at the root is ignored; otherwise such a path gives C{None}.
    """
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment == b"..":
            if not kept and not above:
                return None
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
            continue
        if last:
            kept.append(b"")
    return b"/" + b"/".join(kept)


def merged(path: bytes) -> bytes:
    """
    With single slashes.
    """
    return re.sub(rb"/+", b"/", path)


def nginx(target: bytes) -> bytes | None:
    """
    C{$uri}: decoded, slashes merged, dot segments removed.
    """
    path = decoded(cut(target))
    if path is None or b"\0" in path:
        return None
    return dots(merged(path), above=False)


def apache(target: bytes) -> bytes | None:
    """
    Apache with C{AllowEncodedSlashes NoDecode}: an encoded slash stays as it is.
    """
    pieces = re.split(rb"(%2[fF])", cut(target))
    path = b"".join(piece if number % 2 else unquote_to_bytes(piece) for number, piece in enumerate(pieces))
    return None if b"\0" in path else dots(merged(path))


def express(target: bytes) -> bytes | None:
    """
    A route of Express: as received, and without case.
    """
    return cut(target).lower()


def expressStatic(target: bytes) -> bytes | None:
    """
    C{serve-static} on a file system that ignores case.
    """
    path = decoded(cut(target))
    if path is None or b"\0" in path:
        return None
    return re.sub(rb"\A/+", b"/", posixpath.normpath(path)).lower()


def nodeURL(target: bytes) -> bytes | None:
    """
    C{new URL(request.url, base).pathname}, as handlers of Node get a path.
    """
    path = cut(target).replace(b"\\", b"/")
    if path.startswith(b"//"):
        host, slash, rest = path.lstrip(b"/").partition(b"/")
        if not re.fullmatch(rb"[a-z]+", host):
            return None
        path = slash + rest or b"/"
    kept = re.sub(rb"(?<=/)(?:\.|%2[eE]){1,2}(?=/|\Z)", lambda found: re.sub(rb"(?i)%2e", b".", found[0]), path)
    return dots(_WHATWG_ENCODED.sub(_encodedOfLatin1, kept))


def _encodedOfLatin1(found: re.Match[bytes]) -> bytes:
    """
    Node takes octets for characters of ISO 8859-1, and its URLs are in UTF-8.
    """
    return b"".join(b"%%%02X" % octet for octet in found[0].decode("latin-1").encode())


def nodeDecoded(target: bytes) -> bytes | None:
    """
    The same, decoded.
    """
    path = nodeURL(target)
    return None if path is None else decoded(path)


def tomcat(target: bytes) -> bytes | None:
    """
    Parameters are cut, then the path is decoded and normalised; C{%2F} and backslashes are taken, as may be configured.
    """
    path = decoded(re.sub(rb";[^/]*", b"", cut(target)))
    if path is None or b"\0" in path:
        return None
    return dots(merged(path.replace(b"\\", b"/")), above=False)


def jetty(target: bytes) -> bytes | None:
    """
    As Tomcat, but repeated slashes stay.
    """
    path = decoded(re.sub(rb";[^/]*", b"", cut(target)))
    return None if path is None else dots(path, above=False)


def pythonFiles(target: bytes) -> bytes | None:
    """
    C{http.server}: slashes at the beginning are merged, then the path is decoded and normalised.
    """
    path = re.sub(rb"\A/+", b"/", target).partition(b"?")[0].partition(b"#")[0]
    words = posixpath.normpath(unquote_to_bytes(path)).split(b"/")
    return b"/" + b"/".join(word for word in words if word not in (b"", b".", b".."))


def pythonURL(target: bytes) -> bytes | None:
    """
    C{urlsplit(target).path}, decoded.
    """
    try:
        return unquote_to_bytes(urlsplit(target.decode("latin-1")).path.encode("latin-1") or b"/")
    except ValueError:
        return None


def pythonDecodedFirst(target: bytes) -> bytes | None:
    """
    A handler that decodes and splits in the wrong order.
    """
    return pythonURL(unquote_to_bytes(target))


def goPath(target: bytes) -> bytes | None:
    """
    C{request.URL.Path}.
    """
    return decoded(cut(target))


def goFiles(target: bytes) -> bytes | None:
    """
    C{path.Clean("/" + request.URL.Path)}, as C{http.FileServer} does.
    """
    path = goPath(target)
    return None if path is None else re.sub(rb"\A/+", b"/", posixpath.normpath(b"/" + path))


def iis(target: bytes) -> bytes | None:
    """
    C{%u} escapes, backslashes, dot segments, and no case; dots and blanks at the end of a name do not count.
    """
    path = re.sub(rb"%[uU]([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)).encode("utf-8", "replace"), cut(target))
    return _windows(unquote_to_bytes(path))


def iisTwice(target: bytes) -> bytes | None:
    """
    The double decoding of CVE-2001-0333.
    """
    return _windows(unquote_to_bytes(unquote_to_bytes(cut(target))))


def iisOverlong(target: bytes) -> bytes | None:
    """
    The overlong UTF-8 of CVE-2000-0884.
    """
    path = unquote_to_bytes(cut(target))
    return _windows(re.sub(rb"[\xc0\xc1][\x80-\xbf]", lambda found: bytes([(found[0][0] & 1) << 6 | found[0][1] & 63]), path))


def _windows(path: bytes) -> bytes | None:
    path = path.partition(b"\0")[0].replace(b"\\", b"/")
    normal = dots(merged(path))
    assert normal is not None
    return b"/".join(word.rstrip(b" .") for word in normal.split(b"/")).lower()


READERS: dict[str, Reader] = {
    "nginx": nginx, "Apache, encoded slashes": apache, "Express": express, "Express, files": expressStatic,
    "Node, URL": nodeURL, "Node, URL, decoded": nodeDecoded, "Tomcat": tomcat, "Jetty": jetty,
    "Python, files": pythonFiles, "Python, URL": pythonURL, "Python, decoded first": pythonDecodedFirst,
    "Go, path": goPath, "Go, files": goFiles, "IIS": iis, "IIS, twice": iisTwice,
    "IIS, overlong": iisOverlong,
}  # fmt: skip

SEGMENTS = [
    b"admin", b"admin", b"ADMIN", b"adm%69n", b"%61dmin", b"%2561dmin", b"%u0061dmin", b"admin.", b"admin%20",
    b"admin;a", b"admin%00", b"admin%3f", b"admin%23", b"%c1%a1dmin", b"x", b"open", b"Open", b"..", b"..",
    b"%2e%2e", b".%2E", b"..;", b"..;a=b", b"%c0%ae.", b"..%00", b".", b"%2e", b"", b";a", b"a%20b",
    b"\xc3\xa4", b"%", b"%zz", b"%252e%252e", b"...", b"a+b",
]  # fmt: skip
SEPARATORS = [b"/", b"/", b"/", b"/", b"//", b"\\", b"%2f", b"%5c", b"%252f", b"%c0%af", b"%u002f", b"/;x/", b"/./"]
"""What targets are made of that are read in different ways."""
