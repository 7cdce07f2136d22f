"""
The names of tests are propositions: each has a verb.

A name that fails here is a fragment (C{test_trailers}), or has a verb or a plural that the lists below do not have yet.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TESTS = Path(__file__).resolve().parent


def wordList(text: str) -> frozenset[str]:
    """
    The words of a list.
    """
    return frozenset(text.split())


AUXILIARIES = wordList(
    "are be can cannot could did do does get go had has have is may must should was were will would"
)

OTHER_VERBS = wordList(
    """
    accept acknowledge agree appear apply arrive ask become begin belong came change check claim come concern connect
    cost count cut delay dial die differ displace end ended extend fail fall fill find finish fire fit flow follow gave
    give go hold import interleave jump keep know lead leave left let limit live look lose match mean meet mirror miss
    name need open outlive overtake own pass pause point precede provide put reach read reconnect refuse reject
    replace request reset return rise run say see send share stand stay stop succeed survive take tell travel type
    understood use verify wait want went win work wrap wrote yield
    """
)
"""Verbs in the form that follows a plural, and in the past, as the names of our tests have them."""

PLURAL_NOUNS = wordList(
    """
    acceptances actions addresses afterwards agents always ambiguous announcements anothers appearances applications
    arguments askers assets atls attributes authentications authorities batches bits bodies boundaries bounds braces
    brackets bytes capitals certificates channels characters checkers choices chunks circles claims classes clients
    codes colons colours combinations commands complaints conditions configurations connections contents
    contradictions controls conversations cookies credentials datagrams dates deadlines defaults defects descriptors
    details developers devices dialects digests directions docstrings documents doors duplicates edges endpoints
    entries envelopes errors events examples exchanges expectations expressions factories failures families fields
    files findings flags flows folders forms fragments frames gaps globs grants halves handlers handshakes hashes
    headers heads heartbeats hellos hints hops hostnames hosts https identifiers imports initiators inputs interfaces
    intervals irregularities jobs keys kinds leftovers lengths letters libraries lines links listeners logins meanings
    measurements members messages methods milliseconds misses mistakes modules neighbours networks newcomers nobodys
    numbers objects observers octets openings options others ours outputs owners packages pages parameters parts
    passwords paths peers pieces pipes plugins policies pongs ports principals processes producers programs protocols
    providers proxys questions ranges readers receivers records redirects refusals rejections reloads requests
    responders responses restarts rights roots routes rows rules sandboxes schemes seconds secrets seeds senders
    sentences servers services sessions settings sides sizes slashes sockets sources spellings stars status statuses
    strangers streams strings systems tables targets tenants terminals tests theirs themselves things this thousands
    threads timers tokens trailers transcripts transports twins twisteds types upgrades urls users values vectors
    versions visitors ways wildcards windows words zeros
    """
)
"""Words that end like a verb of the third person, and are none."""

CLAUSES = frozenset({"how", "what", "where", "who", "whom", "whose"})
"""What these begin is a clause with a verb of its own, and is the subject of another."""


OF_TWISTED = frozenset({"test_lostFileDescriptor"})
"""Tests of Twisted that ours replace."""


def words(name: str) -> list[str]:
    """
    C{"test_aWordIsFound"} is C{"a"}, C{"word"}, C{"is"} and C{"found"}.
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name.removeprefix("test_"))]


def isVerb(word: str) -> bool:
    """
    Whether a word is a verb in the present tense, or an auxiliary.
    """
    if word in AUXILIARIES or word in OTHER_VERBS:
        return True
    return len(word) > 3 and word.endswith("s") and not word.endswith("ss") and word not in PLURAL_NOUNS


def isProposition(name: str) -> bool:
    """
    Whether the name of a test has a verb, and one more if it begins with a clause.
    """
    found = words(name)
    return sum(map(isVerb, found)) > (found[0] in CLAUSES)


def names(path: Path) -> Iterator[str]:
    """
    The tests that a module defines.
    """
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            yield node.name


class PropositionTests(SynchronousTestCase):
    """
    Every test of the project.
    """

    def test_everyNameHasAVerb(self) -> None:
        wrong = [
            f"{path.relative_to(TESTS)}: {name}"
            for path in sorted(TESTS.rglob("*.py"))
            for name in names(path)
            if not isProposition(name) and name not in OF_TWISTED
        ]
        self.assertEqual(wrong, [])

    def test_fragmentsAreFound(self) -> None:
        for name in ("test_trailers", "test_bad", "test_theLastRequests", "test_whatIsNone", "test_notForEver"):
            self.assertFalse(isProposition(name), name)
        for name in ("test_aClosedStreamRefusesWrites", "test_trailersArrive", "test_whatIsNoneIsRejected", "test_itMayWait"):
            self.assertTrue(isProposition(name), name)
