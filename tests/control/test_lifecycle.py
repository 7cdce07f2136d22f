"""
The lifecycle of a process: its ends, its signals, its code.
"""

from __future__ import annotations

import signal
from typing import Any

from twisted.application.service import Application
from twisted.logger import ILogObserver
from twisted.trial.unittest import SynchronousTestCase

from tests.control.processes import RecordingReactor, Worker
from tunnelstack.control.process.exit_status import CredentialRefused, GaveUp
from tunnelstack.control.process.lifecycle import HANGUP_SECONDS, ProcessLifecycle
from tunnelstack.control.process.status_log import StatusLineObserver
from tunnelstack.control.process.terminal import ControllingTerminal
from tunnelstack.errors import ConfigurationError


class Window(ControllingTerminal):
    """
    A terminal that the test closes.
    """

    def __init__(self) -> None:
        self.closed = False
        super().__init__()

    def isClosed(self) -> bool:
        return self.closed


class LifeTests(SynchronousTestCase):
    """
    One service in a process.
    """

    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        signal.signal(signal.SIGHUP, signal.SIG_DFL)      # what runs the tests may ignore it, as nohup does

    def live(self, worker: Worker | None = None, **options: Any) -> ProcessLifecycle:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.reactor = RecordingReactor()
        self.worker = worker or Worker()
        self.window = Window()
        options.setdefault("terminal", lambda: self.window)
        lifecycle = ProcessLifecycle(self.reactor, self.worker, **options)
        lifecycle.startService()
        self.reactor.run()
        return lifecycle

    def hears(self, number: int) -> None:
        signal.raise_signal(number)

    def test_anEndGivesTheCode(self) -> None:
        for ending, code in ((GaveUp("no edge"), 69), (CredentialRefused("no"), 77), (ConfigurationError("wrong"), 78)):
            lifecycle = self.live()
            self.assertEqual(self.reactor.ends, [])
            self.worker.over.callback(ending)
            self.assertEqual((lifecycle.code, self.reactor.ends), (code, ["stop"]))

    def test_aStartThatFails(self) -> None:
        lifecycle = self.live(Worker(fails=ConfigurationError("wrong")))
        self.assertEqual((lifecycle.code, self.reactor.ends), (78, ["stop"]))

    def test_aStartThatFailsIsRaisedWhereTheParentProcessWaitsForIt(self) -> None:
        for error in (ConfigurationError("wrong"), ZeroDivisionError()):
            lifecycle = ProcessLifecycle(RecordingReactor(), Worker(fails=error))
            lifecycle.raises = True
            self.assertIs(self.assertRaises(type(error), lifecycle.startService), error)
            self.assertIs(lifecycle.error, error)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_anApplicationLogsAsTheServiceDoes(self) -> None:
        application = Application("edge")
        lifecycle = ProcessLifecycle(RecordingReactor(), Worker())
        lifecycle.logObserver = StatusLineObserver(str)
        lifecycle.setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), lifecycle.logObserver)

    def test_aDefectIsLoggedWithItsTraceback(self) -> None:
        lifecycle = self.live(Worker(fails=ZeroDivisionError()))
        self.assertEqual((lifecycle.code, self.reactor.ends), (70, ["stop"]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_termStopsAndASecondOneAtOnce(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            lifecycle = self.live()
            self.hears(number)
            self.assertEqual(self.reactor.ends, ["stop"])
            self.hears(number)
            self.assertEqual(self.reactor.ends, ["stop", "crash"])
            self.assertEqual(lifecycle.code, 0)

    def test_anEndWhileStoppingChangesNothing(self) -> None:
        lifecycle = self.live()
        self.hears(signal.SIGTERM)
        self.worker.over.callback(GaveUp("late"))
        self.assertEqual((lifecycle.code, self.reactor.ends), (0, ["stop"]))

    def test_hupReloadsAndAMistakeEndsNothing(self) -> None:
        def reload() -> None:
            asked.append(1)
            raise ConfigurationError("edge.toml:3: wrong")

        asked: list[int] = []
        self.live(reload=reload)
        self.hears(signal.SIGHUP)
        self.assertEqual((asked, self.reactor.ends), ([1], []))

    def test_hupWithoutAFileEndsNothing(self) -> None:
        self.live()
        self.hears(signal.SIGHUP)
        self.assertEqual(self.reactor.ends, [])

    def test_hupFromAClosedTerminalStops(self) -> None:
        asked: list[int] = []
        self.live(reload=lambda: asked.append(1))
        self.window.closed = True
        self.hears(signal.SIGHUP)
        self.assertEqual((asked, self.reactor.ends), ([], ["stop"]))

    def test_theShellSendsItAsWell(self) -> None:
        self.live()
        self.window.closed = True
        for _ in range(3):
            self.hears(signal.SIGHUP)
        self.assertEqual(self.reactor.ends, ["stop"])
        self.hears(signal.SIGTERM)
        self.assertEqual(self.reactor.ends, ["stop", "crash"])

    def test_aShellThatSendsItBeforeTheTerminalIsGone(self) -> None:
        asked: list[int] = []
        self.live(reload=lambda: asked.append(1))
        self.hears(signal.SIGHUP)
        self.assertEqual((asked, self.reactor.ends), ([1], []))
        self.window.closed = True
        self.reactor.advance(HANGUP_SECONDS)
        self.assertEqual(self.reactor.ends, ["stop"])

    def test_hupWithATerminalThatStaysReloads(self) -> None:
        asked: list[int] = []
        self.live(reload=lambda: asked.append(1))
        self.hears(signal.SIGHUP)
        self.reactor.advance(HANGUP_SECONDS)
        self.assertEqual((asked, self.reactor.ends), ([1], []))

    def test_aProcessThatNeverHadATerminalReloads(self) -> None:
        asked: list[int] = []

        def none() -> Window:
            window = Window()
            window.closed, window.matters = True, False
            return window

        self.live(reload=lambda: asked.append(1), terminal=none)
        self.hears(signal.SIGHUP)
        self.assertEqual((asked, self.reactor.ends, self.reactor.getDelayedCalls()), ([1], [], []))

    def test_afterNohupTheTerminalDoesNotMatter(self) -> None:
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        asked: list[int] = []
        self.live(reload=lambda: asked.append(1))
        self.window.closed = True
        self.hears(signal.SIGHUP)
        self.reactor.advance(HANGUP_SECONDS)
        self.assertEqual((asked, self.reactor.ends), ([1], []))

    def test_usr2ReportsTheState(self) -> None:
        asked: list[int] = []
        self.live(report=lambda: asked.append(1))
        self.hears(signal.SIGUSR2)
        self.assertEqual(asked, [1])
