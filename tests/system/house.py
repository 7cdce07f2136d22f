"""
One edge and one agent that many tests visit: real programs on real sockets, started once, with HTTP and HTTPS in front and two
origins behind, one that keeps its connections and one that closes them.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.system.origin import Origin, Talk
from tests.system.stage import BIN, ROOT, Program
from tests.transport.certificates import authority
from tunnelstack.control.auth.tokens import newToken

DOMAIN = "tunnels.example"
LIMITS = "head_seconds = 2\nidle_seconds = 3\nfirst_octet_seconds = 60\n"


class House:
    """
    The programs, and how to visit them.

    @param limits: lines of C{[limits]}; and C{edge}: further ones of C{[edge]}; and C{routes}: what else the edge is told; and
        C{agentLimits}: lines of C{[limits]} of the agents.
    @ivar origins: by whether they keep connections.
    @ivar ports: by scheme.
    """

    def __init__(self, limits: str = LIMITS, routes: str = "", edge: str = "", agentLimits: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tunnelstack-"))
        self._agentLimits = agentLimits
        atexit.register(self.close)
        self.origins = {keeps: Origin(keeps) for keeps in (True, False)}
        token = newToken()
        self._certificates()
        (self.folder / "edge.toml").write_text(
            f'[edge]\ndomain = "{DOMAIN}"\nlisten = ["tcp:0:interface=127.0.0.1", "tls:certs:port=0:interface=127.0.0.1"]\n'
            f"{edge}[limits]\n{limits}"
            f'[[agent]]\nname = "laptop"\ntoken_sha256 = "{token.tokenSha256}"\nid = "{token.id}"\n'
            f'allow = ["http:*"]\nshare = true\n{routes}'
        )
        self._write("agent.toml", {"keeps": self.origins[True].port, "closes": self.origins[False].port})
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(("TUNNELSTACK_", "STATE_"))}
        self.environ |= {"HOME": str(self.folder), "PYTHONPATH": str(ROOT), "TUNNELSTACK_TOKEN": token.token}
        self.edge = self.program("tunnel-edge", "--config", "edge.toml")
        self.edge.hears(r"^edge +ready ")
        self.ports = dict(zip(("http", "https"), listeningPorts(self.edge.process.pid), strict=True))
        self.agents: list[Program] = []
        self.agent = self.startAgent()

    def _certificates(self) -> None:
        identity = authority().identity(DOMAIN, f"*.{DOMAIN}", "localhost", "127.0.0.1")
        (self.folder / "certs").mkdir()
        (self.folder / "certs" / "default.pem").write_bytes(
            identity.certificate.to_cryptography().public_bytes(Encoding.PEM)
            + identity.key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        (self.folder / "root.pem").write_bytes(authority().certificate.to_cryptography().public_bytes(Encoding.PEM))
        self.trust = ssl.create_default_context(cafile=str(self.folder / "root.pem"))

    def _write(self, name: str, services: Mapping[str, int | str], lines: str = "") -> None:
        tables = (
            f'[[service]]\nname = "{service}"\ntarget = "{at if isinstance(at, str) else f"127.0.0.1:{at}"}"\n{lines}'
            for service, at in services.items()
        )
        (self.folder / name).write_text(f"[limits]\n{self._agentLimits}" + "".join(tables))

    def program(self, name: str, *arguments: str) -> Program:
        return Program([str(BIN / name), *arguments], self.environ, str(self.folder))

    def startAgent(self, services: Mapping[str, int | str] | None = None, lines: str = "") -> Program:
        """
        An agent of this edge; the first one publishes the two origins.

        @param services: by name, the port of each on this machine, or another target.
        @param lines: further settings of each service.
        """
        file = "agent.toml" if services is None else f"{'-'.join(services)}.toml"
        if services is not None:
            self._write(file, services, lines)
        agent = self.program("tunnel-agent", "--edge", f"http://127.0.0.1:{self.ports['http']}", "--config", file, "start")
        for service in services or ("keeps", "closes"):
            agent.hears(rf"^{service} +http")
        self.agents.append(agent)
        return agent

    def connect(self, scheme: str = "http", host: str = "keeps.tunnels.example") -> Talk:
        """
        A visitor's connection.
        """
        plain: Any = socket.create_connection(("127.0.0.1", self.ports[scheme]), 20)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Talk(plain if scheme == "http" else self.trust.wrap_socket(plain, server_hostname=host))

    def close(self) -> None:
        """
        End everything.
        """
        for program in (*getattr(self, "agents", ()), getattr(self, "edge", None)):
            if program is not None and program.process.poll() is None:
                program.process.send_signal(signal.SIGKILL)
                program.process.wait(30)
        for origin in self.origins.values():
            origin.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def house() -> House:
    """
    The one that all visit who leave it as it was.
    """
    return House()


def memory(pid: int) -> int:
    """
    Resident octets of a process.
    """
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """
    How many a process has open.
    """
    return len(os.listdir(f"/proc/{pid}/fd"))


def listeningPorts(pid: int) -> Sequence[int]:
    """
    The TCP ports of this machine on which a process listens, in the order in which it opened them.
    """
    mine = {}
    for link in sorted(Path(f"/proc/{pid}/fd").iterdir(), key=lambda path: int(path.name)):
        try:
            mine[os.readlink(link)] = int(link.name)
        except OSError:
            continue
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        inode = f"socket:[{fields[9]}]"
        if fields[3] == "0A" and inode in mine:
            found.append((mine[inode], int(fields[1].rpartition(":")[2], 16)))
    return [port for _, port in sorted(found)]


