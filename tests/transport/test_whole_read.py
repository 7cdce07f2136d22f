"""
What one read of the network has brought by TLS is delivered together.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.certificates import authority, edge
from tests.transport.test_websocket import Collect, factoryOf
from tunnelstack.testing import Wire
from tunnelstack.transport.tls import clientContext, serverContext, tlsFactory
from tunnelstack.transport.whole_read import wholeRead


class Taking(Collect):
    """
    Takes all records with the first.
    """

    def dataReceived(self, data: bytes) -> None:
        take = wholeRead(self.transport)
        assert take is not None
        super().dataReceived(take(data))


class WholeReads(SynchronousTestCase):
    """
    Two ends of TLS in memory.
    """

    def setUp(self) -> None:
        self.wire, self.near, self.far = Wire(), Collect(), Taking()
        server = tlsFactory(serverContext(edge()), False, factoryOf(self.far), self.wire.clock)
        context = clientContext("edge.example", ca=[authority().certificate])
        self.ours: Any = server.buildProtocol(None)
        self.wire.connect(tlsFactory(context, True, factoryOf(self.near), self.wire.clock).buildProtocol(None), self.ours)
        self.wire.settle()

    def encrypted(self, octets: bytes) -> bytes:
        connection = self.near.transport._tlsConnection
        connection.sendall(octets)
        return bytes(connection.bio_read(2 * len(octets) + 1000))

    def test_allRecordsArriveTogether(self) -> None:
        octets = os.urandom(100_000)
        self.ours.dataReceived(self.encrypted(octets))
        self.assertEqual(self.far.pieces, [octets])

    def test_aPartOfARecordIsLeftUntilItsEnd(self) -> None:
        octets = os.urandom(40_000)
        sent = self.encrypted(octets)
        self.ours.dataReceived(sent[:30_000])
        self.ours.dataReceived(sent[30_000:])
        self.assertEqual([len(piece) for piece in self.far.pieces], [16384, 23616])
        self.assertEqual(self.far.got, octets)

    def test_anEndBehindThemIsMet(self) -> None:
        octets = os.urandom(40_000)
        sent = self.encrypted(octets)
        self.near.transport._tlsConnection.shutdown()
        self.ours.dataReceived(sent + self.near.transport._tlsConnection.bio_read(1000))
        self.wire.settle()
        self.assertEqual(self.far.pieces, [octets])
        self.assertTrue(self.far.reason.check(ConnectionDone))

    def test_aFaultBehindThemIsMet(self) -> None:
        octets = os.urandom(40_000)
        sent = bytearray(self.encrypted(octets))
        sent[-1] ^= 1
        self.ours.dataReceived(bytes(sent))
        self.wire.settle()
        self.assertEqual(self.far.got, octets[:32768])
        self.assertFalse(self.far.reason.check(ConnectionDone), self.far.reason)

    def test_otherTransportsHaveNoRecords(self) -> None:
        self.assertIsNone(wholeRead(self.wire.near))
