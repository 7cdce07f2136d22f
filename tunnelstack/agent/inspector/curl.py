"""
A request as a command of curl, quoted for a POSIX shell.

No part of a request can end its word, name a file to curl, or reach the terminal as a control character.
"""

from __future__ import annotations

import re
from shlex import quote

from tunnelstack.agent.inspector.recorded_request import RecordedRequest
from tunnelstack.wire.http1.redaction import NONE, STANDARD, shown_fields, text_of

LEFT_OUT = frozenset((
    "host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "te", "trailer", "x-request-id",
    "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "accept-encoding", "cdn-loop",
))  # fmt: skip
"""Fields that curl writes itself, or that the edge has added."""

PLAIN = re.compile(r"[\t\n !-~\xa1-\u1fff\u2030-\u205e\u2070-\ud7ff\uf900-\ufdff]*")
"""Text that may be in a shell's word as it is."""

PRINTED_OCTETS = 16 * 1024
"""Octets of a body that are written with printf; a longer one is read from a file."""


def curlCommand(request: RecordedRequest, reveal: bool) -> str:
    """
    @param reveal: show credentials.
    @return: a command of several lines.
    """
    head = request.head
    host = text_of(head.field(b"host") or b"localhost")
    target = text_of(head.target)
    scheme = "https" if head.field(b"x-forwarded-proto") == b"https" else "http"
    url = target if target.lower().startswith(("http://", "https://")) else f"{scheme}://{host}{target}"
    method = text_of(head.method)
    words = [f"--request {quote(method)}"] if method != "HEAD" else ["--head"]
    words.append(f"--globoff --path-as-is --url {quote(url)}")
    for name, value in shown_fields(head.fields, NONE if reveal else STANDARD):
        if name.lower() not in LEFT_OUT:
            words.append(f"--header {quote(f'{name}: {value}' if value else f'{name};')}")
    if head.field(b"accept-encoding") is not None:
        words.append("--compressed")
    before, data, note = _data(request)
    return note + before + " \\\n  ".join(["curl", *words, *data]) + "\n"


def _data(request: RecordedRequest) -> tuple[str, list[str], str]:
    """
    @return: what is before the command, the options for the body, and a line of comment.
    """
    body = request.requestBody
    octets = bytes(body.kept)
    if not body.octets:
        return "", [], ""
    if body.cut:
        return "", [f"--data-binary @request-{request.id}.bin"], "# The inspector has not kept the whole body.\n"
    text = _plain(octets)
    if text is not None:
        return "", [f"--data-raw {quote(text)}"], ""
    if len(octets) > PRINTED_OCTETS:
        note = f"# Save the body from /api/requests/{request.id}/request as request-{request.id}.bin.\n"
        return "", [f"--data-binary @request-{request.id}.bin"], note
    escaped = "".join(f"\\{octet:03o}" for octet in octets)
    return f"printf '{escaped}' | \\\n", ["--data-binary @-"], ""


def _plain(octets: bytes) -> str | None:
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return None
    return text if PLAIN.fullmatch(text) else None
