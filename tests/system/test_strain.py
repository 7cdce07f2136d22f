"""
An edge on the open internet: large transfers in constant memory, visitors who stand still or drip, descriptors that run short,
and parts that are killed at random.

The gate runs smaller sizes; with C{TUNNELSTACK_SOAK=1} they are those that are promised.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
import sys
import threading
import time
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tests.changed_settings import changes
from tests.ports import freePort
from tests.system.house import DOMAIN, LIMITS, House, descriptors, memory
from tests.system.origin import Talk
from tests.system.stage import PATIENCE, ROOT, Program, until
from tunnelstack.session.budget import CONNECTION

SOAK = os.environ.get("TUNNELSTACK_SOAK") == "1"
MEBIBYTE = 1024 * 1024
LARGE = (200 if SOAK else 20) * MEBIBYTE
GROWTH = 16 * MEBIBYTE
STALLED = 1000 if SOAK else 200
DRIPPING = 500 if SOAK else 100
KILLING_SECONDS = 600.0 if SOAK else 8.0
HANG = PATIENCE
VISITORS = 4
KEPT = VISITORS + 1
"""Connections that may rest in a pool after as many visitors at a time."""


def request(path: str, *fields: str, host: str = f"keeps.{DOMAIN}", method: str = "GET") -> bytes:
    """
    The head of a request.
    """
    return "\r\n".join((f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", "")).encode()


class Peak:
    """
    The most memory that some programs had while something went on, above what they had before.
    """

    def __init__(self, *programs: Program) -> None:
        self._pids = [program.process.pid for program in programs]
        self._before = [memory(pid) for pid in self._pids]
        self._over = threading.Event()
        self.grown = [0] * len(programs)
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.look()

    def look(self) -> None:
        for index, pid in enumerate(self._pids):
            self.grown[index] = max(self.grown[index], memory(pid) - self._before[index])

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._over.set()
        self._thread.join()


class Strained(SynchronousTestCase):
    """
    A house for each test, because it is left in disorder.
    """

    limits = LIMITS
    edge = agentLimits = ""

    def setUp(self) -> None:
        self.house = House(self.limits, edge=self.edge, agentLimits=self.agentLimits)
        self.addCleanup(self.house.close)

    def served(self, host: str = f"keeps.{DOMAIN}") -> float:
        """
        Somebody else is served.

        @return: the seconds it took.
        """
        began = time.monotonic()
        with self.house.connect() as talk:
            talk.say(request("/length", host=host))
            self.assertEqual(talk.body(talk.head()), b"hello")
        return time.monotonic() - began

    def warnings(self, why: str) -> list[str]:
        """
        What the edge has said about one limit.
        """
        return [str(event["message"]) for event in self.house.edge.logged(status="limit", why=why)]


class MemoryTests(Strained):
    """
    Transfers larger than memory should ever be.
    """

    def down(self, octets: int) -> None:
        with self.house.connect() as talk:
            talk.say(request(f"/large?{octets}"))
            left = int(talk.head().field("content-length") or 0)
            while left:
                left -= len(talk.exactly(min(left, 65536)))

    def up(self, octets: int) -> None:
        with self.house.connect() as talk:
            talk.say(request("/swallow", f"Content-Length: {octets}", method="PUT"))
            for _ in range(octets // 65536):
                talk.say(bytes(65536))
            self.assertEqual(talk.head().status, 200)

    def test_memoryStaysBoundedDownAndUp(self) -> None:
        for transfer in (self.down, self.up):
            transfer(4 * MEBIBYTE)
            with Peak(self.house.edge, self.house.agent) as peak:
                transfer(LARGE)
            self.assertLess(max(peak.grown), GROWTH, [grown // 1024 for grown in peak.grown])


class DialectSet(Strained):
    """
    Visitors that ask for much and read nothing.
    """

    limits = "idle_seconds = 60\nvisitors = 2000\n"

    def stand(self) -> None:
        """
        Let visitors ask for much and read nothing.
        """
        visitors: list[Talk] = []
        self.addCleanup(lambda: [talk.socket.close() for talk in visitors])
        for _ in range(STALLED):
            talk = self.house.connect()
            talk.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            talk.say(request(f"/large?{100 * MEBIBYTE}"))
            visitors.append(talk)

    def speed(self, octets: int) -> float:
        """
        Octets a second of a visitor that reads all it has asked for.
        """
        began = time.monotonic()
        with self.house.connect() as talk:
            talk.say(request(f"/large?{octets}"))
            left = int(talk.head().field("content-length") or 0)
            while left:
                left -= len(talk.exactly(min(left, 65536)))
        return octets / (time.monotonic() - began)


class StillTests(DialectSet):
    """
    As much memory as they take.
    """

    def test_theyCostAFirstWindowEachAndOthersAreServed(self) -> None:
        self.served()
        with Peak(self.house.edge) as peak:
            self.stand()
            for _ in range(5):
                self.speed(4 * MEBIBYTE)
                self.assertLess(self.served(), HANG)
        self.assertLess(peak.grown[0], STALLED * 300 * MEBIBYTE // 1000, f"{peak.grown[0] // 1024} KiB")
        self.assertEqual(self.warnings("process"), [])


class BoundTests(DialectSet):
    """
    Far less memory than they would take.
    """

    octets = (64 if SOAK else 24) * MEBIBYTE
    limits = DialectSet.limits + f"process_octets = {octets}\n"

    def test_theBoundHoldsAndOneThatReadsIsNotReset(self) -> None:
        """
        The bound of the process holds; those that stand still are cut off, and one that reads slowly all the while is not.
        """
        self.served()
        with Peak(self.house.edge) as peak:
            self.stand()
            slow = Slow(self.house)
            with slow:
                until(lambda: self.warnings("process"), lambda: peak.grown, 30)
                time.sleep(3)
                self.speed(4 * MEBIBYTE)
                self.assertLess(self.served(), HANG)
        self.assertEqual(slow.problem, "")
        self.assertGreater(slow.got, 100_000)
        self.assertTrue(any("were reset" in line for line in self.warnings("process")))
        self.assertLess(peak.grown[0], documentedBound(self.octets, STALLED + 2), f"{peak.grown[0] // 1024} KiB")


def documentedBound(processOctets: int, connections: int) -> float:
    """
    The resident octets of a process above those that it has when it is idle (docs/topics/limits.md, "When memory is short").
    """
    return 1.25 * processOctets + connections * CONNECTION


class AgentBoundTests(Strained):
    """
    The same at the other end: uploads to a local server that does not read.
    """

    octets = (64 if SOAK else 24) * MEBIBYTE
    limits = DialectSet.limits
    agentLimits = f"process_octets = {octets}\n"

    def test_theBoundHoldsAndWhoIsReadIsServed(self) -> None:
        self.served()
        with Peak(self.house.agent) as peak, Uploads(self.house, STALLED) as uploads:
            until(lambda: self.house.agent.logged(status="limit", why="process"), lambda: peak.grown, 60)
            time.sleep(3)
            self.served()                                 # once those that stand still are reset, which may take ten seconds
            self.assertGreater(uploads.sent, self.octets)
        self.assertLess(peak.grown[0], documentedBound(self.octets, STALLED + 2), f"{peak.grown[0] // 1024} KiB")


class Uploads:
    """
    Visitors that upload as much as is taken from them, to a server that reads none of it.

    @ivar sent: octets.
    """

    def __init__(self, house: House, visitors: int) -> None:
        self._talks = [house.connect() for _ in range(visitors)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._push)
        self.sent = 0
        for talk in self._talks:
            talk.say(request("/deaf", f"Content-Length: {100 * MEBIBYTE}", method="PUT"))
            talk.socket.setblocking(False)

    def __enter__(self) -> Uploads:
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._over.set()
        self._thread.join(30)
        for talk in self._talks:
            talk.socket.close()

    def _push(self) -> None:
        while not self._over.wait(0.01):
            for talk in self._talks:
                with contextlib.suppress(OSError):        # it takes nothing now, or was reset
                    self.sent += talk.socket.send(bytes(65536))


class Slow:
    """
    A visitor that reads a hundred kilobytes a second until it is over.

    @ivar got: octets that it has read.
    @ivar problem: what went wrong.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.got = 0
        self.problem = ""

    def __enter__(self) -> Slow:
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _read(self) -> None:
        try:
            with self._house.connect() as talk:
                talk.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                talk.say(request(f"/large?{100 * MEBIBYTE}"))
                talk.head()
                while not self._over.wait(0.1):
                    self.got += len(talk.exactly(10_000))
        except (AssertionError, OSError) as problem:
            self.problem = repr(problem)


