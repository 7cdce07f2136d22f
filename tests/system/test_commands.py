"""
The commands of C{tunnelstack}, as their users start them: what they say, and their exit codes.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import stat
import subprocess
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.system.stage import BIN, Program, Stage, until
from tests.transport.certificates import authority
from tunnelstack.commands.admin_client import adminRequest


class Commands(Stage):
    """
    Commands beside an edge that may be there or not.
    """

    def tunnelstack(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """
        Run C{tunnelstack} to its end.
        """
        return subprocess.run(
            [BIN / "tunnelstack", *arguments], env=self.environ | environ, cwd=self.home, capture_output=True, text=True,
            timeout=60, stdin=subprocess.DEVNULL,
        )

    def good(self, *arguments: str, **environ: str) -> str:
        done = self.tunnelstack(*arguments, **environ)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def edge(self, text: str = "", **environ: str) -> Program:
        """
        Start an edge from a file.
        """
        path = self.home / "edge.toml"
        path.write_text('[edge]\nlisten = ["tcp:0:interface=127.0.0.1"]\n' + text)
        edge = self.program("tunnel-edge", "--config", str(path), **environ)
        self.port = int(edge.hears(r"^edge +ready +http://localhost:(\d+)")[1])
        return edge

    def agent(self, token: str, *arguments: str) -> Program:
        """
        Start an agent, and wait for its session.
        """
        agent = self.program(
            "tunnel-agent", "--edge", f"http://localhost:{self.port}", *arguments, TUNNELSTACK_TOKEN=token
        )
        agent.hears(r"^session +up ")
        return agent

    @property
    def state(self) -> Any:
        return self.home / ".local" / "state" / "tunnelstack"


class ReadingTests(Commands):
    """
    C{status}, C{agents}, C{routes}, C{streams}.
    """

    def test_withoutAnEdgeCommandsFail(self) -> None:
        for command in ("status", "agents", "routes", "streams", "samples"):
            done = self.tunnelstack(command)
            self.assertEqual((done.returncode, done.stdout), (69, ""))
            self.assertRegex(done.stderr, r"^tunnelstack: no edge answers at .*/admin\.sock: No such file")

    def test_aRunningEdgeReportsItsState(self) -> None:
        self.edge('[[route]]\nhost = "www.example.net"\nto = "site"\n')
        token = self.good("token", "new", "desk", "--allow", "http:*").strip()
        self.agent(token, "http", "1", "--name", "site").hears(r"^site ")
        status = json.loads(self.good("status", "--json"))
        self.assertEqual((status["state"], status["agents"], status["services"]), ("ready", 1, 1))
        self.assertIn("agents      1 (1 sessions, 1 services)\n", self.good("status"))
        [agent] = json.loads(self.good("agents", "--json"))["agents"]
        self.assertEqual(
            (agent["agent"], agent["services"], agent["credential"]), ("desk", ["http:site"], token.split("_")[1])
        )
        heads, line = self.good("agents").splitlines()
        self.assertTrue(heads.startswith("AGENT") and line.startswith("desk"))
        routes = json.loads(self.good("routes", "--json"))["routes"]
        self.assertEqual(
            [(route["public"], route["agents"], route["configured"]) for route in routes],
            [("www.example.net", ["desk"], True), (f"http://site.localhost:{self.port}", ["desk"], False)],
        )
        self.assertEqual(len(self.good("routes").splitlines()), 3)
        [stream] = json.loads(self.good("streams", "--json"))["streams"]
        self.assertEqual(stream["protocol"], "/tunnelstack/control/1.0.0")
        self.assertIn("/tunnelstack/control/1.0.0", self.good("streams"))

    def test_theSocketIsPrivateAndGoesWithTheEdge(self) -> None:
        edge = self.edge()
        mode = os.stat(self.state / "admin.sock").st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.state).st_mode), 0o700)
        self.assertEqual(edge.end(), 0)
        self.assertFalse((self.state / "admin.sock").exists())

    def test_aSecondEdgeLeavesTheSocketToTheFirst(self) -> None:
        self.edge()
        first = json.loads(self.good("status", "--json"))["pid"]
        second = self.edge()
        second.hears(r"^warning +another edge holds ")
        self.assertEqual(json.loads(self.good("status", "--json"))["pid"], first)

    def test_anEdgeThatWasKilledLeavesNothingInTheWay(self) -> None:
        self.edge().drop()
        self.edge()
        self.assertEqual(json.loads(self.good("status", "--json"))["state"], "ready")

    def test_elsewhereOneMayOnlyRead(self) -> None:
        self.edge('[admin]\nlisten = "unix:other.sock"\n')
        path = self.home / "other.sock"
        self.assertEqual(json.loads(self.good("status", "--json", "--admin", str(path)))["state"], "ready")
        done = self.tunnelstack("token", "new", "a", "--admin", str(path))
        self.assertEqual(done.returncode, 0)
        self.assertIn("this address is read-only", done.stderr)

    def test_anotherPortAnswersReaders(self) -> None:
        self.edge('[admin]\nlisten = "tcp:0:interface=127.0.0.1"\n')
        status = json.loads(self.good("status", "--json"))
        [admin] = status["admin"]
        self.assertEqual(json.loads(self.good("status", "--json", TUNNELSTACK_ADMIN=f"http://{admin}"))["pid"], status["pid"])
        connection = http.client.HTTPConnection(admin, timeout=30)
        self.addCleanup(connection.close)
        connection.request("POST", "/drain")
        self.assertEqual(connection.getresponse().status, 403)

    def test_anotherPortMayHaveTLS(self) -> None:
        """
        The certificate is verified, with the authorities of the system or those of a file.
        """
        identity = authority().identity("localhost")
        (self.home / "root.pem").write_bytes(authority().certificate.to_cryptography().public_bytes(Encoding.PEM))
        (self.home / "edge.pem").write_bytes(
            identity.certificate.to_cryptography().public_bytes(Encoding.PEM)
            + identity.key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        self.edge(f'[admin]\nlisten = "ssl:0:interface=127.0.0.1:privateKey={self.home}/edge.pem"\n')
        status = json.loads(self.good("status", "--json"))
        at = f"https://localhost:{status['admin'][0].rpartition(':')[2]}"
        answer = json.loads(self.good("status", "--json", "--admin", at, SSL_CERT_FILE=str(self.home / "root.pem")))
        self.assertEqual(answer["pid"], status["pid"])
        done = self.tunnelstack("status", "--admin", at)
        self.assertEqual(done.returncode, 69)
        self.assertIn("certificate verify failed", done.stderr)
        done = self.tunnelstack("status", "--admin", at.replace("https", "http"))
        self.assertEqual(done.returncode, 69, done.stdout)

    def test_wrongCommandLinesAreUsageErrors(self) -> None:
        for arguments in (("status", "now"), ("agents", "--all"), ("nonsense",), ()):
            self.assertEqual(self.tunnelstack(*arguments).returncode, 64, arguments)
        self.assertEqual(self.tunnelstack("status", "--admin", "http://127.0.0.1:port").returncode, 64)


class TokenTests(Commands):
    """
    C{token new}, C{token list}, C{token revoke}.
    """

    def test_tokensAreShownOnce(self) -> None:
        done = self.tunnelstack("token", "new", "laptop", "--allow", "http:laptop-*", "--share", "--expires-in", "90d")
        self.assertEqual(done.returncode, 0, done.stderr)
        token = done.stdout.strip()
        self.assertRegex(token, r"\Ats_[0-9a-f]{8}_[0-9A-Za-z_-]{43}\Z")
        self.assertIn("no edge runs here", done.stderr)
        kept = (self.state / "tokens.toml").read_text()
        self.assertNotIn(token[12:], kept)
        self.assertEqual(stat.S_IMODE(os.stat(self.state / "tokens.toml").st_mode), 0o600)
        listed = self.good("token", "list")
        self.assertRegex(listed, r"(?m)^[0-9a-f]{8}  laptop  http:laptop-\*  yes    20\d\d-\d\d-\d\dT[0-9:]{8}Z$")
        self.assertNotIn(token[12:], listed)

    def test_aTokenMayGoIntoANewFileForItsUserAlone(self) -> None:
        path = self.home / "laptop.token"
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        done = self.tunnelstack("token", "new", "laptop", "--out", str(path))
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        token = path.read_text()
        self.assertRegex(token, r"\Ats_[0-9a-f]{8}_[0-9A-Za-z_-]{43}\n\Z")
        self.assertNotIn(token[12:].strip(), done.stderr)
        self.assertIn(str(path), done.stderr)

    def test_noFileIsOverwrittenAndNoTokenKeptThen(self) -> None:
        path, link = self.home / "laptop.token", self.home / "link"
        path.write_text("something else")
        link.symlink_to(self.home / "elsewhere")
        for out in (path, link, self.home / "missing" / "laptop.token", self.home):
            done = self.tunnelstack("token", "new", "laptop", "--out", str(out))
            self.assertEqual((done.returncode, done.stdout), (78, ""), done.stderr)
            self.assertIn(str(out), done.stderr)
        self.assertEqual(path.read_text(), "something else")
        self.assertFalse((self.home / "elsewhere").exists())
        self.assertEqual(len(self.good("token", "list").splitlines()), 1)

    def test_aTokenThatCannotBeKeptLeavesNoFile(self) -> None:
        (self.home / "file").write_text("")
        path = self.home / "laptop.token"
        done = self.tunnelstack("token", "new", "a", "--out", str(path), STATE_DIRECTORY=str(self.home / "file" / "state"))
        self.assertEqual(done.returncode, 78, done.stderr)
        self.assertFalse(path.exists())

    def test_aFileThatOthersCanReadIsReported(self) -> None:
        for mode, told in ((0o644, True), (0o600, False)):
            path = self.home / f"{mode:o}"
            path.touch()
            path.chmod(mode)
            with open(path, "w") as out:
                done = subprocess.run(
                    [BIN / "tunnelstack", "token", "new", "a"], env=self.environ, cwd=self.home, stdout=out,
                    stderr=subprocess.PIPE, text=True, timeout=60, check=True,
                )
            self.assertEqual("can be read by other users" in done.stderr, told, done.stderr)

    def test_revokedByNameOrIdentifier(self) -> None:
        first, second, third = (
            self.good("token", "new", name, "--allow", "http:*").split("_")[1] for name in ("a", "a", "b")
        )
        self.assertEqual(self.good("token", "revoke", first), f"token {first} of agent a revoked\n")
        self.assertEqual(self.good("token", "revoke", "b"), f"token {third} of agent b revoked\n")
        self.assertEqual([line.split()[0] for line in self.good("token", "list").splitlines()], ["ID", second])
        done = self.tunnelstack("token", "revoke", "b")
        self.assertEqual(done.returncode, 69)
        self.assertIn("no token b in ", done.stderr)

    def test_aRunningEdgeTakesPartAtOnce(self) -> None:
        self.edge()
        token = self.good("token", "new", "desk", "--allow", "http:*").strip()
        agent = self.agent(token, "http", "1", "--name", "site")
        done = self.tunnelstack("token", "revoke", "desk")
        self.assertEqual((done.returncode, done.stderr), (0, "its sessions are closed\n"))
        self.assertEqual(json.loads(self.good("agents", "--json"))["agents"], [])
        agent.hears(r"^warning +localhost:\d+ ends the session: the credential of desk \([0-9a-f]+\) was revoked")
        agent.hears(r"^error +no session .* refuses the token")

    def test_commandsAtTheSameTimeLoseNoToken(self) -> None:
        running = [
            subprocess.Popen(
                [BIN / "tunnelstack", "token", "new", f"a{number}"], env=self.environ, cwd=self.home,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for number in range(4)
        ]
        self.assertEqual([process.wait(60) for process in running], [0] * 4)
        self.assertEqual(len(self.good("token", "list").splitlines()), 5)

    def test_invalidArgumentsAreRejected(self) -> None:
        for code, *arguments in (
            (64,), (64, "make"), (64, "new"), (64, "new", "Two Words"), (64, "new", "a", "--allow", "everything"),
            (64, "new", "a", "--expires-in", "soon"), (64, "list", "all"), (64, "revoke"), (64, "revoke", "a", "--share"),
            (64, "list", "--out", "x"),
        ):  # fmt: skip
            self.assertEqual(self.tunnelstack("token", *map(str, arguments)).returncode, code, arguments)
        (self.home / "file").write_text("")
        done = self.tunnelstack("token", "new", "a", STATE_DIRECTORY=str(self.home / "file" / "state"))
        self.assertEqual(done.returncode, 78, done.stderr)
        (self.home / "tokens.toml").write_text("[[agent]]\nnam = 1\n")
        self.assertEqual(self.tunnelstack("token", "list", STATE_DIRECTORY=str(self.home)).returncode, 78)


class LifeTests(Commands):
    """
    What a running edge is told.
    """

    def test_reloadSaysWhatChangedAndWhatWaits(self) -> None:
        edge = self.edge('domain = "localhost"\n')
        path = self.home / "edge.toml"
        path.write_text(
            path.read_text().replace('"localhost"', '"example.net"')
            + '[limits]\nvisitors = 9\n[[route]]\nhost = "a.net"\nto = "a"\n'
        )
        edge.tell(signal.SIGHUP)
        edge.hears(r"^reload +\[limits\] visitors: 10000 becomes 9$")
        edge.hears(r"^reload +\[\[route\]\]: 1 added$")
        edge.hears(r"^reload +\[edge\] domain: localhost becomes example.net when the edge is restarted$")
        path.write_text("[edge]\nlisen = []\n")
        edge.tell(signal.SIGHUP)
        edge.hears(r"^error +the configuration is unchanged: .*edge.toml:2: \[edge\] has no key lisen; did you mean listen")
        edge.tell(signal.SIGUSR2)
        edge.hears(r"^state +.*'visitors': 0")
        self.assertEqual(edge.end(), 0)

    def test_anEdgeIsDrainedThroughTheSocket(self) -> None:
        edge = self.edge()
        self.assertEqual(adminRequest("GET", "/ready", str(self.state / "admin.sock"))["ready"], True)
        self.assertEqual(adminRequest("POST", "/drain", str(self.state / "admin.sock"), {})["draining"], True)
        self.assertEqual(edge.ends(), 0)
        until(lambda: not (self.state / "admin.sock").exists())

    def test_helpFitsAScreen(self) -> None:
        for program, command in (
            ("tunnelstack", ""), ("tunnelstack", "demo"), ("tunnelstack", "connect"), ("tunnelstack", "status"),
            ("tunnelstack", "token"), ("tunnelstack", "check"), ("tunnelstack", "doctor"), ("tunnelstack", "devices"),
            ("tunnel-edge", ""), ("tunnel-agent", ""),
        ):  # fmt: skip
            done = subprocess.run(
                [BIN / program, *filter(None, [command]), "--help"], env=self.environ, capture_output=True, text=True,
                timeout=60,
            )
            lines = done.stdout.splitlines()
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertLessEqual(len(lines), 42, command)
            self.assertLessEqual(max(map(len, lines)), 120, command)
            examples = [line for line in lines[2:14] if re.match(r"  [a-z]", line)]
            self.assertGreaterEqual(len(examples), 3, program + command)


class DoctorTests(Commands):
    """
    C{doctor}.
    """

    def test_exitCodesTellTheResult(self) -> None:
        edge = self.startEdge()
        done = self.tunnelstack("doctor", "--dev", "--json")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertTrue(json.loads(done.stdout)["good"])
        url = f"http://localhost:{self.port}"
        self.assertEqual(self.tunnelstack("doctor", "--edge", url, TUNNELSTACK_TOKEN="wrong").returncode, 77)
        origin = f"http://localhost:{self.origin()}"
        self.assertEqual(self.tunnelstack("doctor", "--edge", origin, TUNNELSTACK_TOKEN="t").returncode, 76)
        self.assertEqual(edge.end(), 0)
        self.assertEqual(self.tunnelstack("doctor", "--dev").returncode, 78)      # it has left nothing to find it by
        done = self.tunnelstack("doctor", "--edge", url, TUNNELSTACK_TOKEN="t")
        self.assertEqual(done.returncode, 69)
        self.assertRegex(done.stdout, r"(?m)^reach +WRONG .*\n +check whether the edge runs")
        self.assertEqual(self.tunnelstack("doctor", "now").returncode, 64)
        self.assertEqual(self.tunnelstack("doctor", "--edge", "ftp://a.net").returncode, 64)
        self.assertEqual(self.tunnelstack("doctor", TUNNELSTACK_EDGE="ftp://a.net").returncode, 78)
        self.assertEqual(self.tunnelstack("doctor", "--edge", "nowhere").returncode, 78)      # there is no token for it
