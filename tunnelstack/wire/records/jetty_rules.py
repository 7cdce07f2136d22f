"""
Which local server a request of a tunnel is for: the routing rules, evaluated from the first to the last.  The first one that
matches decides.

Source: Jetty documentation, "Routing rules" and "Geographic routing".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from tunnelstack.wire.http1.head import Fields, values
from tunnelstack.wire.http1.target import percent_encoded

PATH_PREFIX, HEADER, GEO_MATCH = "path_prefix", "header", "geo_match"
MATCH_TYPES = (PATH_PREFIX, HEADER, GEO_MATCH)

PATH = re.compile("/[!-~]{0,254}")
"""The beginning of a path: printable ASCII, as targets are compared."""

FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,255}")
FIELD_VALUE = re.compile("(?=[^ \t])[\t -~\x80-\xff]{1,255}(?<=[^ \t])")
"""A value as it arrives: Latin-1 without blanks around it."""

COUNTRY = re.compile("[A-Za-z]{2}")
"""ISO 3166-1 alpha-2."""


@frozen(kw_only=True)
class RoutingRule:
    """
    Another local server for some requests.

    @ivar match_type: one of L{MATCH_TYPES}.
    @ivar path_prefix: a percent-encoded path; C{/api} matches C{/apix} as well.
    @ivar header_name: in any case.
    @ivar header_value: one of the field's values, exactly.
    @ivar countries: where visitors are.
    @ivar geo_invert: visitors who are not there.
    """

    match_type: str
    path_prefix: str = ""
    header_name: str = ""
    header_value: str = ""
    countries: tuple[str, ...] = ()
    geo_invert: bool = False
    local_host: str
    local_port: int
    enabled: bool = True


def upstream_of(rules: Sequence[RoutingRule], target: bytes, fields: Fields) -> tuple[str, int] | None:
    """
    @param target: of the request, with its query.
    @return: host and port of the first rule that matches; C{None} if none does.
    """
    if not rules:
        return None
    path = percent_encoded(target).partition(b"?")[0].decode("ascii")
    for rule in rules:
        if rule.enabled and _matches(rule, path, fields):
            return rule.local_host, rule.local_port
    return None


def _matches(rule: RoutingRule, path: str, fields: Fields) -> bool:
    """
    Where visitors are is not known, so that no rule for countries matches.
    """
    if rule.match_type == PATH_PREFIX:
        return path.startswith(rule.path_prefix)
    if rule.match_type == HEADER:
        return rule.header_value.encode("latin-1") in values(fields, rule.header_name.lower().encode("ascii"))
    return False
