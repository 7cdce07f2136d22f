"""
URLs of the local server in the bodies of its responses, which an agent of Jetty replaces by those of the public host: in HTML,
in style sheets, and in scripts where they are quoted.

The octets are read as Latin-1, so whatever is not replaced stays as it is.  All of it takes time in proportion to the length.

Source: shaferllc/jetty-client at e3a56e59.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tunnelstack.wire.records.jetty_headers import public_url_of

HTML_TYPES = frozenset(("text/html", "application/xhtml+xml"))
SCRIPT_TYPES = frozenset(
    ("text/javascript", "application/javascript", "application/x-javascript", "application/ecmascript", "text/ecmascript")
)

Replace = Callable[[str], str]

_ATTRIBUTES = "href|src|action|formaction|data|poster|cite|data-url|data-href|data-src|data-action"
_VALUE = r"""[ \t\r\n]*=[ \t\r\n]*)("[^"<>]*"|'[^'<>]*')"""
_ATTRIBUTE = re.compile(rf"([ \t\r\n/\"'](?:{_ATTRIBUTES})" + _VALUE, re.IGNORECASE)
_SOURCES = re.compile(r"([ \t\r\n/\"']srcset" + _VALUE, re.IGNORECASE)
_STYLE = re.compile(r"([ \t\r\n/\"']style" + _VALUE, re.IGNORECASE)
_META = re.compile(r"<meta[ \t\r\n/][^<>]*>", re.IGNORECASE)
_CONTENT = re.compile(r"([ \t\r\n/\"']content" + _VALUE, re.IGNORECASE)
_REFRESH = re.compile(r"(?i:refresh)")
_DELAYED = re.compile(r"([0-9.]*[ \t]*[;,][ \t]*url[ \t]*=[ \t]*)([^\"']*)", re.IGNORECASE)
_CSS_URL = re.compile(r"(url\([ \t]*[\"']?)([^\"'() \t\r\n]*)", re.IGNORECASE)
_QUOTED_URL = re.compile(r"""(["'`])((?:https?:)?//[^"'`\\<> \t\r\n]*)(?=["'`])""", re.IGNORECASE)
_OPENING = re.compile(r"<(script|style)\b[^<>]*>", re.IGNORECASE)


def public_body(kind: str, body: bytes, hosts: frozenset[str], public_host: str) -> bytes:
    """
    @param kind: the media type, in lower case, without parameters.
    @param hosts: those of the local server, in lower case.
    @return: the body with the URLs of the public host.
    """
    def replace(url: str) -> str:
        return public_url_of(url, hosts, public_host)

    text = body.decode("latin-1")
    if kind in HTML_TYPES:
        text = _html(text, replace)
    elif kind in SCRIPT_TYPES:
        text = _script(text, replace)
    return text.encode("latin-1")


def _html(text: str, replace: Replace) -> str:
    """
    Blocks of scripts and style sheets, and what is between them.
    """
    pieces: list[str] = []
    position = 0
    lower = text.lower()
    while (opening := _OPENING.search(text, position)) is not None:
        end = lower.find(f"</{opening[1].lower()}", opening.end())
        end = len(text) if end < 0 else end
        block = text[opening.end():end]
        pieces.append(_markup(text[position:opening.end()], replace))
        pieces.append(_script(block, replace) if opening[1].lower() == "script" else _css(block, replace))
        position = end
    pieces.append(_markup(text[position:], replace))
    return "".join(pieces)


def _markup(text: str, replace: Replace) -> str:
    text = _META.sub(lambda found: _meta(found[0], replace), text)
    text = _ATTRIBUTE.sub(lambda found: _with_value(found, replace), text)
    text = _SOURCES.sub(lambda found: _with_value(found, lambda value: _sources(value, replace)), text)
    return _STYLE.sub(lambda found: _with_value(found, lambda value: _css(value, replace)), text)


def _with_value(found: re.Match[str], change: Replace) -> str:
    value = found[2]
    return f"{found[1]}{value[0]}{change(value[1:-1])}{value[-1]}"


def _meta(tag: str, replace: Replace) -> str:
    if not _REFRESH.search(tag):
        return tag

    def delayed(value: str) -> str:
        found = _DELAYED.fullmatch(value)
        return value if found is None else found[1] + replace(found[2])

    return _CONTENT.sub(lambda found: _with_value(found, delayed), tag)


def _sources(value: str, replace: Replace) -> str:
    def one(source: str) -> str:
        url = source.strip(" \t\r\n").partition(" ")[0]
        return source.replace(url, replace(url), 1) if url else source

    return ",".join(one(each) for each in value.split(","))


def _css(text: str, replace: Replace) -> str:
    return _CSS_URL.sub(lambda found: found[1] + replace(found[2]), text)


def _script(text: str, replace: Replace) -> str:
    return _QUOTED_URL.sub(lambda found: found[1] + replace(found[2]), text)
