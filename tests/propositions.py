"""
Whether the names of tests are propositions: each has a verb (L{tests.test_words}).

A name that fails is a fragment (C{test_trailers}), or has a verb or a plural that the lists below do not have yet.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path


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
    accept acknowledge add agree allow appear apply arrive ask become begin belong came change check claim close
    combine come concern connect contain cost count create cut delay deny depend dial die differ displace drain drop
    encode end ended escape exceed exist expect expire extend fail fall fill find finish fire fit flow follow forward
    gave give go grow hold ignore import include interleave interrupt jump keep know lead leave left let limit listen
    live look lose make match mean meet mirror miss move name need notify occur open outlive overtake own parse pass
    pause point poll precede provide publish put raise reach read receive reconnect refuse register reject remove
    repeat replace request require reset resolve restart retry return reuse rise run say see select send serve share
    show shrink skip split stand start stay stop store succeed support survive switch take tell travel trust try turn
    type understood update use verify wait wake want warn went win work wrap write wrote yield
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
    files findings flags flows folders forms fragments frames gaps globs halves handlers handshakes hashes
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
