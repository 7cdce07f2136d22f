"""
For whose keys an edge vouches, and to whom.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.auth.key_vouching import VouchRule, parseVouchRule
from tunnelstack.errors import ConfigurationError

NAMES = ["alice@desk", "SHA256:abc"]


class WordTests(SynchronousTestCase):
    """
    One line.
    """

    def covers(self, text: str, user: str = "root", device: str = "lab.bench") -> bool:
        return parseVouchRule(text).covers(NAMES, user, device)

    def test_aRuleHasAKeyAUserAndADevice(self) -> None:
        self.assertEqual(parseVouchRule("deploy@lab.*"), VouchRule("*", "deploy", "lab.*"))
        self.assertEqual(parseVouchRule(" alice@desk  a@b.c@lab.bench "), VouchRule("alice@desk", "a@b.c", "lab.bench"))

    def test_allThreeMustFit(self) -> None:
        for text in ("*@*", "root@lab.bench", "r??t@lab.*", "alice@* root@*", "SHA256:abc *@*.bench"):
            self.assertTrue(self.covers(text), text)
        for text in ("deploy@*", "root@lab.other", "root@lab", "bob@* root@*", "SHA256:ab *@*", "alice *@*"):
            self.assertFalse(self.covers(text), text)

    def test_aKeyThatIsNotOurs(self) -> None:
        self.assertFalse(parseVouchRule("*@*").covers([], "root", "lab.bench"))

    def test_invalidRulesAreRejected(self) -> None:
        for text in ("", "root", "@lab.bench", "root@", "a b c@d", "alice@desk root"):
            with self.assertRaises(ConfigurationError):
                parseVouchRule(text)
