"""
Agents that listen: the services of dialects whose edges dial.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.godoxy.agent_support import writeCertificates
from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.control.process.exit_status import CannotListen, TemporaryFailure, exitCode
from tunnelstack.dialect.godoxy.agent_settings import AgentSettings
from tunnelstack.errors import ConfigurationError
from tunnelstack.testing import Network

PORT = 8890


class ListeningTests(SynchronousTestCase):
    """
    An agent with one table of a dialect whose agents listen, and no edge.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.files = writeCertificates(Path(self.mktemp()))

    def agent(self, drainSeconds: float = 5.0, **settings: Any) -> AgentService:
        given: dict[str, Any] = {"datagrams": False, **self.files, **settings}
        config = AgentConfig(dialects={"godoxy": {"godoxy": (AgentSettings(**given),)}}, drainSeconds=drainSeconds)
        return AgentService(self.network, config, plugins=False)  # type: ignore[arg-type]

    def test_itListensFromTheStartToTheStop(self) -> None:
        agent = self.agent()
        ready = agent.whenReady()
        self.assertNoResult(ready)
        self.assertNotIn(PORT, self.network.ports)
        agent.startService()
        self.successResultOf(ready)
        self.assertIn(PORT, self.network.ports)
        self.assertEqual((agent.links, [each.description for each in agent.listeners]), ([], ["*:8890"]))
        agent.report()
        stopped = agent.stopService()
        self.network.settle()
        self.successResultOf(stopped)
        self.assertNotIn(PORT, self.network.ports)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_anAgentWithoutListenersIsReadyAtOnce(self) -> None:
        self.successResultOf(AgentService(self.network, AgentConfig(), plugins=False).whenReady())  # type: ignore[arg-type]

    def test_aTakenPortEndsTheAgent(self) -> None:
        self.network.listenTCP(PORT, Factory())
        agent = self.agent()
        failed = agent.whenFailed()
        agent.startService()
        why = self.successResultOf(failed)
        self.assertIsInstance(why, TemporaryFailure)
        self.assertIn("port 8890 is taken", str(why))
        self.assertNoResult(agent.whenReady())
        agent.stopService()

    def test_anAddressThatCannotBeUsedEndsTheAgent(self) -> None:
        agent = self.agent()

        def listenTCP(*arguments: Any) -> Any:
            raise OSError("no such address")

        self.network.listenTCP = listenTCP  # type: ignore[assignment]
        failed = agent.whenFailed()
        agent.startService()
        why = self.successResultOf(failed)
        self.assertIsInstance(why, CannotListen)
        self.assertEqual(exitCode(why), 78)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        agent.stopService()

    def test_aDrainHasItsTime(self) -> None:
        agent = self.agent(drainSeconds=3.0)
        agent.startService()
        aborted: list[bool] = []
        (listener,) = agent.listeners
        listener.drain = Deferred  # type: ignore[method-assign, assignment]
        session: Any = listener.session
        abort = session.abort
        session.abort = lambda: (aborted.append(True), abort())
        stopped = agent.stopService()
        self.network.passTime(2)
        self.assertEqual((self.successOrNone(stopped), aborted), (False, []))
        self.network.passTime(1)
        self.assertEqual((self.successOrNone(stopped), aborted), (True, [True]))

    def successOrNone(self, waited: Deferred[Any]) -> bool:
        return waited.called

    def test_theMemoryOfItsStreamsCounts(self) -> None:
        agent = self.agent()
        agent.startService()
        self.addCleanup(agent.stopService)
        self.assertIn(agent.listeners[0].session.memory, agent.budget._members)

    def test_aReloadReadsTheFilesAgain(self) -> None:
        agent = self.agent()
        agent.startService()
        self.addCleanup(agent.stopService)
        (listener,) = agent.listeners
        certificates: Any = listener._certificates  # type: ignore[attr-defined]
        before = certificates.contexts
        agent.reload(agent.config)
        self.assertIsNot(certificates.contexts, before)
        before = certificates.contexts
        Path(self.files["caFile"]).write_text("nothing")
        self.assertRaises(ConfigurationError, agent.reload, agent.config)
        self.assertIs(certificates.contexts, before)

    def test_filesThatCannotBeUsedAreErrorsOfTheStart(self) -> None:
        self.assertRaises(ConfigurationError, self.agent, caFile="/nowhere")
