"""
The tokens of a state folder: written, read, revoked, by several at a time.
"""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.auth.token_store import TokenStore, quoted
from tunnelstack.control.auth.tokens import newToken
from tunnelstack.control.config.reader import Mistakes
from tunnelstack.control.config.records import TokenRecord
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.state_dir import StateDirectory


def record(name: str = "laptop", **more: object) -> TokenRecord:
    """
    Of a new token.
    """
    new = newToken()
    return TokenRecord(name=name, tokenSha256=new.tokenSha256, id=new.id, **more)  # type: ignore[arg-type]


class KeptTests(SynchronousTestCase):
    """
    One folder.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()) / "state"
        self.kept = TokenStore(StateDirectory(self.folder))

    def test_nothingIsThereAtFirst(self) -> None:
        self.assertEqual((self.kept.read(), self.kept.modificationStamp()), ((), ()))

    def test_whatIsAddedIsRead(self) -> None:
        records = (
            record(allow=("http:a-*", "tcp:1-2", "ssh"), share=True, expires=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
            record("b"), record("b", allow=('stream:"\\\x7f', "dial:ü")),
        )  # fmt: skip
        for each in records:
            self.kept.add(each)
        self.assertEqual(self.kept.read(), records)
        self.assertEqual(stat.S_IMODE(Path(self.kept.path).stat().st_mode), 0o600)

    def test_anIdentifierComesBeforeAName(self) -> None:
        one, two, three = record("a"), record("a"), record("b")
        for each in (one, two, three):
            self.kept.add(each)
        self.assertEqual(self.kept.revoke(one.id), (one,))
        self.assertEqual(self.kept.revoke("nobody"), ())
        self.assertEqual(self.kept.read(), (two, three))
        self.assertEqual(self.kept.revoke("a"), (two,))

    def test_aChangeIsSeen(self) -> None:
        stamps = {self.kept.modificationStamp()}
        for _ in range(3):
            self.kept.add(record())
            stamps.add(self.kept.modificationStamp())
        self.assertEqual(len(stamps), 4)

    def test_nothingIsWrittenWhereNothingChanges(self) -> None:
        self.kept.add(record())
        before = self.kept.modificationStamp()
        self.kept.revoke("nobody")
        self.assertEqual(self.kept.modificationStamp(), before)

    def test_aDamagedFileIsToldAndNotOverwritten(self) -> None:
        self.kept.add(record())
        path = Path(self.kept.path)
        for text in ("[[agent]]\nnam = 1\n", "expires", '[[token]]\nname = "a"\n'):
            path.write_text(text)
            self.assertRaises(Mistakes, self.kept.add, record())
            self.assertEqual(path.read_text(), text)

    def test_aTimeWithoutItsOffsetIsAMistake(self) -> None:
        self.kept.add(record(expires=datetime(2030, 1, 1, tzinfo=UTC)))
        path = Path(self.kept.path)
        path.write_text(path.read_text().replace("00Z", "00"))
        self.assertIn("expires must have an offset", str(self.assertRaises(Mistakes, self.kept.read)))

    def test_aFolderThatCannotBeIsTold(self) -> None:
        self.folder.parent.mkdir(parents=True)
        self.folder.write_text("")
        self.assertRaises(ConfigurationError, self.kept.add, record())

    def test_textIsQuotedAsTOML(self) -> None:
        self.assertEqual(quoted('a"\\\n\x7f'), '"a\\"\\\\\\n\\u007f"')
