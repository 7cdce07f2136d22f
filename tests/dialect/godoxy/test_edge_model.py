"""
An agent that comes, goes, and lacks what it had before, in whatever order Hypothesis likes: what is public is what the agent
carries.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.internet.error import ConnectionAborted
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.godoxy.edge_support import AgentDouble, GodoxyEdgeCase, Sessions, tcp, udp, web
from tests.dialect.godoxy.test_edge_store import makeArchive
from tunnelstack.dialect.godoxy.edge_agent import DOWN, LIMITED, UP
from tunnelstack.exchange.whole_message import WholeResponse

SERVICES = {"wiki": web(), "game": tcp(), "names": udp()}
PUBLIC = {"game": 25565, "names": 5353}

mostly = st.sampled_from((True, True, True, False))

QUIET_SECONDS = 130.0
"""Longer than the longest wait between two attempts, and two examinations."""


class EdgeWithArchive(GodoxyEdgeCase):
    """
    Its agents have an archive.
    """

    def patchCredentials(self) -> None:
        makeArchive(self.archive)


class DialledAgentMachine(RuleBasedStateMachine):
    """
    One agent, and the edge that dials it.

    @ivar listens: the agent is there; C{answers}, its API works; C{streams} and C{datagrams}, what it carries.
    @ivar published: the names of the services that are configured.
    """

    def __init__(self) -> None:
        super().__init__()
        self.case = EdgeWithArchive("end")
        self.case.setUp()
        self.case.sessions["nas"] = self.dtls = Sessions()
        self.agent = AgentDouble(self.case.network)
        self.info = self.agent.answers["/info"]
        self.listens = self.answers = self.streams = self.datagrams = True
        self.published = set(SERVICES)
        self.visitors: list[Any] = []
        self.case.begin(*self.configured(), archive=self.case.archive)

    def configured(self) -> list[Any]:
        return [SERVICES[name] for name in sorted(self.published)]

    @rule(listens=mostly)
    def comeOrGo(self, listens: bool) -> None:
        if listens == self.listens:
            return
        self.listens = listens
        if listens:
            self.agent.resume()
        else:
            self.agent.stop()

    @rule(answers=mostly)
    def answerOrFail(self, answers: bool) -> None:
        self.answers = answers
        self.agent.answers["/info"] = self.info if self.answers else WholeResponse(500, b"broken")

    @rule()
    def carryStreamsOrNot(self) -> None:
        self.streams = self.agent.closesProbes = not self.streams

    @rule(refused=st.booleans())
    def carryDatagramsOrNot(self, refused: bool) -> None:
        self.datagrams = not self.datagrams
        self.dtls.failure = ConnectionAborted() if not self.datagrams and refused else None
        self.dtls.hanging = not self.datagrams and not refused

    @rule(names=st.sets(st.sampled_from(sorted(SERVICES))))
    def reload(self, names: set[str]) -> None:
        self.published = names
        self.case.dialect.prepareReload({"godoxy": self.case.tables(*self.configured(), archive=self.case.archive)})()
        self.case.network.settle()

    @rule(seconds=st.floats(0.0, 40.0))
    def passTime(self, seconds: float) -> None:
        self.case.network.passTime(seconds)

    @rule()
    def visit(self) -> None:
        if PUBLIC["game"] in self.case.network.ports:
            self.visitors.append(self.case.visit(b"x", PUBLIC["game"]))
        if PUBLIC["names"] in self.case.network.udp:
            self.case.network.udp[PUBLIC["names"]].datagramReceived(b"x", ("192.0.2.1", 5000 + len(self.visitors)))

    @rule()
    def becomeQuiet(self) -> None:
        """
        After enough time the edge has noticed everything.
        """
        self.case.network.passTime(QUIET_SECONDS, 2.5)
        report = self.case.report()
        public = {each["name"] for each in report["services"] if each["published"]}
        if not (self.listens and self.answers):
            assert (report["state"], public) == (DOWN, set()), report
            assert report["reason"], report
            return
        carried = {"wiki": True, "game": self.streams, "names": self.datagrams}
        assert public == {name for name in self.published if carried[name]}, report
        assert report["state"] == (UP if public == self.published else LIMITED), report
        assert bool(report["reason"]) == (public != self.published), report

    @invariant()
    def whatIsPublishedIsOpen(self) -> None:
        services = {each["name"]: each for each in self.case.report()["services"]}
        opened = {"game": PUBLIC["game"] in self.case.network.ports, "names": PUBLIC["names"] in self.case.network.udp}
        for name, isOpen in opened.items():
            assert isOpen == (name in services and services[name]["published"]), (name, isOpen, services)

    @invariant()
    def flowsAreCounted(self) -> None:
        tunnel = self.case.agent().tunnel
        if tunnel is not None:
            opened = len([each for each in self.dtls.opened if not each.closed])
            handshakes = len([each for each in self.dtls.connecting if not each.called])       # that of a probe included
            assert tunnel.flows.flows == opened and handshakes - 1 <= tunnel.flows.handshakes <= handshakes

    def teardown(self) -> None:
        for visitor in self.visitors:
            visitor.transport.abortConnection()
        if self.listens:
            self.agent.stop()
        self.case.end()


class DialledAgentTests(SynchronousTestCase):
    def test_whatIsPublicIsWhatTheAgentCarries(self) -> None:
        few = settings(max_examples=max(1, settings().max_examples // 2), stateful_step_count=20)
        run_state_machine_as_test(DialledAgentMachine, settings=few)  # type: ignore[no-untyped-call]
