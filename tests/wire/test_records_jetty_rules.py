"""
Which local server a request of a tunnel is for.
"""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.http1.head import Fields
from tunnelstack.wire.records.jetty_rules import RoutingRule, upstream_of


def path(prefix: str, port: int = 1) -> RoutingRule:
    return RoutingRule(match_type="path_prefix", path_prefix=prefix, local_host="a", local_port=port)


def header(name: str, value: str, port: int = 1) -> RoutingRule:
    return RoutingRule(match_type="header", header_name=name, header_value=value, local_host="a", local_port=port)


RULES = st.lists(
    st.one_of(
        st.sampled_from(("/", "/a", "/api", "/b")).map(path),
        st.tuples(st.sampled_from(("x", "X-A")), st.sampled_from("12")).map(lambda pair: header(*pair)),
        st.just(RoutingRule(match_type="geo_match", countries=("CH",), geo_invert=True, local_host="a", local_port=1)),
    ).flatmap(lambda rule: st.booleans().map(lambda enabled: evolve(rule, enabled=enabled))),
    max_size=8,
)
TARGETS = st.sampled_from((b"/", b"/a", b"/api/x?y", b"/b?/a", b"/c"))
FIELDS = st.lists(st.tuples(st.sampled_from((b"X", b"x-a")), st.sampled_from((b"1", b"2"))), max_size=3)


class RuleTests(SynchronousTestCase):
    def test_aRuleMatchesOrNot(self) -> None:
        """
        A rule, a target and fields; whether they match.
        """
        fields: Fields = [(b"X-Version", b"2"), (b"x-version", b"3"), (b"Name", b"M\xfcller")]
        for rule, target, matches in (
            (path("/api"), b"/api", True), (path("/api"), b"/api/x?y", True), (path("/api"), b"/apix", True),
            (path("/api"), b"/ap", False), (path("/api"), b"/API", False), (path("/api"), b"/x?/api", False),
            (path("/api?"), b"/api?x", False), (path("/%C3%A9"), "/é".encode(), True), (path("/a"), b"/%61", False),
            (path("/"), b"*", False), (path("/"), b"/", True),
            (header("x-VERSION", "2"), b"/", True), (header("X-Version", "3"), b"/", True),
            (header("X-Version", "2, 3"), b"/", False), (header("X-Version", "20"), b"/", False),
            (header("X-Versio", "2"), b"/", False), (header("name", "Müller"), b"/", True),
            (header("name", "müller"), b"/", False),
            (evolve(path("/"), enabled=False), b"/", False),
            (evolve(path("/"), match_type="geo_match", countries=("CH",)), b"/", False),
            (evolve(path("/"), match_type="geo_match", countries=("CH",), geo_invert=True), b"/", False),
        ):
            self.assertEqual(upstream_of([rule], target, fields), ("a", 1) if matches else None, (rule, target))

    def test_withoutRulesNothingIsChosen(self) -> None:
        self.assertIsNone(upstream_of((), b"/", []))

    @given(RULES, TARGETS, FIELDS)
    def test_theFirstThatMatchesDecides(self, rules: list[RoutingRule], target: bytes, fields: Fields) -> None:
        numbered = [evolve(rule, local_port=number) for number, rule in enumerate(rules, 1)]
        alone = [rule.local_port for rule in numbered if upstream_of([rule], target, fields)]
        self.assertEqual(upstream_of(numbered, target, fields), ("a", alone[0]) if alone else None)