class DripTests(Strained):
    """
    Heads that come letter by letter.
    """

    limits = "head_seconds = 4\n"

    def test_slowVisitorsDelayNoOther(self) -> None:
        visitors = [self.house.connect() for _ in range(DRIPPING)]
        head = request("/length")
        began = time.monotonic()
        for letter in head[:6]:
            for talk in visitors:
                talk.say(bytes([letter]))
            self.assertLess(self.served(), HANG)
            time.sleep(0.2)
        for talk in visitors:
            self.assertEqual(talk.head().status, 408)
            talk.socket.close()
        self.assertLess(time.monotonic() - began, HANG)


class DescriptorTests(Strained):
    """
    As few descriptors as some systems give.
    """

    def test_visitorsWaitAndItIsSaidOnce(self) -> None:
        self.served()
        resource.prlimit(self.house.edge.process.pid, resource.RLIMIT_NOFILE, (160, 160))
        visitors = [self.house.connect() for _ in range(150)]
        until(lambda: self.warnings("descriptors"), self.house.edge.said)
        self.assertLess(descriptors(self.house.edge.process.pid), 140)
        for talk in visitors[:100]:
            talk.socket.close()
        self.served()
        self.assertEqual(len(self.warnings("descriptors")), 1)
        for talk in visitors[100:]:
            talk.socket.close()


