"""
Devices under strain, in whole programs: many sessions, much data, an agent that is killed, and what an idle device costs.

With C{TUNNELSTACK_SOAK=1} there is ten times as much data.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread

from tests.peers._shellhub import TENANT, Agents
from tests.system.stage import PATIENCE, Program, until
from tests.system.test_devices import USER, Devices

MIB = 1 << 20
SOAK = os.environ.get("TUNNELSTACK_SOAK") == "1"
STARTING_SECONDS = 120.0  # until sixty programs of SSH have started
PER_DEVICE = 200  # KiB of the edge's memory, generously


class Strain(Devices):
    """
    An edge that takes every device and vouches for one key.
    """

    timeout = 400

    def open(self) -> Program:
        """
        Start the edge.
        """
        return self.edge(policy="automatic", ssh=f'authorized_keys_file = "{self.home}/keys"\nvouch = ["*@*"]\n')

    def box(self, hostname: str, version: int) -> Program:
        """
        Start a device of this name, and wait until it is up.
        """
        path = self.home / f"{hostname}.toml"
        path.write_text(
            f'[agent]\nbackoff_seconds = 0.5\n[[shellhub]]\nurl = "http://127.0.0.1:{self.port}"\ntenant = "{TENANT}"\n'
            f'hostname = "{hostname}"\nversion = {version}\nauthorized_keys_file = "{self.home}/keys"\n'
        )
        program = self.program("tunnel-agent", "--config", str(path), "start", XDG_STATE_HOME=str(self.home / hostname))
        program.hears(rf"^session +up .*dialect=shellhub/{version} device=lab\.{hostname}")
        return program

    def front(self, device: str, *command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """
        C{ssh} by way of the front door.
        """
        return self.ssh("-p", str(self.door), f"{USER}@lab.{device}@127.0.0.1", *command, stdin=stdin)

    def many(self, count: int, run: Callable[[int, str], subprocess.CompletedProcess[bytes]]) -> None:
        """
        Run so many, which are all open at once before any ends; each says its own number.

        @param run: is given a number and a command.
        """
        here = Path(self.mktemp()).absolute()
        here.mkdir(parents=True)
        waits = f"for i in $(seq 600); do test -e {here}/go && break; sleep 0.2; done"
        with ThreadPoolExecutor(count) as pool:
            runs = [pool.submit(run, n, f"touch {here}/{n}; {waits}; echo number {n}") for n in range(count)]
            until(lambda: len(list(here.iterdir())) == count, lambda: sorted(here.iterdir()), STARTING_SECONDS)
            (here / "go").touch()
            for number, done in enumerate(each.result() for each in runs):
                self.assertEqual((done.returncode, done.stdout), (0, b"number %d\n" % number), done.stderr)


class SessionTests(Strain):
    """
    Devices of both versions, ours.
    """

    def test_manySessionsAtOnceEachSayTheirOwn(self) -> None:
        """
        50 through the front door, and 10 by C{tunnelstack connect}, spread over both versions.
        """
        self.open()
        for version in (1, 2):
            self.box(f"box{version}", version)
        self.many(50, lambda n, command: self.front(f"box{1 + n % 2}", command))
        self.many(10, lambda n, command: self.through(f"lab.box{1 + n % 2}", command))

    def test_muchDataArrivesWholeBothWays(self) -> None:
        self.open()
        octets = os.urandom((200 if SOAK else 20) * MIB)
        said = hashlib.sha256(octets).hexdigest()
        for version in (1, 2):
            self.box(f"box{version}", version)
            there = self.home / f"copy{version}"
            sent = self.front(f"box{version}", f"cat > {there}", stdin=octets)
            self.assertEqual(sent.returncode, 0, sent.stderr)
            self.assertEqual(hashlib.sha256(there.read_bytes()).hexdigest(), said)
            back = self.front(f"box{version}", f"cat {there}")
            self.assertEqual((back.returncode, hashlib.sha256(back.stdout).hexdigest()), (0, said), back.stderr)

    def test_aKilledAgentEndsItsSessionsAndNoOthers(self) -> None:
        self.open()
        for version in (1, 2):
            killed, other = f"box{version}", f"other{version}"
            agent = self.box(killed, version)
            self.box(other, version)
            marks = [self.home / f"{killed}.in", self.home / f"{other}.in"]
            go = self.home / f"{other}.go"
            waits = f"touch {marks[1]}; for i in $(seq 300); do test -e {go} && break; sleep 0.1; done; echo on"
            with ThreadPoolExecutor(2) as pool:
                cut = pool.submit(self.front, killed, f"touch {marks[0]}; exec sleep 90")
                kept = pool.submit(self.front, other, waits)
                until(lambda: all(mark.exists() for mark in marks))
                agent.end(signal.SIGKILL)
                done = cut.result(PATIENCE)
                self.assertNotEqual(done.returncode, 0)
                go.touch()
                left = kept.result(PATIENCE)
                self.assertEqual((left.returncode, left.stdout), (0, b"on\n"), left.stderr)
            self.box(killed, version)
            again = self.front(killed, "echo again")
            self.assertEqual((again.returncode, again.stdout), (0, b"again\n"), again.stderr)


class IdleTests(Strain):
    """
    ShellHub's own transport, idle.
    """

    @inlineCallbacks
    def test_anIdleDeviceCostsLittle(self) -> Any:
        """
        50 of each version.
        """
        agents = Agents.start(self)
        edge = yield deferToThread(self.open)
        before = resident(edge)
        members = [(f"02:00:00:00:00:{n:02x}", 1 + n % 2) for n in range(100)]
        found = yield agents.fleet(f"http://127.0.0.1:{self.port}", members)
        self.assertEqual(len(found), 100)
        listed = yield deferToThread(self.tunnelstack, "devices", "--json")
        there = [each["device"] for each in json.loads(listed.stdout)["devices"] if each["connected"]]
        self.assertEqual(len(there), 100)
        each = (resident(edge) - before) / 100
        sys.stdout.write(f"\nmemory of the edge per idle device: {each:.1f} KiB\n")
        self.assertLess(each, PER_DEVICE)


def resident(program: Program) -> int:
    """
    @return: a program's resident memory, in KiB.
    """
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{program.process.pid}/status").read_text())
    assert found is not None
    return int(found[1])
