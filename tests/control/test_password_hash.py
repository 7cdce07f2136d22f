"""
Lines with hashed passwords.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.password_hash import makePasswordEntry, parsePasswordEntry

SALT, HASH = "c2FsdHNhbHRzYWx0c2FsdA", "A" * 43
RIGHT = f"ada:$scrypt$ln=10,r=8,p=1${SALT}${HASH}"


class PasswordEntryTests(SynchronousTestCase):
    """
    L{parsePasswordEntry} and L{makePasswordEntry}.
    """

    def test_anEntryAcceptsItsPasswordAlone(self) -> None:
        entry = parsePasswordEntry(makePasswordEntry("ada", "secret: with a colon", ln=10))
        self.assertEqual(entry.user, "ada")
        self.assertTrue(entry.verify(b"secret: with a colon"))
        for wrong in (b"", b"secret", b"secret: with a colon\n"):
            self.assertFalse(entry.verify(wrong))

    def test_theHashIsThatOfRFC7914(self) -> None:
        """
        The third vector of its section 12.
        """
        entry = parsePasswordEntry(
            "u:$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$"
            "cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw"
        )
        self.assertTrue(entry.verify(b"pleaseletmein"))
        self.assertFalse(entry.verify(b"pleaseletmeout"))

    def test_theDefaultParametersAreWritten(self) -> None:
        self.assertRegex(makePasswordEntry("ada", "x"), r"^ada:\$scrypt\$ln=14,r=8,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$")

    def test_twoEntriesForOnePasswordDiffer(self) -> None:
        self.assertNotEqual(makePasswordEntry("ada", "x", ln=10), makePasswordEntry("ada", "x", ln=10))

    def test_theHashIsNotShown(self) -> None:
        self.assertEqual(repr(parsePasswordEntry(RIGHT)), "PasswordEntry(user='ada')")

    def test_malformedLinesAreRejected(self) -> None:
        for wrong in (
            "", "ada", "ada:secret", ":" + RIGHT.partition(":")[2], RIGHT + "$", RIGHT + "=", RIGHT.replace("scrypt", "argon2"),
            RIGHT.replace(SALT, "short"), RIGHT.replace(SALT, SALT[:13]), RIGHT.replace(HASH, "A" * 21),
            RIGHT.replace("A", "-"), RIGHT.replace("p=1", "p=1,x=2"), RIGHT + "\n", f"ada:scrypt:10:{SALT}:{HASH}",
        ):
            with self.assertRaisesRegex(ConfigurationError, "must be USER:.scrypt"):
                parsePasswordEntry(wrong)

    def test_parametersThatCostTooMuchOrTooLittleAreRejected(self) -> None:
        for wrong in ("ln=9,r=8,p=1", "ln=17,r=8,p=1", "ln=30,r=1,p=1", "ln=10,r=33,p=1", "ln=10,r=0,p=1", "ln=10,r=8,p=5"):
            with self.assertRaises(ConfigurationError):
                parsePasswordEntry(RIGHT.replace("ln=10,r=8,p=1", wrong))
        with self.assertRaisesRegex(ConfigurationError, "out of bounds: ln=21"):
            makePasswordEntry("ada", "x", ln=21)

    def test_namesThatWouldBreakTheFileAreRejected(self) -> None:
        for name in ("", "a:b", "a\nb", "a\0", "#a", " a", "a "):
            self.assertRaises(ConfigurationError, makePasswordEntry, name, "x", ln=10)

    @given(st.text(), st.text())
    @settings(max_examples=30, deadline=None)
    def test_everyLineThatIsMadeCanBeRead(self, user: str, password: str) -> None:
        password = password.encode("utf-8", "replace").decode()
        try:
            line = makePasswordEntry(user, password, ln=10)
        except ConfigurationError:
            return
        self.assertEqual(line.splitlines(), [line])
        self.assertTrue(parsePasswordEntry(line.strip()).verify(password.encode()))
