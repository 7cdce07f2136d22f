"""
What the access log of an agent says of requests whose heads repeat.
"""

from __future__ import annotations

from unittest.mock import Mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.agent import service_kinds
from tunnelstack.agent.service_kinds import ExchangeFactory
from tunnelstack.control.access_record import Descriptions
from tunnelstack.wire.http1.message import MessageReader

HEAD = b"GET /%b HTTP/1.1\r\nHost: app.example\r\nX-Forwarded-For: %b\r\n"


class RequestDescriptionTests(SynchronousTestCase):
    """
    Descriptions are kept by what such heads have in common.
    """

    def setUp(self) -> None:
        context = Mock(
            reactor=Clock(), recorder=None, counts=None, requestObserver=lambda _: None, tracer=None, isRecorded=True,
            descriptions=Descriptions("agent"),
        )  # fmt: skip
        self.factory = ExchangeFactory(Mock(), context, "app")

    def described(self, *heads: bytes) -> list[tuple[str, str, str, str]]:
        """
        @return: host, target, visitor and service of requests that one reader read.
        """
        reader, said = MessageReader(), []
        for octets in heads:
            reader.receive(octets + b"\r\n")
            head = reader.read_request()
            assert head is not None
            found = self.factory._describe(Mock(head=head, host=head.framing.host))
            said.append((found.host, found.target, found.visitor, found.service))
        return said

    def head(self, path: bytes, visitor: bytes, last: bytes = b"X-Request-Id: %x\r\n") -> list[bytes]:
        return [HEAD % (path, visitor) + (last % number if b"%" in last else last) for number in range(5)]

    def test_requestsThatDifferInTheirIdentifier(self) -> None:
        expected = ("app.example", "/a", "192.0.2.1", "app")
        self.assertEqual(self.described(*self.head(b"a", b"192.0.2.1")), 5 * [expected])
        self.assertEqual(len(self.factory._described), 1)

    def test_othersAreDescribedAsTheyAre(self) -> None:
        heads = [*self.head(b"a", b"192.0.2.1"), *self.head(b"b", b"192.0.2.1"), *self.head(b"b", b"192.0.2.2")]
        self.assertEqual(
            [(target, visitor) for _, target, visitor, _ in self.described(*heads, *heads)],
            2 * (5 * [("/a", "192.0.2.1")] + 5 * [("/b", "192.0.2.1")] + 5 * [("/b", "192.0.2.2")]),
        )

    def test_aLastFieldThatIsTheAddress(self) -> None:
        heads = [b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.%d\r\n" % number for number in range(5)]
        self.assertEqual([visitor for _, _, visitor, _ in self.described(*heads)], [f"192.0.2.{n}" for n in range(5)])

    def test_theirNumberIsBounded(self) -> None:
        self.patch(service_kinds, "MOST_DESCRIPTIONS", 3)
        for number in range(9):
            self.described(*self.head(b"%d" % number, b"192.0.2.1"))
            self.assertLessEqual(len(self.factory._described), 3)
