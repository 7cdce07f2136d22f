"""
What was written is on the network before the reactor has its next turn.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.testing import Wire
from tunnelstack.transport.push import nothing, pusher


class _Reactor:
    """
    Remembers who wants to write.
    """

    def __init__(self) -> None:
        self.writers: set[Any] = set()

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def removeReader(self, reader: Any) -> None:
        pass


class _Socket(FileDescriptor):
    """
    A descriptor that writes to a real socket, as Twisted's TCP does.
    """

    def __init__(self, reactor: Any, near: socket.socket) -> None:
        super().__init__(reactor)
        self.connected = 1
        self._near = near

    def writeSomeData(self, data: bytes) -> int:
        return self._near.send(data)


class PushTests(SynchronousTestCase):
    """
    Over a pair of sockets, without a reactor that runs.
    """

    def setUp(self) -> None:
        self.near, self.far = socket.socketpair()
        for end in (self.near, self.far):
            end.setblocking(False)
            self.addCleanup(end.close)
        self.reactor = _Reactor()
        self.transport = _Socket(self.reactor, self.near)

    def test_itLeavesAtOnce(self) -> None:
        push = pusher(self.transport)
        self.transport.write(b"octets")
        self.assertRaises(BlockingIOError, self.far.recv, 100)
        push()
        self.assertEqual(self.far.recv(100), b"octets")
        self.assertEqual(self.reactor.writers, set())

    def test_aConnectionThatEndsIsLeftToTheReactor(self) -> None:
        push = pusher(self.transport)
        self.transport.write(b"octets")
        self.transport.loseConnection()
        push()
        self.assertRaises(BlockingIOError, self.far.recv, 100)

    def test_whatCannotBeHurriedIsNot(self) -> None:
        self.assertIs(pusher(Wire().near), nothing)

    def test_aWrapperIsAskedForWhatLiesBelow(self) -> None:
        class Wrapper:
            def pusher(wrapper) -> Any:
                return pusher(self.transport)

        push = pusher(Wrapper())
        self.transport.write(b"octets")
        push()
        self.assertEqual(self.far.recv(100), b"octets")
