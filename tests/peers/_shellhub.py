"""
The two ends of ShellHub, each a Go program (C{tests/peers/go/shellhub}) that a test starts and tells what to do; and its own
agent, whole, where somebody has one.

What speaks on their wire is genuine, see the program's own words; with both ends of one test in one program, or in two.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any
from unittest import SkipTest

from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.peers._go import GoPeer

TENANT = "00000000-0000-4000-0000-000000000000"
MAC = "02:42:ac:11:00:02"
PEM = "-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n"
PASSWORD = "secret"
PASSWORD_HASH = "$6$tunnelstack$TJhh2bPZW08A642jWKguvfe0spmwKUfdj8DjCk6CZNm2y7bFSfXUTzsPqeIsU5wQEotJT3wej.wsRdHb2wfxe."
NOBODY = 65534
AGENTD = "TUNNELSTACK_SHELLHUB_AGENT"
GREETING = b"SSH-2.0-Go\r\n"


@frozen
class Authorized:
    """
    What a server said to an agent's authentication.

    @ivar info: the answer to C{/info}, as the genuine client understood it.
    """

    uid: str
    token: str
    name: str
    namespace: str
    config: dict[str, Any]
    info: dict[str, Any]


class Conn:
    """
    A connection to a device, at the server's end, which the Go program holds.

    @ivar version: of the transport below it.
    """

    def __init__(self, peer: GoPeer, said: dict[str, Any]) -> None:
        self._peer = peer
        self._number = said["conn"]
        self.version: int = said["version"]

    def _call(self, do: str, **parameters: Any) -> Deferred[dict[str, Any]]:
        return self._peer.call(do, conn=self._number, **parameters)

    def read(self, count: int, within: float = 30) -> Deferred[bytes]:
        """
        @return: exactly so many octets, or those up to the end.
        """
        return self._call("read", count=count, within=within).addCallback(lambda said: said["data"])

    def readToEnd(self, within: float = 30) -> Deferred[tuple[bytes, str]]:
        """
        @return: what came, and what ended it (C{"EOF"}, C{"Timeout"}, ...).
        """
        return self._call("read", within=within).addCallback(lambda said: (said["data"], said["end"]))

    def write(self, data: bytes) -> Deferred[Any]:
        """
        One Go C{Write}: a frame or a message of its own.
        """
        return self._call("write", data=data)

    def close(self) -> Deferred[Any]:
        """
        FIN on version 2; the end of the connection on version 1.
        """
        return self._call("close")

    def send(self, octets: int) -> Deferred[dict[str, Any]]:
        """
        @return: C{sha256} of random octets that were written.
        """
        return self._call("send", octets=octets, timeout=120)

    def receive(self, octets: int, within: float = 60) -> Deferred[dict[str, Any]]:
        """
        @return: C{sha256} of what was read.
        """
        return self._call("receive", octets=octets, within=within, timeout=within + 10)

    def ssh(
        self, command: str, *, user: str = "root", password: str = PASSWORD, stdin: bytes = b"", within: float = 30,
    ) -> Deferred[dict[str, Any]]:
        """
        Log in by password and run a command.

        @return: C{data}, C{status}, and the server's C{version}.
        """
        return self._call("ssh", user=user, password=password, command=command, input=stdin, within=within)


class Server:
    """
    A server: C{/info}, C{/api/devices/auth}, C{/api/auth/ssh}, both connections, and the dialler.

    @ivar url: where it listens.
    @ivar peer: its program.
    """

    url: str

    def __init__(self, peer: GoPeer) -> None:
        self.peer = peer

    @classmethod
    @inlineCallbacks
    def start(cls, case: TestCase, **behaviour: Any) -> Any:
        """
        @param behaviour: status, auth, config, ping, pong, zombies, drop_lf, accepted (C{behaviour} in C{server.go}).
        @return: fires with the server, listening.
        """
        server = cls(GoPeer.start(case, "shellhub"))
        said = yield server.peer.call("serve", **behaviour)
        server.url = f"http://127.0.0.1:{said['port']}"
        return server

    def set(self, **behaviour: Any) -> Deferred[Any]:
        """
        @param behaviour: as in L{start}, and C{revoke=True} to forget all tokens.
        """
        return self.peer.call("set", **behaviour)

    def devices(self) -> Deferred[dict[str, list[int]]]:
        """
        @return: the versions of the connections, oldest first, by C{tenant:uid}.
        """
        return self.peer.call("devices").addCallback(lambda said: said["devices"])

    def awaitDevice(self, uid: str, count: int = 1, *, version: int = 0, within: float = 30) -> Deferred[list[int]]:
        """
        @param count: of its connections; C{0} waits until it is gone.
        @param version: that the newest of them speaks; C{0} is any.
        """
        found = self.peer.call(
            "await-device", tenant=TENANT, uid=uid, count=count, version=version, within=within, timeout=within + 5
        )
        return found.addCallback(lambda said: said["versions"])

    def events(self) -> Deferred[list[dict[str, Any]]]:
        """
        @return: C{what} happened, oldest first, and to which C{uid}.
        """
        return self.peer.call("events").addCallback(lambda said: said["events"])

    def awaitEvent(self, uid: str, what: str, count: int = 1, within: float = 30) -> Deferred[int]:
        """
        @param count: how often it must have happened to the device, in all.
        @return: how often it has.
        """
        found = self.peer.call("await-event", uid=uid, what=what, count=count, within=within, timeout=within + 5)
        return found.addCallback(lambda said: said["count"])

    def kick(self, uid: str, tenant: str = TENANT) -> Deferred[Any]:
        """
        Close all connections of a device.
        """
        return self.peer.call("kick", tenant=tenant, uid=uid)

    def endpointTo(
        self, uid: str, target: str = "", *, tenant: str = TENANT, within: float = 30, **parameters: Any,
    ) -> Deferred[Conn]:
        """
        @param target: C{"open"} and C{"close"} with C{session}, C{"proxy"} with C{request}, C{host} and C{port}, or nothing for
            a bare connection.
        """
        said = self.peer.call(
            "dial", tenant=tenant, uid=uid, target=target, within=within, timeout=within + 5, **parameters
        )
        return said.addCallback(lambda answer: Conn(self.peer, answer))


class Agent:
    """
    One agent and its tunnel.
    """

    def __init__(self, peer: GoPeer, number: int) -> None:
        self._peer = peer
        self._number = number

    def state(self) -> Deferred[dict[str, Any]]:
        """
        @return: C{up}, C{tunnels} that were up, C{failures} by kind, C{sessions}, C{ssh_errors}.
        """
        return self._peer.call("agent-state", agent=self._number)

    @inlineCallbacks
    def awaitSession(self, session: str) -> Any:
        """
        Fires once the agent has read what it was asked for: octets that come earlier are lost (bug B1).
        """
        for _ in range(1500):
            state = yield self.state()
            if session in state["sessions"]:
                return
            yield deferLater(reactor, 0.02)
        raise AssertionError(f"the agent never opened {session}")

    def close(self) -> Deferred[Any]:
        """
        End its tunnel for good.
        """
        return self._peer.call("agent-close", agent=self._number)


class Agents:
    """
    A program full of agents.

    @ivar peer: it; C{freeze()} makes them all hang, C{kill()} takes them all away.
    """

    def __init__(self, peer: GoPeer) -> None:
        self.peer = peer

    @classmethod
    def start(cls, case: TestCase) -> Agents:
        """
        Start the program; it does nothing yet.
        """
        return cls(GoPeer.start(case, "shellhub"))

    def authorize(self, url: str, *, tenant: str = TENANT, mac: str = MAC, **parameters: Any) -> Deferred[Authorized]:
        """
        C{/info} and C{/api/devices/auth} by the genuine client, which retries a refusal for ever.

        @param parameters: hostname, public_key, sessions, within.
        """
        parameters = {"public_key": PEM, "hostname": "box", **parameters}
        said = self.peer.call("authorize", server=url, tenant=tenant, mac=mac, **parameters)
        return said.addCallback(_authorized)

    def authKey(self, url: str, token: str, fingerprint: str, said: str) -> Deferred[str]:
        """
        @return: the signature for a login by key.
        """
        answer = self.peer.call("auth-key", server=url, token=token, fingerprint=fingerprint, said=said)
        return answer.addCallback(lambda found: found["signature"])

    def connect(self, url: str, token: str, version: int, **parameters: Any) -> Deferred[Agent]:
        """
        Fires once its tunnel's WebSocket is up; fails with kind C{BadHandshake} where it is refused.

        @param parameters: C{config}, as it came with the authentication; C{ssh}: C{"echo"} (the default: L{GREETING}, C{name},
            then what comes), C{"ssh"} (a server that takes L{PASSWORD}) or C{"mute"} (takes what comes and never answers);
            C{retry}: seconds between connections, C{0} for one.
        """
        said = self.peer.call("agent", server=url, token=token, version=version, **parameters)
        return said.addCallback(lambda answer: Agent(self.peer, answer["agent"]))

    @inlineCallbacks
    def join(self, url: str, version: int, *, mac: str = MAC, **parameters: Any) -> Any:
        """
        Authorize and connect.

        @return: fires with what was authorized, and the agent.
        """
        authorized = yield self.authorize(url, mac=mac)
        agent = yield self.connect(url, authorized.token, version, config=authorized.config, **parameters)
        return authorized, agent

    def fleet(self, url: str, members: Sequence[tuple[str, int]], *, tenant: str = TENANT, within: float = 30) -> Deferred[Any]:
        """
        Many agents at once; each echoes, and says its MAC behind the greeting.

        @param members: MAC and version of each.
        @return: fires with (MAC, uid) pairs.
        """
        said = self.peer.call(
            "fleet",
            server=url,
            tenant=tenant,
            public_key=PEM,
            agents=[{"mac": mac, "version": version} for mac, version in members],
            within=within,
            timeout=2 * within,
        )
        return said.addCallback(lambda answer: [(member["mac"], member["uid"]) for member in answer["members"]])

    def echo(self, first: bytes = b"") -> Deferred[int]:
        """
        A TCP server beside the agents, for the far end of a proxy.

        @param first: what it says before it reads.
        @return: its port.
        """
        return self.peer.call("echo", first=first).addCallback(lambda said: said["port"])


class Agentd(ProcessProtocol):
    """
    ShellHub's own agent in its single-user mode, which any user's name and L{PASSWORD} open.  Its program is what the variable
    C{TUNNELSTACK_SHELLHUB_AGENT} names, or C{shellhub-agent} on the PATH.

    @ivar log: what it wrote.
    """

    def __init__(self) -> None:
        self.log = b""
        self._ended: Deferred[None] = Deferred()

    @classmethod
    def start(cls, case: TestCase, url: str, version: int = 2, **environment: str) -> Agentd:
        """
        @param url: of the server that it is to join.
        @param version: of the transport.
        @param environment: more of its settings, without their prefix.
        @raise SkipTest: there is none.
        """
        program = os.environ.get(AGENTD) or shutil.which("shellhub-agent")
        if program is None:
            raise SkipTest(f"no agent of ShellHub: {AGENTD} names none")
        folder = tempfile.mkdtemp(prefix="agentd-")
        case.addCleanup(shutil.rmtree, folder)
        settings = {
            "SERVER_ADDRESS": url,
            "TENANT_ID": TENANT,
            "PRIVATE_KEY": f"{folder}/key",
            "SINGLE_USER_PASSWORD": PASSWORD_HASH,
            "TRANSPORT_VERSION": str(version),
            "PREFERRED_HOSTNAME": "box",
            **environment,
        }
        env = {f"SHELLHUB_{name}": value for name, value in settings.items()}
        env.update(PATH=os.environ["PATH"], HOME=folder, SHELL="/bin/sh")
        agent, user = cls(), None
        if os.geteuid() == 0:           # it does not run as root in this mode
            os.chown(folder, NOBODY, NOBODY)
            user = NOBODY
        reactor.spawnProcess(agent, program, [program], env, folder, uid=user, gid=user)
        case.addCleanup(agent.kill)
        return agent

    def kill(self) -> Deferred[None]:
        """
        End it at once.

        @return: fires when it has gone.
        """
        if self.transport is not None and not self._ended.called:
            self.transport.signalProcess("KILL")
        return self._ended

    def outReceived(self, data: bytes) -> None:
        self.log += data

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self._ended.callback(None)


def _authorized(said: dict[str, Any]) -> Authorized:
    auth = said["auth"]
    return Authorized(
        auth["uid"], auth["token"], auth["name"], auth["namespace"], auth.get("config") or {}, said["info"],
    )  # fmt: skip
