"""
What is made of peers' text before people see it.
"""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.printable_text import CUT, LINES, printable, printable_lines

ANY = st.text(st.characters(exclude_categories=()))
"""Every code point there is, surrogates included."""

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Categories of what is no visible character."""


class PrintableTests(SynchronousTestCase):
    """
    One line of visible characters.
    """

    def test_controlsAreEscaped(self) -> None:
        for text, shown in (
            ("\x1b[2J", r"\x1b[2J"), ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"), ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\x00\x7f", r"\x00\x7f"), ("\x9b31m", r"\x9b31m"), ("\x85", r"\x85"),
        ):  # fmt: skip
            self.assertEqual(printable(text), shown)

    def test_whatReordersHidesOrSeparatesIsEscaped(self) -> None:
        for character in (
            "\u202e", "\u2066", "\u200f", "\u061c", "\u200b", "\u200d", "\u2060", "\ufeff", "\xad", "\u2028", "\u2029", "\xa0",
            "\u3000", "\ud800", "\udc80", "\U000e0041", "\U000e0100", "\u034f", "\u115f", "\u3164", "\u2800", "\ufe0f",
            "\ue000", "\uffff",
        ):  # fmt: skip
            shown = printable(f"a{character}b")
            self.assertTrue(shown.isascii(), shown)
            self.assertEqual(shown.encode("ascii").decode("unicode_escape"), f"a{character}b")

    def test_visibleTextStaysAsItIs(self) -> None:
        for text in ("", "Zoë's laptop", "日本語", "русский", "עברית", "नमस्ते", "C:\\x1b", "🚇", "a b"):
            self.assertEqual(printable(text), text)

    def test_aLongTextIsCutAndNeverWithinAnEscape(self) -> None:
        self.assertEqual(printable("abcdef", 6), "abcdef")
        self.assertEqual(printable("abcdefg", 6), "abcdef" + CUT)
        self.assertEqual(printable("abc\x1b", 6), "abc" + CUT)
        self.assertEqual(printable("ab\x1b", 6), r"ab\x1b")

    @given(ANY, st.integers(1, 40))
    def test_nothingElseComesOut(self, text: str, limit: int) -> None:
        shown = printable(text, limit)
        self.assertLessEqual(len(shown), limit + len(CUT))
        self.assertEqual([c for c in shown if unicodedata.category(c) in HIDDEN], [])
        self.assertEqual(len(shown.splitlines() or [""]), 1)
        self.assertEqual(shown.encode().decode(), shown)
        self.assertEqual(printable(shown, limit), shown)


class LinesTests(SynchronousTestCase):
    """
    Several lines, none of which can pass for another's.
    """

    def test_linesAfterTheFirstAreIndented(self) -> None:
        text = "a\r\nsite  http://bank.example\x1b[2J\n\u2028c\n"
        self.assertEqual(printable_lines(text, "  "), "a\n  site  http://bank.example\\x1b[2J\n  \\u2028c")

    def test_linesAreCountedAndBounded(self) -> None:
        shown = printable_lines("x\n" * (LINES + 5)).split("\n")
        self.assertEqual((len(shown), shown[-1]), (LINES + 1, f"{CUT} 5 more lines"))
        self.assertEqual(printable_lines("abc\nabcd", limit=3), f"abc\nabc{CUT}")

    @given(ANY)
    def test_noLineBeginsAtTheMargin(self, text: str) -> None:
        first, *rest = printable_lines(text, "    ").split("\n")
        self.assertEqual(len((first or "x").splitlines()), 1)
        for line in rest:
            self.assertTrue(line.startswith("    "))
            self.assertEqual(len(line.splitlines()), 1)
