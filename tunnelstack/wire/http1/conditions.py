"""
Conditions of requests: whether a representation is sent, given its validators.

Source: RFC 9110, sections 5.6.7, 8.8 and 13.
"""

from __future__ import annotations

import re
from calendar import timegm
from email.utils import formatdate, parsedate

from attrs import frozen

from tunnelstack.wire.http1.head import RequestHead, values

_TAG = rb'(?:W/)?"[!\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rb"[ \t,]*(?:" + _TAG + rb"[ \t]*(?:,[ \t,]*|\Z))+\Z")
_ONE_TAG = re.compile(_TAG)
_MONTHS = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME = rb"[0-2][0-9]:[0-5][0-9]:[0-6][0-9]"
_DATE = re.compile(
    rb"(?:[A-Z][a-z]{2}, [0-9]{2} " + _MONTHS + rb" [0-9]{4} " + _TIME + rb" GMT"
    rb"|[A-Z][a-z]{5,8}, [0-9]{2}-" + _MONTHS + rb"-[0-9]{2} " + _TIME + rb" GMT"
    rb"|[A-Z][a-z]{2} " + _MONTHS + rb" [ 0-9][0-9] " + _TIME + rb" [0-9]{4})\Z"
)


@frozen
class Validators:
    """
    What distinguishes one state of a representation from another.

    @ivar tag: an entity tag with its quotes.
    @ivar modified: when it was modified last, in whole seconds since 1970.
    @ivar strong: whether the two are the same for the same octets only.
    """

    tag: bytes
    modified: int
    strong: bool = True

    @property
    def entity_tag(self) -> bytes:
        """
        The value of C{ETag}.
        """
        return self.tag if self.strong else b"W/" + self.tag


def http_date(seconds: int) -> bytes:
    """
    @param seconds: since 1970.
    @return: a date as HTTP writes it.
    """
    return formatdate(seconds, usegmt=True).encode()


def read_date(value: bytes) -> int | None:
    """
    Read a date in one of HTTP's three forms.

    @return: seconds since 1970; C{None} if it is not a date.
    """
    if not _DATE.match(value):
        return None
    parts = parsedate(value.decode("latin-1"))
    try:
        return None if parts is None else timegm(parts)
    except (ValueError, OverflowError):
        return None


def precondition(head: RequestHead, validators: Validators) -> int:
    """
    Evaluate the conditions of a C{GET} or C{HEAD} request, in the order of section 13.2.2.

    @return: C{0} if the request is to be performed; otherwise the status of the response, 304 or 412.
    """
    if required := values(head.fields, b"if-match"):
        if not _names(required, validators, strong=True):
            return 412
    else:
        unmodified = _date(head, b"if-unmodified-since")
        if unmodified is not None and validators.modified > unmodified:
            return 412
    if known := values(head.fields, b"if-none-match"):
        return 304 if _names(known, validators, strong=False) else 0
    since = _date(head, b"if-modified-since")
    return 304 if since is not None and validators.modified <= since else 0


def range_applies(head: RequestHead, validators: Validators) -> bool:
    """
    @return: whether the condition C{If-Range} holds; true if there is none.
    """
    given = values(head.fields, b"if-range")
    if not given:
        return True
    if len(given) > 1 or not validators.strong:
        return False
    return given[0] == validators.tag or read_date(given[0]) == validators.modified


def _date(head: RequestHead, name: bytes) -> int | None:
    """
    @return: the date in a field; C{None} if it occurs more than once or holds anything else, for which it is ignored.
    """
    given = values(head.fields, name)
    return read_date(given[0]) if len(given) == 1 else None


def _names(given: list[bytes], validators: Validators, *, strong: bool) -> bool:
    """
    @return: whether a list of entity tags, or C{*}, names the representation.
    """
    value = b", ".join(given)
    if value.strip(b" \t") == b"*":
        return True
    if not _TAGS.match(value):
        return False
    tags = _ONE_TAG.findall(value)
    if strong:
        return validators.strong and validators.tag in tags
    return any(tag.removeprefix(b"W/") == validators.tag for tag in tags)
