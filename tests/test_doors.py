"""
Which door a request belongs to.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.doors import DoorTable, HTTPDoor
from tunnelstack.errors import ConfigurationError


class DoorTableTests(SynchronousTestCase):
    """
    L{DoorTable.find}.
    """

    def setUp(self) -> None:
        self.table = DoorTable()

    def door(self, path: bytes, method: bytes = b"", prefix: bool = False) -> HTTPDoor:
        door = HTTPDoor(path=path, server=object(), method=method, prefix=prefix)
        self.table.add(door)
        return door

    def test_anExactPathIsFoundForEveryMethod(self) -> None:
        door = self.door(b"/_tunnel/1")
        for method in (b"GET", b"CONNECT"):
            self.assertIs(self.table.find(method, b"/_tunnel/1"), door)

    def test_otherPathsAreNotFound(self) -> None:
        self.door(b"/_tunnel/1")
        for path in (b"/_tunnel/1/", b"/_tunnel", b"/_tunnel/1/x", b"/", b"", b"*"):
            self.assertIs(self.table.find(b"GET", path), None)

    def test_aDoorForOneMethodComesBeforeTheDoorForAll(self) -> None:
        rest, post = self.door(b"/x"), self.door(b"/x", b"POST")
        self.assertIs(self.table.find(b"POST", b"/x"), post)
        self.assertIs(self.table.find(b"GET", b"/x"), rest)

    def test_aDoorForOneMethodIsForNoOther(self) -> None:
        self.door(b"/x", b"POST")
        self.assertIs(self.table.find(b"GET", b"/x"), None)

    def test_aPrefixEndsWithASegment(self) -> None:
        door = self.door(b"/api", prefix=True)
        for path in (b"/api", b"/api/", b"/api/a/b", b"/api//"):
            self.assertIs(self.table.find(b"GET", path), door)
        for path in (b"/apis", b"/ap", b"/x/api", b"/"):
            self.assertIs(self.table.find(b"GET", path), None)

    def test_aPrefixMayBeWrittenWithASlash(self) -> None:
        door = self.door(b"/api/", prefix=True)
        self.assertIs(self.table.find(b"GET", b"/api/a"), door)

    def test_aPrefixMayCoverEverything(self) -> None:
        door = self.door(b"/", prefix=True)
        for path in (b"/", b"/a/b"):
            self.assertIs(self.table.find(b"GET", path), door)

    def test_anExactPathComesBeforeAPrefixAndALongPrefixBeforeAShort(self) -> None:
        short, long = self.door(b"/a", prefix=True), self.door(b"/a/b", prefix=True)
        exact = self.door(b"/a/b/c")
        self.assertIs(self.table.find(b"GET", b"/a/b/c"), exact)
        self.assertIs(self.table.find(b"GET", b"/a/b/d"), long)
        self.assertIs(self.table.find(b"GET", b"/a/c"), short)

    def test_aPrefixForAnotherMethodHidesNoShorterOne(self) -> None:
        short = self.door(b"/a", prefix=True)
        self.door(b"/a/b", b"POST", prefix=True)
        self.assertIs(self.table.find(b"GET", b"/a/b/c"), short)

    def test_everyDoorIsOnAPathThatIsKnownWithoutASearch(self) -> None:
        paths = b"/", b"", b"*", b"/a", b"/a/", b"/a/b", b"/ab", b"/x", b"/x/", b"/x/y", b"http://a/x"
        for prefix in (None, b"/", b"/x", b"/x/"):
            self.table = DoorTable()
            self.door(b"/a")
            if prefix is not None:
                self.door(prefix, prefix=True)
            for path in paths:
                known = path in self.table.paths or path.startswith(self.table.prefixes)
                self.assertTrue(known or self.table.find(b"GET", path) is None, (prefix, path))
            self.assertEqual(b"/b" in self.table.paths or b"/b".startswith(self.table.prefixes), prefix == b"/")

    def test_twoClaimsForTheSameAreAnError(self) -> None:
        self.door(b"/x", b"POST")
        self.door(b"/x", b"GET")
        self.door(b"/x", b"GET", prefix=True)
        for method, prefix in ((b"GET", False), (b"GET", True)):
            with self.assertRaises(ConfigurationError) as raised:
                self.door(b"/x", method, prefix)
            self.assertIn("GET of /x", str(raised.exception))