class NewcomerTests(Strained):
    """
    Visitors whom a proxy in front introduces are not this machine's own.
    """

    limits = LIMITS + "visitors = 20\n"

    @changes("edge [limits] visitors")
    def test_visitorsBeyondTheBoundWait(self) -> None:
        visitors = [self.house.connect() for _ in range(30)]
        until(lambda: self.warnings("visitors"), self.house.edge.said)
        for talk in visitors:
            talk.socket.close()
        self.served()
        self.assertEqual(len(self.warnings("visitors")), 1)


class Load:
    """
    Visitors, one after the other in each of some threads, who ask for little and for much until it is over.

    @ivar outcomes: how often each status was seen; C{"cut"} is a body that ended too soon, after its status was told.
    @ivar slowest: seconds.
    """

    def __init__(self, house: House, chance: random.Random) -> None:
        self._house = house
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(random.Random(chance.random()),)) for _ in range(VISITORS)]
        self.outcomes: Counter[int | str] = Counter()
        self.slowest = 0.0

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def hangs(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _visit(self, chance: random.Random) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            visit = chance.choice((self._little, self._much, self._wordy))
            try:
                with self._house.connect() as talk:
                    outcome = visit(talk)
            except OSError as problem:
                outcome = f"{visit.__name__}: {problem!r}"
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.outcomes[outcome] += 1

    def _little(self, talk: Talk) -> int | str:
        talk.say(request("/echo", "Content-Length: 5", method="PUT"), b"hello")
        return self._answer(talk, 5)

    def _much(self, talk: Talk) -> int | str:
        talk.say(request(f"/large?{2 * MEBIBYTE}"))
        try:
            return self._answer(talk, 2 * MEBIBYTE)
        except ConnectionResetError:          # the end of a body that breaks off may overtake even its head
            return "cut"

    def _wordy(self, talk: Talk) -> int | str:
        """
        An answer may come, and the connection end, before all is said.
        """
        talk.say(request("/swallow", f"Content-Length: {MEBIBYTE}", method="PUT"))
        with contextlib.suppress(ConnectionError):
            talk.say(bytes(MEBIBYTE))
        return self._answer(talk, 64)

    def _answer(self, talk: Talk, octets: int) -> int | str:
        head = talk.head()
        if head.status != 200:
            return head.status
        try:
            talk.exactly(octets)
        except (AssertionError, ConnectionError):
            return "cut"
        return 200


class KilledTests(Strained):
    """
    C{kill -9} of the agent and of the origin, at random, under load.
    """

    limits = "head_seconds = 5\nfirst_octet_seconds = 20\n"
    edge = 'access_log = ""\n'

    def setUp(self) -> None:
        super().setUp()
        self.origin = self.startOrigin(str(freePort()))
        self.port = self.origin.hears(r"^(\d+)$")[1]
        self.addCleanup(lambda: self.origin.drop())
        self.house.agent.drop()
        self.startAgent()

    def programs(self) -> tuple[Program, ...]:
        return self.house.edge, self.house.agent, self.origin

    def startOrigin(self, port: str) -> Program:
        return Program([sys.executable, "-m", "tests.system.origin", port], self.house.environ, str(ROOT))

    def startAgent(self) -> None:
        self.house.agent = self.house.startAgent({"keeps": int(self.port)})

    def test_killedProgramsLeaveNothingBehind(self) -> None:
        chance = random.Random(7)
        self.served()
        before = [descriptors(program.process.pid) for program in self.programs()]
        with Load(self.house, chance) as load:
            self.kill(chance)
        self.assertFalse(load.hangs())
        self.assertLess(load.slowest, HANG, load.outcomes)
        self.assertLessEqual(load.outcomes.keys(), {200, 502, 503, "cut"}, load.outcomes)
        self.assertGreater(load.outcomes[200], 10, load.outcomes)
        for program, few in zip(self.programs(), before, strict=True):
            until(lambda pid=program.process.pid, most=few + KEPT: descriptors(pid) <= most, program.said)

    def kill(self, chance: random.Random) -> None:
        end = time.monotonic() + KILLING_SECONDS
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.2, 1.0))
            if chance.random() < 0.5:
                self.origin.drop()
                self.origin = self.startOrigin(self.port)
                self.origin.hears(rf"^{self.port}$")
            else:
                self.house.agent.drop()
                self.startAgent()
            self.recovers()

    def recovers(self) -> None:
        """
        Others are served again, at last.
        """

        def served() -> bool:
            try:
                self.served()
            except (AssertionError, OSError):
                return False
            return True

        until(served, self.house.edge.said)
