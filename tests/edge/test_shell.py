"""
Where SSH and purposes with a host and a port lead, and who may ask for them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from attrs import define
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.auth.name_ownership import NameOwnership
from tunnelstack.control.registry import Registry
from tunnelstack.edge.agents import Agents
from tunnelstack.errors import Denied
from tunnelstack.records import Principal, Service, SSHPurpose, TCPPurpose
from tunnelstack.wire.yamux.limits import SessionLimits


@define(eq=False)
class Tunnel:
    """
    As much of a tunnel as is looked at.
    """

    principal: Principal
    instance: str = ""
    healthy: bool = True


def principal(*allow: str, agent: str = "somebody") -> Principal:
    return Principal(agent=agent, allow=allow)


class ShellTests(SynchronousTestCase):
    """
    L{Agents.reach} and L{Agents.sshTarget}.
    """

    def setUp(self) -> None:
        self.registry = Registry()
        ports: Any = SimpleNamespace(leases=None)
        authenticator: Any = None
        self.agents = Agents(
            Clock(), self.registry, ports, ports, authenticator, grantFor=None, sessionLimits=SessionLimits(),
            owners=NameOwnership(),
        )
        self.laptop = Tunnel(principal("ssh", agent="laptop"))
        self.bench = Tunnel(principal(agent="lab.bench"))
        for tunnel in (self.laptop, self.bench):
            self.registry.add(tunnel)
        self.registry.claim("ssh", "desk", self.laptop)

    def denied(self, code: str, *asked: Any) -> None:
        self.assertEqual(self.assertRaises(Denied, self.agents.reach, *asked).code, code)

    def test_anSSHServerIsFoundByEveryName(self) -> None:
        for name in ("desk", "laptop/desk", "laptop"):
            self.assertEqual(self.agents.sshTarget(name), (self.laptop, TCPPurpose(service="desk")))
        self.assertEqual(self.agents.sshTarget("lab.bench"), (self.bench, SSHPurpose()))
        self.assertEqual(self.assertRaises(Denied, self.agents.sshTarget, "lab.other").code, "absent")

    def test_onlyWhoMayDialGetsThere(self) -> None:
        for allow in ("dial:desk", "dial:laptop/*"):
            self.assertIs(self.agents.reach(principal(allow), "desk", "ssh")[0], self.laptop)
        self.denied("not-allowed", principal("ssh", "dial:other"), "desk", "ssh")
        self.denied("not-allowed", principal("dial:other"), "lab.nobody", "ssh")
        self.denied("not-allowed", principal("dial:other"), "lab.bench", "tcp:localhost:80")

    def test_aHostAndAPortAreReached(self) -> None:
        may = principal("dial:lab.*")
        self.assertEqual(self.agents.reach(may, "lab.bench", "tcp:db:5432"), (self.bench, TCPPurpose(host="db", port=5432)))
        self.assertEqual(self.agents.reach(may, "lab.bench", "tcp:[::1]:80"), (self.bench, TCPPurpose(host="::1", port=80)))
        for purpose in ("tcp:80", "tcp:db:0", "tcp:db:65536", "tcp:db:x"):
            self.denied("malformed", may, "lab.bench", purpose)
        self.denied("absent", may, "lab.gone", "tcp:db:5432")

    def test_offeringSSHIsARight(self) -> None:
        self.failureResultOf(self.agents.announce(self.bench, Service(name="bench", kind="ssh")), Denied)
        self.successResultOf(self.agents.announce(self.laptop, Service(name="shell", kind="ssh")))
