"""
ShellHub and SSH in whole programs: an edge, devices, agents, the commands of operators, and OpenSSH's own client.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from unittest import SkipTest

from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread

from tests.peers._shellhub import PASSWORD, TENANT, Agents
from tests.system.stage import BIN, Program, Stage, until

USER = getpass.getuser()
ROUTE = '[[route]]\nhost = "bench.localhost"\nto = "lab.bench:{port}"\n'


class Devices(Stage):
    """
    An edge with both doors, and a user with a key.
    """

    def setUp(self) -> None:
        super().setUp()
        if shutil.which("ssh") is None:
            if os.environ.get("TUNNELSTACK_REQUIRE_PEERS") == "1":
                raise AssertionError("no OpenSSH client on the PATH")
            raise SkipTest("no OpenSSH client on the PATH")
        key = Key(rsa.generate_private_key(public_exponent=65537, key_size=2048))
        (self.home / "id").write_bytes(key.toString("OPENSSH", subtype="v1"))
        (self.home / "id").chmod(0o600)
        (self.home / "keys").write_bytes(key.public().toString("OPENSSH") + b"\n")

    def edge(self, text: str = "", policy: str = "pending", *, tenant: str = "", ssh: str = "") -> Program:
        """
        Start an edge with C{[shellhub]} and C{[ssh]}; C{self.door} is the port of the front door.
        """
        path = self.home / "edge.toml"
        path.write_text(
            f'[shellhub]\npolicy = "{policy}"\n[[tenant]]\nid = "{TENANT}"\nnamespace = "lab"\n{tenant}\n'
            f'[ssh]\nlisten = ["tcp:0:interface=127.0.0.1"]\n{ssh}\n{text}'
        )
        edge = self.startEdge("--config", str(path))
        self.door = int(edge.hears(r"^ssh +ready +port (\d+)")[1])
        return edge

    def device(self, text: str = "", version: int = 2) -> Program:
        """
        Start an agent of ours that is a device and nothing else.
        """
        path = self.home / "device.toml"
        path.write_text(
            f'[agent]\nbackoff_seconds = 0.5\n[[shellhub]]\nurl = "http://127.0.0.1:{self.port}"\ntenant = "{TENANT}"\n'
            f'hostname = "bench"\nversion = {version}\n{text}'
        )
        return self.program("tunnel-agent", "--config", str(path), "start")

    def tunnelstack(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """
        Run C{tunnelstack} to its end.
        """
        return subprocess.run(
            [BIN / "tunnelstack", *arguments], env=self.environ, cwd=self.home, capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def ssh(self, *arguments: str, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
        """
        Run OpenSSH's client, with the key and nothing else of this machine.
        """
        said = {
            "UserKnownHostsFile": "/dev/null", "StrictHostKeyChecking": "no", "LogLevel": "ERROR", "BatchMode": "yes",
            "IdentitiesOnly": "yes", "IdentityFile": str(self.home / "id"), "ControlPath": "none", **options,
        }
        words = [word for name, value in said.items() for word in ("-o", f"{name}={value}")]
        return subprocess.run(
            ["ssh", "-F", "none", *words, *arguments], env=self.environ, cwd=self.home, input=stdin, capture_output=True,
            timeout=180,
        )

    def through(self, name: str, *command: str, user: str = USER, **how: Any) -> subprocess.CompletedProcess[bytes]:
        """
        C{ssh} by way of C{tunnelstack connect}.
        """
        proxy = f"{BIN / 'tunnelstack'} connect --dev {name} --purpose ssh"
        return self.ssh(f"{user}@{name}", *command, ProxyCommand=proxy, **how)

    def askpass(self, password: str) -> None:
        """
        What C{ssh} is told when it asks for a password.
        """
        program = self.home / "askpass"
        program.write_text(f"#!/bin/sh\necho {password}\n")
        program.chmod(0o700)
        self.environ |= {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force"}

    def connected(self, name: str) -> Any:
        """
        Wait until a device is.
        """

        def there() -> Any:
            said = json.loads(self.tunnelstack("devices", "--json").stdout)["devices"]
            return next((each for each in said if each["device"] == name and each["connected"]), None)

        return until(there)


class OurDeviceTests(Devices):
    """
    C{tunnel-agent} with C{[[shellhub]]}.
    """

    def test_aDeviceWaitsForAnOperatorAndServesThen(self) -> None:
        """
        Pending, accepted, by C{connect}, through the front door by a key that the edge vouches for, on the web, and rejected.
        """
        web = self.origin()
        self.edge(ROUTE.format(port=web), ssh=f'authorized_keys_file = "{self.home}/keys"\nvouch = ["*@*"]\n')
        keys = f'authorized_keys_file = "{self.home}/keys"\ntargets = ["localhost:{web}"]\n'
        device = self.device(keys)
        listed = until(lambda: "lab.bench" in (said := self.tunnelstack("devices").stdout) and said)
        self.assertRegex(listed, r"DEVICE +STATUS +CONNECTED.*\nlab\.bench +pending +- ")
        self.assertEqual(self.tunnelstack("devices", "accept", "lab.bench").stdout, "lab.bench is accepted\n")
        device.hears(r"^session +up .*dialect=shellhub/2 device=lab\.bench")
        done = self.through("lab.bench", "cat; exit 3", stdin=b"octets")
        self.assertEqual((done.returncode, done.stdout), (3, b"octets"), done.stderr)
        self.assertEqual(self.sees("bench", path="/page").body, b"GET /page\n")
        front = self.ssh("-p", str(self.door), f"{USER}@lab.bench@127.0.0.1", "echo front")
        self.assertEqual((front.returncode, front.stdout), (0, b"front\n"), front.stderr)
        self.assertEqual(self.tunnelstack("devices", "reject", "lab.bench").stdout, "lab.bench is rejected\n")
        device_gone = self.through("lab.bench", "echo in")
        self.assertEqual((device_gone.returncode, device_gone.stdout), (255, b""))
        self.assertIn(b"lab.bench is not connected", device_gone.stderr)

    def test_anInstallKeyLetsAVersionOneDeviceIn(self) -> None:
        """
        The device has no keys of its own: the edge's word opens it.
        """
        (self.home / "install").write_text("open-sesame\n")
        self.edge(
            policy="install-key", tenant=f'install_keys_file = "{self.home}/install"',
            ssh=f'authorized_keys_file = "{self.home}/keys"\nvouch = ["*@*"]\njump_users = ["guest"]\n',
        )
        self.device(f'install_key_file = "{self.home}/install"\n', 1).hears(r"^session +up .*dialect=shellhub/1")
        front = self.ssh("-p", str(self.door), f"{USER}@lab.bench@127.0.0.1", "echo front")
        self.assertEqual((front.returncode, front.stdout), (0, b"front\n"), front.stderr)
        said = self.tunnelstack("connect", "--dev", "lab.bench", "--purpose", "tcp:127.0.0.1:1")
        self.assertEqual((said.returncode, said.stdout), (69, ""))
        self.assertNotIn("Traceback", said.stderr)

    def test_mistakesOfAFileAreReported(self) -> None:
        path = self.home / "edge.toml"
        path.write_text(
            '[[tenant]]\nid = "x"\nnamespace = "lab"\n[ssh]\nvouch = true\nlistn = []\n[shellhub]\npolicy = "all"\n'
        )
        done = self.tunnelstack("check", str(path))
        self.assertEqual(done.returncode, 78)
        for sentence in (
            ":2: id must be a UUID", ":6: [ssh] has no key listn; did you mean listen?",
            ":8: policy must be one of automatic, install-key, pending",
        ):
            self.assertIn(sentence, done.stdout + done.stderr)


class NativeTests(Devices):
    """
    C{tunnel-agent ssh}.
    """

    def test_theAgentsOwnServerIsReached(self) -> None:
        self.edge(ssh=f'authorized_keys_file = "{self.home}/keys"\njump_users = ["guest"]\n')
        self.startAgent("ssh", "--name", "desk", "--authorized-keys", str(self.home / "keys")).hears(r"^desk +tunnel:desk")
        done = self.through("desk", "echo in; exit 4")
        self.assertEqual((done.returncode, done.stdout), (4, b"in\n"), done.stderr)
        jump = " ".join(
            ["ssh", "-F", "none", "-i", str(self.home / "id"), "-o", "UserKnownHostsFile=/dev/null", "-o",
             "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR", "-p", str(self.door), "-W", "desk:22", "guest@127.0.0.1"]
        )  # fmt: skip
        done = self.ssh(f"{USER}@desk", "echo jumped", ProxyCommand=jump)
        self.assertEqual((done.returncode, done.stdout), (0, b"jumped\n"), done.stderr)

    def test_passwordsOfTheAgentsOwnServer(self) -> None:
        made = subprocess.run(
            [BIN / "tunnelstack", "password", "ada"], env=self.environ, input="lovelace\n", text=True,
            capture_output=True, timeout=60,
        )  # fmt: skip
        (self.home / "passwords").write_text(made.stdout)
        self.edge()
        self.startAgent("ssh", "--name", "desk", "--passwords", str(self.home / "passwords")).hears(r"^desk +tunnel:desk")
        how: dict[str, Any] = {"BatchMode": "no", "PreferredAuthentications": "password", "NumberOfPasswordPrompts": 1}
        for password, code, out in (("lovelace", 0, b"in\n"), ("byron", 255, b"")):
            self.askpass(password)
            done = self.ssh("-p", str(self.door), "ada@desk@127.0.0.1", "echo in", **how)
            self.assertEqual((done.returncode, done.stdout), (code, out), done.stderr)

    def test_anAgentReachesItsTargetsOnly(self) -> None:
        """
        The one target that its file names, and no other.
        """
        web = self.origin()
        self.startEdge()
        path = self.home / "agent.toml"
        path.write_text(
            f'[agent]\ntargets = ["localhost:{web}"]\n[[edge]]\nurl = "http://localhost:{self.port}"\n'
            '[[service]]\nname = "site"\ntarget = "1"\n'
        )
        self.program("tunnel-agent", "--config", str(path), "start").hears(r"^session +up ")
        for port, code, out in ((web, 0, b"HTTP/1.1 200 OK"), (web + 1, 69, b"")):
            done = subprocess.run(
                [BIN / "tunnelstack", "connect", "--dev", "dev", "--purpose", f"tcp:127.0.0.1:{port}"], env=self.environ,
                cwd=self.home, input=b"GET / HTTP/1.0\r\n\r\n", capture_output=True, timeout=60,
            )  # fmt: skip
            self.assertEqual((done.returncode, done.stdout[:15]), (code, out), done.stderr)

    def test_absentNamesAreReported(self) -> None:
        self.edge()
        self.startAgent("http", "1", "--name", "site")
        for name, sentence in (("nobody", "nobody is not connected"), ("dev", "dev cannot be reached: dev has no SSH server")):
            done = self.tunnelstack("connect", "--dev", name, "--purpose", "ssh")
            self.assertEqual(done.returncode, 69, done.stderr)
            self.assertIn(sentence, done.stderr)
            self.assertNotIn("Traceback", done.stderr)


class GenuineDeviceTests(Devices):
    """
    ShellHub's own transport at the device's end, in both versions.
    """

    @inlineCallbacks
    def test_genuineAgentsAreReached(self) -> Any:
        agents = Agents.start(self)
        yield deferToThread(self.edge, policy="automatic")
        self.askpass(PASSWORD)
        how: dict[str, Any] = {"BatchMode": "no", "PreferredAuthentications": "password"}
        for version in (1, 2):
            mac = f"02:42:ac:11:00:0{version}"
            authorized, _ = yield agents.join(f"http://127.0.0.1:{self.port}", version, mac=mac, ssh="ssh")
            name = f"{authorized.namespace}.{authorized.name}"
            yield deferToThread(self.connected, name)
            done = yield deferToThread(self.through, name, "echo genuine", user="root", **how)
            self.assertEqual(done.returncode, 0, done.stderr)
            front = yield deferToThread(
                self.ssh, "-p", str(self.door), f"root@{name}@127.0.0.1", "echo genuine", **how)
            self.assertEqual((front.returncode, front.stdout), (0, done.stdout), front.stderr)


class CommandTests(Devices):
    """
    C{tunnelstack devices} where it cannot do what it is told.
    """

    def test_mistakesHaveSentencesAndCodes(self) -> None:
        self.assertEqual(self.tunnelstack("devices").returncode, 69)
        self.edge()
        for arguments, code, sentence in (
            (("accept", "lab.nobody"), 69, "there is no device lab.nobody"),
            (("accept",), 64, "accept takes the name of one device"),
            (("forget",), 64, "devices has no verb 'forget'"),
        ):
            done = self.tunnelstack("devices", *arguments)
            self.assertEqual((done.returncode, done.stdout), (code, ""))
            self.assertIn(sentence, done.stderr)
        self.assertEqual(re.findall(r"^[A-Z]+", self.tunnelstack("devices").stdout), ["DEVICE"])
        self.assertEqual(oct(Path(self.home, ".local/state/tunnelstack/signing.pem").stat().st_mode & 0o777), "0o600")
