"""
Permissions: what was granted is allowed, and nothing else.
"""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.auth.permissions import (
    EVERY_PORT,
    matches,
    parsePermissions,
    parsePorts,
    permissionsOf,
)
from tunnelstack.errors import ConfigurationError
from tunnelstack.records import Principal


class RightsTests(SynchronousTestCase):
    """
    What the words of the grammar allow.
    """

    def test_nothingIsAllowedByItself(self) -> None:
        rights = permissionsOf(Principal(agent="laptop"))
        self.assertFalse(rights.mayServe("laptop"))
        self.assertFalse(rights.mayStream("laptop"))
        self.assertFalse(rights.mayDial("laptop", "laptop/laptop"))
        self.assertFalse(rights.mayUsePort(20000))
        self.assertFalse(rights.ssh)

    def test_eachRightAllowsItsOwn(self) -> None:
        rights = parsePermissions(["http:web-*", "stream:db", "dial:laptop/*", "tcp:20000-20002", "tcp:9", "udp:53", "ssh"])
        self.assertTrue(rights.mayServe("web-1"))
        self.assertFalse(rights.mayServe("db"))
        self.assertTrue(rights.mayStream("db"))
        self.assertFalse(rights.mayStream("web-1"))
        self.assertTrue(rights.mayDial("db", "laptop/db"))
        self.assertFalse(rights.mayDial("db", "desktop/db"))
        self.assertEqual([port for port in range(1, 65536) if rights.mayUsePort(port)], [9, 20000, 20001, 20002])
        self.assertEqual(rights.udp, (range(53, 54),))
        self.assertTrue(rights.ssh)

    def test_whatIsNoRightIsRefusedWithASentence(self) -> None:
        for wrong in ("", "http", "http:", "web:x", "SSH", "ssh:", "tcp:x", "tcp:0", "tcp:65536", "tcp:5-4", "tcp:1-", "tcp:٣"):
            with self.assertRaises(ConfigurationError, msg=wrong):
                parsePermissions([wrong])

    def test_terminalsHaveARightOfTheirOwn(self) -> None:
        rights = parsePermissions(["terminal:lab-*", "dial:*", "ssh"])
        self.assertTrue(rights.mayOpenTerminal("lab-1"))
        self.assertFalse(rights.mayOpenTerminal("other"))
        self.assertFalse(parsePermissions(["dial:*", "ssh", "stream:*", "http:*"]).mayOpenTerminal("lab-1"))

    def test_rangesOfPortsAreParsed(self) -> None:
        self.assertEqual(parsePorts("*"), EVERY_PORT)
        self.assertEqual(parsePorts("65535"), range(65535, 65536))
        self.assertEqual(parsePorts("1-65535"), EVERY_PORT)


class GlobTests(SynchronousTestCase):
    """
    Stars and question marks.
    """

    def test_globsMatchWholeNames(self) -> None:
        for glob, name, meant in (
            ("*", "", True), ("a", "a", True), ("a", "ab", False), ("a*", "a", True), ("*-x", "a-x-x", True), ("?", "", False),
            ("a?c", "abc", True), ("[a]", "a", False), ("[a]", "[a]", True), ("a.c", "abc", False), ("A", "a", False),
        ):  # fmt: skip
            self.assertIs(matches(glob, name), meant, (glob, name))

    @given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
    def test_globsAgreeWithRegularExpressions(self, glob: str, name: str) -> None:
        pattern = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in glob)
        self.assertIs(matches(glob, name), re.fullmatch(pattern, name) is not None)

    def test_manyStarsCostNoTime(self) -> None:
        began = time.perf_counter()
        self.assertFalse(matches("*a" * 30 + "b", "a" * 250))
        self.assertLess(time.perf_counter() - began, 5)     # a backtracking matcher would take longer than the universe
