"""
The methods of configuration records, beside those that attrs makes.
"""

from __future__ import annotations

from attrs import field, frozen
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.settings.record import Record


@frozen(kw_only=True, eq=False, repr=False)
class Place(Record):
    """
    With the methods of L{Record}.
    """

    host: str
    port: int = 80
    token: str = field(default="", repr=False)
    seen: int = field(default=0, eq=False)


@frozen(kw_only=True, eq=False, repr=False)
class Other(Record):
    """
    A class of the same form.
    """

    host: str
    port: int = 80
    token: str = ""
    seen: int = 0


Made = frozen(kw_only=True)(type("Place", (), {
    "__annotations__": {"host": str, "port": int, "token": str, "seen": int}, "port": 80,
    "token": field(default="", repr=False), "seen": field(default=0, eq=False), "__qualname__": "Place",
}))  # fmt: skip
"""The same class, with the methods that attrs makes."""

CASES = ({}, {"port": 81}, {"token": "secret"}, {"seen": 2})


class RecordTests(SynchronousTestCase):
    """
    L{Record}.
    """

    def test_itComparesAsAttrsDoes(self) -> None:
        for one in CASES:
            for other in CASES:
                expected = Made(host="a", **one) == Made(host="a", **other)
                self.assertEqual(Place(host="a", **one) == Place(host="a", **other), expected, (one, other))
                if expected:
                    self.assertEqual(hash(Place(host="a", **one)), hash(Place(host="a", **other)))

    def test_anotherClassIsNotEqual(self) -> None:
        self.assertNotEqual(Place(host="a"), Other(host="a"))
        self.assertNotEqual(Place(host="a"), "a")

    def test_itIsShownAsAttrsDoes(self) -> None:
        for case in CASES:
            self.assertEqual(repr(Place(host="a", **case)), repr(Made(host="a", **case)))

    def test_aSecretIsNotShown(self) -> None:
        self.assertNotIn("secret", repr(Place(host="a", token="secret")))
