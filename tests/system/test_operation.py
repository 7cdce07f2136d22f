"""
Edges and agents as a machine runs them: systemd, logs, terminals.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.control.test_access_log import DATE
from tests.system.stage import BIN, Stage, until
from tests.transport.certificates import Authority, authority


class LogTests(Stage):
    """
    What is written down.
    """

    def test_oneRequestIsInBothLogsUnderOneName(self) -> None:
        edge = self.startEdge()
        agent = self.startAgent("http", str(self.origin()), "--name", "site")
        agent.hears(r"^site ")
        answer = self.visit("site", "/here?x=1")
        self.assertEqual(answer.status, 200)
        [line] = until(lambda: edge.logged(logger="tunnelstack.access"), edge.said)
        [same] = until(lambda: agent.logged(logger="tunnelstack.access"), agent.said)
        for side in (line, same):
            self.assertEqual((side["method"], side["target"], side["status"]), ("GET", "/here?x=1", 200))
            self.assertEqual((side["service"], side["octets"]), ("site", len(answer.body)))
        self.assertEqual(line["request"], same["request"])
        self.assertEqual((line["visitor"], same["visitor"]), ("127.0.0.1", "127.0.0.1"))

    def test_aFolderHasItsLogToo(self) -> None:
        (self.home / "page.txt").write_text("hello\n")
        edge = self.startEdge("--access-log", "")
        agent = self.startAgent("serve", str(self.home), "--name", "files")
        agent.hears(r"^files ")
        self.assertEqual(self.visit("files", "/page.txt").body, b"hello\n")
        [line] = until(lambda: agent.logged(logger="tunnelstack.access"), agent.said)
        self.assertEqual((line["target"], line["status"], line["octets"]), ("/page.txt", 200, 6))
        self.assertEqual(edge.logged(logger="tunnelstack.access"), [])

    def test_aFileThatIsMovedAwayIsBegunAgain(self) -> None:
        log = self.home / "access.log"
        edge = self.startEdge("--access-log", str(log))
        self.visit("nobody", "/one")
        until(lambda: log.read_text())
        log.rename(self.home / "old.log")
        edge.tell(signal.SIGHUP)
        edge.hears(r"^reload ")
        self.visit("nobody", "/two")
        self.assertEqual(json.loads(until(lambda: log.exists() and log.read_text()))["target"], "/two")
        self.assertEqual(edge.end(), 0)
        self.assertNotIn("/two", (self.home / "old.log").read_text())

    def test_theLogIsReopenedDespiteABrokenConfiguration(self) -> None:
        log, config = self.home / "access.log", self.home / "edge.toml"
        config.write_text(f'[edge]\naccess_log = "{log}"\n')
        edge = self.startEdge("--config", str(config))
        self.visit("nobody", "/one")
        until(lambda: log.read_text())
        log.rename(self.home / "old.log")
        config.write_text("[edge\n")
        edge.tell(signal.SIGHUP)
        edge.hears(r"^error +the configuration is unchanged")
        self.visit("nobody", "/two")
        self.assertEqual(json.loads(until(lambda: log.exists() and log.read_text()))["target"], "/two")
        self.assertEqual(edge.end(), 0)

    def test_eachFormatOfTheLogIsWritten(self) -> None:
        edge = self.startEdge("--log-format", "text")
        self.visit("nobody", "/\x7f".replace("\x7f", "x"))
        until(lambda: any(re.match(rf"{DATE} access +404 GET nobody\.localhost:\d+/x ", line) for line in edge.err), edge.said)
        done = subprocess.run(
            [BIN / "tunnel-edge", "--dev", "--port", "0"], env=self.environ | {"TUNNELSTACK_LOG_FORMAT": "xml"}, timeout=60,
            capture_output=True, text=True,
        )  # fmt: skip
        self.assertEqual(done.returncode, 78, done.stderr)


class UnreadTests(Stage):
    """
    Outputs that no process reads.
    """

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*self.command(command[0]), *command[1:]], env=self.environ, cwd=self.home, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            self.addCleanup(stream.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def ready(self, process: subprocess.Popen[bytes]) -> None:
        """
        Wait for the edge, and read nothing from it after that.
        """
        assert process.stdout is not None
        octets, deadline = b"", time.monotonic() + 30
        while not (found := re.search(rb"ready +http://localhost:(\d+)", octets)) and time.monotonic() < deadline:
            octets += os.read(process.stdout.fileno(), 4096)
        assert found is not None
        self.port = int(found[1])

    def fill(self, process: subprocess.Popen[bytes], kilobytes: int = 160) -> None:
        """
        Have more written to standard error, by the access log, than a pipe holds; each visitor is answered.
        """
        for _ in range(kilobytes // 8):
            self.assertEqual(self.visit("nothing", "/" + "x" * 8000, seconds=30).status, 404)
            process.send_signal(signal.SIGUSR2)

    def test_theEdgeServesAndEnds(self) -> None:
        process = self.start("tunnel-edge", "--dev", "--port", "0")
        self.ready(process)
        self.fill(process)
        process.terminate()
        self.assertEqual(process.wait(30), 0)

    def test_theEdgeUnderTwistdServes(self) -> None:
        process = self.start("twistd", "-n", "--pidfile=", "tunnel-edge", "--dev", "--port", "0")
        self.ready(process)
        self.fill(process)
        process.terminate()
        process.wait(30)

    def test_aReaderThatIsGoneEndsNothing(self) -> None:
        process = self.start("tunnel-edge", "--dev", "--port", "0")
        self.ready(process)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        self.fill(process)
        process.terminate()
        self.assertEqual(process.wait(30), 0)

    def test_outputsThatWereNeverOpenEndNothing(self) -> None:
        process = self.start(
            "python", "-c", "import os, sys; os.closerange(1, 3); os.execv(sys.argv[1], sys.argv[1:])",
            str(BIN / "tunnel-edge"), "--dev", "--port", "0",
        )
        state = self.home / ".local/state/tunnelstack/dev.toml"
        self.port = int(until(lambda: state.exists() and re.search(r"localhost:(\d+)", state.read_text()))[1])
        self.fill(process)
        process.terminate()
        self.assertEqual(process.wait(30), 0)


class SystemdTests(Stage):
    """
    What systemd gives and hears.
    """

    def listening(self) -> tuple[socket.socket, str]:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "notify")
        found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(found.close)
        found.bind(path)
        found.settimeout(30)
        return found, path

    def test_systemdHearsOfReadinessAndStopping(self) -> None:
        found, path = self.listening()
        edge = self.startEdge(NOTIFY_SOCKET=path)
        self.assertEqual(found.recv(100), b"READY=1")
        self.assertEqual(edge.end(), 0)
        self.assertTrue(found.recv(100).startswith(b"STOPPING=1\n"))

    def test_anAgentIsReadyWithoutAnEdge(self) -> None:
        found, path = self.listening()
        agent = self.program(
            "tunnel-agent", "--edge", "http://127.0.0.1:1", "http", "1", TUNNELSTACK_TOKEN="t", NOTIFY_SOCKET=path,
            WATCHDOG_USEC="2000000",
        )
        self.assertEqual({found.recv(100) for _ in range(3)}, {b"READY=1", b"WATCHDOG=1"})
        self.assertEqual(agent.end(), 0)

    def test_aSocketThatWasHandedOver(self) -> None:
        with socket.socket() as there:
            there.bind(("127.0.0.1", 0))
            there.listen()
            port = there.getsockname()[1]
            # The process identifier has to be that of the edge, which a shell learns by becoming it.
            script = 'exec 3<&"$0"; LISTEN_FDS=1 LISTEN_FDNAMES=web LISTEN_PID=$$ exec "$@"'
            process = subprocess.Popen(
                ["bash", "-c", script, str(there.fileno()), str(BIN / "tunnel-edge"), "--domain", "localhost"],
                env=self.environ, cwd=self.home, pass_fds=(there.fileno(),), stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.assertIn(f"http://localhost:{port}", process.stdout.readline())
        self.assertEqual(self.visit("nobody", port=port).status, 404)
        process.terminate()
        self.assertEqual(process.wait(30), 0)


class TerminalTests(Stage):
    """
    An agent on a terminal.
    """

    def test_aTerminalShowsThePanel(self) -> None:
        self.startEdge()
        near, far = pty.openpty()
        self.addCleanup(os.close, near)
        process: Any = subprocess.Popen(
            [BIN / "tunnel-agent", "--dev", "http", str(self.origin()), "--name", "site"], cwd=self.home,
            env=self.environ | {"TERM": "xterm", "NO_COLOR": "1"}, stdin=far, stdout=far, stderr=far,
        )  # fmt: skip
        os.close(far)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        shown = self.reading(near, b"http://site.localhost:")
        self.visit("site", "/a-page")
        shown += self.reading(near, b"/a-page")
        self.assertRegex(shown, rb"session +up ")
        self.assertIn(b"\x1b[J", shown)
        self.assertNotIn(b"\x1b[32m", shown)
        process.terminate()
        self.assertEqual(process.wait(30), 0)

    def reading(self, descriptor: int, until_: bytes) -> bytes:
        """
        Read a terminal until something is there.
        """
        found, deadline = b"", time.monotonic() + 30
        while until_ not in found and time.monotonic() < deadline:
            found += os.read(descriptor, 65536)
        self.assertIn(until_, found)
        return found




class CertificateTests(Stage):
    """
    An agent without a token.
    """

    def pem(self, name: str, certificate: Any, key: Any = None) -> Path:
        path = self.home / name
        path.parent.mkdir(exist_ok=True)
        octets = certificate.to_cryptography().public_bytes(Encoding.PEM)
        if key is not None:
            octets += key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(octets)
        return path

    def test_itsCertificateIsItsCredential(self) -> None:
        root, other = authority(), Authority("another root")
        server, client = root.identity("localhost"), root.identity("office.example")
        self.pem("certificates/localhost.pem", server.certificate, server.key)
        ca = self.pem("root.pem", root.certificate)
        ours = self.pem("ours.pem", client.certificate, client.key)
        stranger = other.identity("office.example")
        strange = self.pem("strange.pem", stranger.certificate, stranger.key)
        (self.home / "edge.toml").write_text(
            f'[[listener]]\nendpoint = "tls:{self.home / "certificates"}:port=0:interface=127.0.0.1"\n'
            f'client_ca = "{ca}"\nclient_auth = "request"\n'
            '[[certificate]]\nname = "office"\nsubject = "CN=office.example"\nallow = ["http:*"]\n'
        )
        edge = self.program("tunnel-edge", "--config", str(self.home / "edge.toml"))
        port = edge.hears(r"^edge +ready +https://localhost:(\d+)")[1]

        def agent(certificate: Path) -> Any:
            (self.home / "agent.toml").write_text(
                f'[[edge]]\nurl = "https://localhost:{port}"\nca_file = "{ca}"\ncertificate_file = "{certificate}"\n'
                '[[service]]\nname = "site"\ntarget = "1"\n'
            )
            return self.program("tunnel-agent", "--config", str(self.home / "agent.toml"), "start")

        agent(ours).hears(r"^site +https://site\.localhost:")
        edge.hears(r"^agent +office connected")
        agent(strange).hears(r"^(warning|error) +no session with ")      # signed by nobody whom the edge trusts
        self.assertEqual(len([line for line in edge.out if "office connected" in line]), 1)
