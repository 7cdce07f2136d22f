"""
Errors as people read them.
"""

from __future__ import annotations

from enum import Enum

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import PeerError, TunnelError
from tunnelstack.wire.printable_text import quoted


class Fault(Enum):
    """
    A reason.
    """

    TOO_LATE = 1


class MessageTests(SynchronousTestCase):
    """
    C{str} of an error.
    """

    def test_theDetailsFollowTheMessage(self) -> None:
        self.assertEqual(str(TunnelError("it broke", octets=3, name="a b")), "it broke (octets=3, name=a b)")
        self.assertEqual(str(TunnelError("it broke")), "it broke")

    def test_noDetailLooksLikePython(self) -> None:
        for value, shown in (
            (None, "none"), (b"a/b", "a/b"), (b"\xff", "\\xff"), (Fault.TOO_LATE, "too late"),
            (PeerError("no"), "no"), (ValueError(), "ValueError"),
        ):  # fmt: skip
            self.assertEqual(str(TunnelError("no", detail=value)), f"no (detail={shown})")

    def test_aDetailStaysOnItsLine(self) -> None:
        self.assertEqual(str(TunnelError("no", detail="a\nb\x1b[2J")), "no (detail=a\\nb\\x1b[2J)")


class QuoteTests(SynchronousTestCase):
    """
    What a person has written, in messages.
    """

    def test_textIsQuotedOnceAndPrintable(self) -> None:
        self.assertEqual(quoted("a b"), "'a b'")
        self.assertEqual(quoted("it's"), "'it's'")
        self.assertEqual(quoted(b"\xff\x1b"), "'\\xff\\x1b'")
        self.assertEqual(quoted("x" * 20, 5), "'xxxxx…'")
