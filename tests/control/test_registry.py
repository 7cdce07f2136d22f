"""
The registry: one holder for each name, sharing where it is allowed, and nothing left behind by who has gone.
"""

from __future__ import annotations

from typing import Any

from attrs import define
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control import remembered_names
from tunnelstack.control.registry import Registry
from tunnelstack.errors import Denied
from tunnelstack.records import Principal


@define(eq=False)
class Tunnel:
    """
    As much of a tunnel as the registry looks at.
    """

    principal: Principal
    instance: str = ""
    healthy: bool = True


def tunnel(agent: str = "laptop", instance: str = "1", share: bool = False) -> Tunnel:
    return Tunnel(Principal(agent=agent, share=share), instance)


class RegistryTests(SynchronousTestCase):
    """
    Arriving, holding names, and going.
    """

    def setUp(self) -> None:
        self.registry = Registry()
        self.told: list[tuple[str, str, bool]] = []
        self.registry.watch(lambda *change: self.told.append(change))

    def arrived(self, **how: Any) -> Tunnel:
        one = tunnel(**how)
        self.registry.add(one)
        return one

    def denied(self, code: str, name: str, one: Tunnel, kind: str = "http") -> None:
        error = self.assertRaises(Denied, self.registry.claim, kind, name, one)
        self.assertEqual(error.code, code)

    def test_aNameLeadsToItsHolder(self) -> None:
        one = self.arrived()
        self.assertTrue(self.registry.claim("http", "site", one))
        self.assertFalse(self.registry.claim("http", "site", one))
        self.assertIs(self.registry.pick("site"), one)
        self.assertIs(self.registry.pick("laptop/site"), one)
        self.assertIsNone(self.registry.pick("desktop/site"))
        self.assertIsNone(self.registry.pick("site", "tcp"))
        self.assertEqual(self.told, [("http", "site", True)])

    def test_anotherAgentIsRefused(self) -> None:
        self.registry.claim("http", "site", self.arrived(share=True))
        self.denied("taken", "site", self.arrived(agent="desktop", share=True))

    def test_anotherProcessIsRefusedUnlessBothShare(self) -> None:
        self.registry.claim("http", "site", self.arrived())
        self.denied("taken", "site", self.arrived(instance="2"))
        self.denied("taken", "site", self.arrived(instance="3", share=True))

    def test_oneThatDrainsMakesRoomForItsSuccessor(self) -> None:
        one, two, other = self.arrived(), self.arrived(instance="2"), self.arrived(agent="desk")
        self.registry.claim("http", "site", one)
        one.healthy = False
        self.denied("taken", "site", other)
        self.registry.claim("http", "site", two)
        self.assertIs(self.registry.pick("site"), two)
        self.registry.remove(one)
        self.assertIs(self.registry.pick("site"), two)

    def test_whoSharesTakesTurnsWhileHealthy(self) -> None:
        three = [self.arrived(instance=instance, share=True) for instance in "123"]
        for one in three:
            self.registry.claim("http", "site", one)
        picked = [self.registry.pick("site") for _ in range(6)]
        self.assertEqual(picked, three * 2)
        three[1].healthy = False
        self.assertEqual({id(self.registry.pick("site")) for _ in range(4)}, {id(three[0]), id(three[2])})
        three[0].healthy = three[2].healthy = False
        self.assertIsNone(self.registry.pick("site"))

    def test_aProcessThatComesBackReplacesWhatItLeft(self) -> None:
        old = self.arrived()
        self.registry.claim("http", "site", old)
        new = tunnel()
        self.assertEqual(self.registry.add(new), [old])
        self.assertIsNone(self.registry.pick("site"))
        self.registry.claim("http", "site", new)
        self.assertIs(self.registry.pick("site"), new)
        self.assertEqual(self.registry.remove(old), [])
        self.assertIs(self.registry.pick("site"), new)

    def test_processesWithoutANameAreNeverReplaced(self) -> None:
        first, second = self.arrived(instance=""), tunnel(instance="")
        self.assertEqual(self.registry.add(second), [])
        self.assertTrue(self.registry.hasTunnel(first))

    def test_whoGoesLeavesNothing(self) -> None:
        one, two = self.arrived(share=True), self.arrived(instance="2", share=True)
        for name in ("a", "b"):
            self.registry.claim("http", name, one)
        self.registry.claim("http", "b", two)
        self.assertEqual(self.registry.remove(one), [("http", "a")])
        self.assertIsNone(self.registry.pick("a"))
        self.assertIs(self.registry.pick("b"), two)
        self.assertEqual(self.told, [("http", "a", True), ("http", "b", True), ("http", "a", False)])
        self.assertEqual(self.registry.remove(one), [])
        self.denied("absent", "c", one)

    def test_namesOfThoseWhoWentAreRemembered(self) -> None:
        self.assertFalse(self.registry.isKnown("site"))
        one = self.arrived()
        self.registry.claim("http", "site", one)
        self.registry.remove(one)
        self.assertTrue(self.registry.isKnown("site"))
        self.assertTrue(self.registry.isKnown("laptop/site"))
        self.assertFalse(self.registry.isKnown("desktop/site"))
        self.assertFalse(self.registry.isKnown("site", "tcp"))

    def test_notMoreThanSoManyAreRemembered(self) -> None:
        self.patch(remembered_names, "MOST", 3)
        one = self.arrived()
        for name in "abcd":
            self.registry.claim("http", name, one)
            self.registry.withdraw("http", name, one)
        self.assertEqual([self.registry.isKnown(name) for name in "abcd"], [False, True, True, True])

    def test_whoOnlyDialsIsNotDialled(self) -> None:
        serving = self.arrived(instance="1")
        self.registry.claim("ssh", "desk", serving)
        dialling = self.arrived(instance="2")
        self.assertIs(self.registry.agent("laptop"), serving)
        self.registry.remove(serving)
        self.assertIs(self.registry.agent("laptop"), dialling)

    def test_theNewestHealthyTunnelIsTheAgents(self) -> None:
        first, second = self.arrived(), self.arrived(instance="2")
        self.assertIs(self.registry.agent("laptop"), second)
        second.healthy = False
        self.assertIs(self.registry.agent("laptop"), first)
        self.assertIsNone(self.registry.agent("desktop"))
        self.assertEqual((len(self.registry), list(self.registry)), (2, [first, second]))


