"""
What systemd is told, and the sockets it hands over.
"""

from __future__ import annotations

import os
import socket
import tempfile

from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.internet.task import Clock
from twisted.plugin import getPlugins
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase

from tests.control.processes import RecordingReactor, Worker
from tunnelstack.control.process.lifecycle import ProcessLifecycle
from tunnelstack.control.process.systemd import Notifier, activatedSockets
from tunnelstack.errors import ConfigurationError


class Systemd(SynchronousTestCase):
    """
    A socket that listens like systemd's.
    """

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "notify")
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.listening.close)
        self.listening.bind(self.path)
        self.listening.setblocking(False)

    def heard(self) -> list[str]:
        """
        What was said since the last time, a message an item.
        """
        found = []
        while True:
            try:
                found.append(self.listening.recv(4096).decode())
            except BlockingIOError:
                return found


class NotifierTests(Systemd):
    """
    The words, and when they are said.
    """

    def test_nobodyIsToldWhereNobodyAsked(self) -> None:
        Notifier({}).ready()
        self.assertEqual(self.heard(), [])

    def test_systemdIsSentItsWords(self) -> None:
        notifier = Notifier({"NOTIFY_SOCKET": self.path})
        notifier.ready()
        notifier.stopping(30)
        notifier.reloading()
        ready, stopping, reloading = self.heard()
        self.assertEqual((ready, stopping), ("READY=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000"))
        self.assertRegex(reloading, r"\ARELOADING=1\nMONOTONIC_USEC=\d+\Z")

    def test_abstractSocketsAreReached(self) -> None:
        name = f"tunnelstack-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(f"\0{name}")
            Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
            self.assertEqual(listening.recv(100), b"READY=1")

    def test_aSocketThatIsGoneIsNoMishap(self) -> None:
        Notifier({"NOTIFY_SOCKET": self.path + "x"}).ready()

    def test_theWatchdogIsFedTwiceAsOften(self) -> None:
        clock = Clock()
        environ = {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "77"}
        quiet = Notifier(environ, 77).startWatchdog(clock)
        clock.pump([1.0] * 6)
        self.assertEqual(self.heard(), ["WATCHDOG=1"] * 4)
        quiet()
        clock.pump([1.0] * 6)
        self.assertEqual(self.heard(), [])
        Notifier(environ, 78).startWatchdog(clock)     # it was meant for another process
        self.assertEqual((self.heard(), clock.getDelayedCalls()), ([], []))

    def test_eachStepOfAProcessIsNotified(self) -> None:
        self.patch(ProcessLifecycle, "_watchSignals", lambda lifecycle: None)
        worker, reactor = Worker(), RecordingReactor()
        reactor.run()
        lifecycle = ProcessLifecycle(reactor, worker, reload=lambda: ("done",), notifier=Notifier({"NOTIFY_SOCKET": self.path}))
        lifecycle.startService()
        self.assertEqual(self.heard(), [])
        worker.ready.callback(None)
        self.assertEqual(self.heard(), ["READY=1"])
        self.assertEqual(self.successResultOf(lifecycle.reload()), ("done",))
        self.assertEqual([said.partition("\n")[0] for said in self.heard()], ["RELOADING=1", "READY=1"])
        lifecycle.stopService()
        self.assertEqual([said.partition("\n")[0] for said in self.heard()], ["STOPPING=1"])

    def test_aReloadThatFailsIsOverToo(self) -> None:
        def wrong() -> None:
            raise ConfigurationError("line 3")

        notifier = Notifier({"NOTIFY_SOCKET": self.path})
        lifecycle = ProcessLifecycle(RecordingReactor(), Worker(), reload=wrong, notifier=notifier)
        self.failureResultOf(lifecycle.reload(), ConfigurationError)
        self.assertEqual(self.heard()[-1], "READY=1")


class ActivationTests(SynchronousTestCase):
    """
    Sockets that were handed over.
    """

    def test_thereAreNone(self) -> None:
        self.assertEqual(activatedSockets(), ())

    def test_whatIsNoListeningSocketIsPassedOver(self) -> None:
        unix = socket.socket(socket.AF_UNIX)
        with socket.socket() as here, socket.socket() as silent, open(os.devnull) as file, unix:
            here.bind(("127.0.0.1", 0))
            here.listen()
            unix.bind(f"\0tunnelstack-test-{os.getpid()}")
            unix.listen()
            handed = ListenFDs([silent.fileno(), here.fileno(), file.fileno(), unix.fileno(), 9999], list("abcde"))
            [parser] = [each for each in getPlugins(IStreamServerEndpointStringParser) if each.prefix == "systemd"]
            self.patch(type(parser), "_sddaemon", handed)
            self.assertEqual(activatedSockets(), ("systemd:domain=INET:index=1", "systemd:domain=UNIX:index=3"))
