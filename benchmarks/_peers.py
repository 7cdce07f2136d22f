"""
Other programs for tunnels, where they can be had: built at pinned versions with Go and Cargo, and started as their manuals say.

frp parses HTTP for its virtual hosts, as our edge does.  By default it encrypts between its two programs, so it takes part
twice: without TLS, as all others that can, and with it.  chisel and bore carry the octets of a port; chisel always encrypts.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic, sleep

from attrs import frozen

from benchmarks._parts import START_TIMEOUT, Part, PartFailed

BUILT = Path(__file__).parent / "build"
BUILD_TIMEOUT = 1200.0      # seconds
BORE_PORT = 7835            # where a server of bore listens; it cannot be chosen

Running = Iterator[tuple[str, Part, Part]]


@frozen
class Peer:
    """
    One program.

    @ivar package: its name and version, as its registry knows it.
    @ivar programs: its executables.
    @ivar build: builds them into a folder.
    @ivar run: starts both parts before an origin, C{host:port}, for a kind of service, and a host name; gives the address for
        visitors, and both.
    @ivar kinds: what it can publish.
    """

    package: str
    programs: tuple[str, ...]
    build: Callable[[str, Path], None]
    run: Callable[[str, str, str], AbstractContextManager[tuple[str, Part, Part]]]
    kinds: frozenset[str] = frozenset({"http", "tcp", "udp"})

    @property
    def folder(self) -> Path:
        """
        Where its executables are.
        """
        return BUILT / self.package.rpartition("/")[2]


def obtain(name: str) -> str:
    """
    Build a program, if that has not been done.

    @return: its version, in its own words.
    @raise OSError: there is no compiler.
    @raise subprocess.SubprocessError: it cannot be built.
    """
    peer = PEERS[name]
    if not all((peer.folder / program).exists() for program in peer.programs):
        peer.folder.mkdir(parents=True, exist_ok=True)
        peer.build(peer.package, peer.folder)
    said = subprocess.run([peer.folder / peer.programs[0], "--version"], capture_output=True, text=True, check=True)
    return f"{name.partition('-')[0]} {said.stdout.split()[-1]}"


def _run(command: Sequence[str | Path], folder: Path | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is not on the PATH")
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=BUILD_TIMEOUT
    ).stdout


def _buildGo(packages: Sequence[str], package: str, into: Path) -> None:
    """
    A module that replaces others can only be built as the main module, so it is copied out of the module cache.
    """
    found = json.loads(_run(["go", "mod", "download", "-json", package]))["Dir"]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "module")
        shutil.copytree(found, copy, copy_function=shutil.copyfile)
        for part in copy, *copy.rglob("*/"):
            part.chmod(0o755)
        version = package.rpartition("@")[2].removeprefix("v")
        flags = f"-X github.com/jpillora/chisel/share.BuildVersion={version}"
        _run(["go", "build", "-trimpath", "-tags=noweb", f"-ldflags={flags}", "-o", f"{into}/", *packages], copy)


def _buildCargo(package: str, into: Path) -> None:
    name, version = package.split("@")
    with tempfile.TemporaryDirectory() as folder:
        _run(["cargo", "install", "--quiet", "--locked", name, "--version", version, "--root", folder])
        for program in Path(folder, "bin").iterdir():
            shutil.move(program, into / program.name)


def _freePort(kind: str = "tcp") -> int:
    with socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _untilListening(part: Part, port: int) -> None:
    deadline = monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError as refused:
            if monotonic() > deadline:
                raise PartFailed(f"{part.name}: does not listen on {port}") from refused
            sleep(0.05)


def _part(command: list[str]) -> Part:
    """
    A program that logs nothing for a connection, as ours and the Go twins do not.
    """
    return Part(command, {**os.environ, "RUST_LOG": "error"}, reads=False, speaks=False)


FRPS = """\
bindAddr = "127.0.0.1"
bindPort = {port}
proxyBindAddr = "127.0.0.1"
vhostHTTPPort = {http}
log.level = "error"
"""

FRPC = """\
serverAddr = "127.0.0.1"
serverPort = {port}
log.level = "error"
transport.tls.enable = {tls}

[[proxies]]
name = "bench"
type = "{kind}"
localIP = "127.0.0.1"
localPort = {origin}
"""


@contextmanager
def _frp(tls: bool, origin: str, kind: str, host: str) -> Running:
    programs, port, public, http = PEERS["frp"].folder, _freePort(), _freePort(kind), _freePort()
    with tempfile.TemporaryDirectory() as folder:
        server, client = Path(folder, "frps.toml"), Path(folder, "frpc.toml")
        server.write_text(FRPS.format(port=port, http=http))
        published = f'customDomains = ["{host}"]\n' if kind == "http" else f"remotePort = {public}\n"
        local = origin.rpartition(":")[2]
        client.write_text(FRPC.format(port=port, tls=str(tls).lower(), kind=kind, origin=local) + published)
        with _part([str(programs / "frps"), "-c", str(server)]) as edge:
            _untilListening(edge, port)
            with _part([str(programs / "frpc"), "-c", str(client)]) as agent:
                yield f"127.0.0.1:{http if kind == 'http' else public}", edge, agent


@contextmanager
def _chisel(origin: str, kind: str, host: str) -> Running:
    program, port, public = str(PEERS["chisel"].folder / "chisel"), _freePort(), _freePort(kind)
    with _part([program, "server", "--host", "127.0.0.1", "--port", str(port), "--reverse"]) as edge:
        _untilListening(edge, port)
        tunnel = f"R:127.0.0.1:{public}:{origin}{'/udp' if kind == 'udp' else ''}"
        with _part([program, "client", f"http://127.0.0.1:{port}", tunnel]) as agent:
            yield f"127.0.0.1:{public}", edge, agent


@contextmanager
def _bore(origin: str, kind: str, host: str) -> Running:
    program, public = str(PEERS["bore"].folder / "bore"), str(_freePort())
    with _part([program, "server", "--bind-addr", "127.0.0.1"]) as edge:
        _untilListening(edge, BORE_PORT)
        with _part([program, "local", origin.rpartition(":")[2], "--to", "127.0.0.1", "--port", public]) as agent:
            yield f"127.0.0.1:{public}", edge, agent


_FRP, _FRPS = "github.com/fatedier/frp@v0.70.1", ("frps", "frpc")

PEERS = {
    "frp": Peer(_FRP, _FRPS, partial(_buildGo, ["./cmd/frps", "./cmd/frpc"]), partial(_frp, False)),
    "frp-tls": Peer(_FRP, _FRPS, partial(_buildGo, ["./cmd/frps", "./cmd/frpc"]), partial(_frp, True)),
    "chisel": Peer("github.com/jpillora/chisel@v1.10.1", ("chisel",), partial(_buildGo, ["."]), _chisel),
    "bore": Peer("bore-cli@0.6.0", ("bore",), _buildCargo, _bore, frozenset({"http", "tcp"})),
}