class RegistryMachine(RuleBasedStateMachine):
    """
    Against a set of (tunnel, name) pairs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.there: list[Tunnel] = []
        self.held: set[tuple[str, str, Tunnel]] = set()

    @rule(agent=st.sampled_from("ab"), instance=st.sampled_from(["", "1", "2"]), share=st.booleans())
    def add(self, agent: str, instance: str, share: bool) -> None:
        one = tunnel(agent, instance, share)
        gone = [old for old in self.there if instance and (old.principal.agent, old.instance) == (agent, instance)]
        assert self.registry.add(one) == gone
        self.forget(gone)
        self.there.append(one)

    def forget(self, gone: list[Tunnel]) -> None:
        self.there = [one for one in self.there if one not in gone]
        self.held = {holding for holding in self.held if holding[2] not in gone}

    @rule(which=st.integers(0, 9))
    def remove(self, which: int) -> None:
        if which < len(self.there):
            gone = self.there[which]
            self.registry.remove(gone)
            self.forget([gone])

    @rule(which=st.integers(0, 9), kind=st.sampled_from(["http", "tcp"]), name=st.sampled_from("xy"))
    def claim(self, which: int, kind: str, name: str) -> None:
        if which >= len(self.there):
            return
        one = self.there[which]
        rivals = [
            other for held, service, other in self.held
            if service == name and (
                other.principal.agent != one.principal.agent
                or (held == kind and other is not one and not (other.principal.share and one.principal.share))
            )
        ]
        try:
            self.registry.claim(kind, name, one)
        except Denied as denied:
            assert rivals and denied.code == "taken"
        else:
            assert not rivals
            self.held.add((kind, name, one))

    @rule(which=st.integers(0, 9), kind=st.sampled_from(["http", "tcp"]), name=st.sampled_from("xy"))
    def withdraw(self, which: int, kind: str, name: str) -> None:
        if which < len(self.there):
            self.registry.withdraw(kind, name, self.there[which])
            self.held.discard((kind, name, self.there[which]))

    @invariant()
    def the_registry_agrees(self) -> None:
        for kind in ("http", "tcp"):
            for name in "xy":
                holders = {id(one) for held, service, one in self.held if (held, service) == (kind, name)}
                picked = {id(self.registry.pick(name, kind)) for _ in range(len(holders) + 1)}
                assert picked == (holders or {id(None)})
                for agent in "ab":
                    full = self.registry.pick(f"{agent}/{name}", kind)
                    assert (full is not None) == any(
                        (held, service, one.principal.agent) == (kind, name, agent) for held, service, one in self.held
                    )
        assert sorted(map(id, self.registry)) == sorted(map(id, self.there))


class RegistryModelTests(SynchronousTestCase):
    """
    Any order of events.
    """

    def test_itBehavesAsItsModel(self) -> None:
        run_state_machine_as_test(RegistryMachine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))  # type: ignore[no-untyped-call]
