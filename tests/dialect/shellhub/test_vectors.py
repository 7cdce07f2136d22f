"""
Every golden vector of ShellHub through the whole stack, in both roles: J1 to J12.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.shellhub.support import Device, Hub, Sshd, request
from tests.promises.streams import Collect
from tests.session.doors import House
from tests.transport.rawpeer import parse
from tests.wire.vectors_shellhub import (
    ACCEPT,
    AGENT,
    ASKED,
    CONN_READY,
    DIALLER,
    END,
    JUNK,
    KEEP_ALIVE,
    KEY,
    MASK,
    MASKED,
    PATH,
    REQUESTS,
    SERVER,
    SESSION,
    TICKET,
    TRANSCRIPTS,
)
from tunnelstack.dialect.shellhub import v1, v2
from tunnelstack.negotiation.errors import NegotiationRefused
from tunnelstack.session.revdial.dialler import PickUpTable, RevdialDialler
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.testing import Wire
from tunnelstack.transport.websocket._autobahn import xor
from tunnelstack.wire.yamux.limits import SessionLimits

HEADER = Struct("!BBHII")
DATA, WINDOW, PING = 0, 1, 2
SYN, ACK, FIN, RST = 1, 2, 4, 8
IDS = [f"J{number}" for number in range(1, 13)]
Frame = tuple[int, int, bytes]      # kind, flags, payload (or the value of a ping)


def frames(octets: bytes) -> list[Frame]:
    """
    What was said on the only stream, whatever its number, and pings.
    """
    found = []
    at = 0
    while at < len(octets):
        _, kind, flags, _, length = HEADER.unpack_from(octets, at)
        at += HEADER.size
        payload = octets[at : at + length] if kind == DATA else b""
        at += len(payload)
        found.append((kind, flags, payload if kind == DATA else b"%d" % (length if kind == PING else 0)))
    return found


def meaning(said: list[Frame]) -> tuple[bytes, int, list[bytes]]:
    """
    All payload, all flags, and pings: how a session cuts its frames is its own business.
    """
    flags = 0
    for kind, flag, _ in said:
        flags |= flag if kind in (DATA, WINDOW) else 0
    payload = b"".join(payload for kind, _, payload in said if kind == DATA)
    return payload, flags, [payload for kind, _, payload in said if kind == PING]


def turns(name: str) -> list[tuple[str, list[Frame]]]:
    """
    Who says what, what somebody says in one go together.
    """
    gone: list[tuple[str, list[Frame]]] = []
    for who, text in TRANSCRIPTS[name]:
        if gone and gone[-1][0] == who:
            gone[-1][1].extend(frames(bytes.fromhex(text)))
        else:
            gone.append((who, frames(bytes.fromhex(text))))
    return gone


def octets(said: list[Frame], stream: int = 1) -> bytes:
    """
    Frames as octets again, all on one stream.
    """
    packed = b""
    for kind, flags, payload in said:
        length, body = (len(payload), payload) if kind == DATA else (int(payload), b"")
        packed += HEADER.pack(0, kind, flags, 0 if kind == PING else stream, length) + body
    return packed


class Played:
    """
    One of our sessions against a vector's other side.
    """

    def __init__(self, session: YamuxSession, wire: Wire) -> None:
        self.wire = wire
        self.raw = Collect()
        wire.connect(session, self.raw)
        wire.settle()
        self.heard = 0

    def say(self, said: list[Frame]) -> None:
        self.raw.transport.write(octets(said))  # type: ignore[union-attr]
        self.wire.settle()

    def hear(self) -> list[Frame]:
        self.wire.settle()
        heard, self.heard = self.raw.got[self.heard :], len(self.raw.got)
        return frames(heard)


class YamuxVectorTests(SynchronousTestCase):
    """
    J3 to J8.
    """

    def edge(self) -> tuple[YamuxSession, Played]:
        wire = Wire()
        session = YamuxSession(True, clock=wire.clock, limits=SessionLimits(keepalive=0))
        return session, Played(session, wire)

    def ask(self, name: str) -> tuple[Played, Deferred[Any]]:
        session, played = self.edge()
        opening = v2.streamEndpoint(session, ASKED[name]).connect(Factory.forProtocol(Collect))
        return played, opening

    def play(self, name: str, until: int) -> tuple[Played, Deferred[Any]]:
        """
        Our edge says what the genuine server does, up to a turn.
        """
        played, opening = self.ask(name)
        for who, said in turns(name)[:until]:
            if who == AGENT:
                played.say(said)
            else:
                self.assertEqual(meaning(played.hear()), meaning(said), name)
        return played, opening

    def test_J3_theEdgeOpensSSH(self) -> None:
        played, opening = self.play("J3", 3)
        self.assertNoResult(opening)
        played.say([(DATA, 0, b"SSH-2.0-Go\r\n")])
        end = self.successResultOf(opening)
        self.assertEqual(end.got, b"SSH-2.0-Go\r\n")
        played.say([(WINDOW, FIN, b"0")])
        self.assertTrue(end.reason.check(ConnectionDone))
        self.assertEqual(meaning(played.hear())[1], FIN)

    def test_J4_theEdgeClosesSSH(self) -> None:
        played, opening = self.play("J4", 2)
        self.assertEqual(meaning(played.hear()), (b'{"id":"sess-1"}\n', 0, []))
        self.successResultOf(opening).transport.loseConnection()
        self.assertEqual(meaning(played.hear()), (b"", FIN, []), "unlike the genuine server we end our half (bug B7)")
        played.say([(WINDOW, FIN, b"0")])

    def test_J5_theEdgeProxies(self) -> None:
        for behind in (b"", b"HTTP/1.1 200 OK\r\n"):
            played, opening = self.play("J5", 3)
            played.say([(DATA, 0, b'{"status":"ok"}\n' + behind)])
            end = self.successResultOf(opening)
            self.assertEqual(end.got, behind)
            end.transport.write(b"GET / HTTP/1.1\r\n\r\n")
            self.assertEqual(meaning(played.hear()), meaning(turns("J5")[-1][1]))

    def test_J6_aProxyThatIsRefused(self) -> None:
        played, opening = self.play("J6", 4)
        failure = self.failureResultOf(opening, NegotiationRefused)
        self.assertEqual(str(failure.value), "failed to dial to the address and port")
        self.assertEqual(meaning(played.hear())[1], RST, "not FIN: genuine agents never end their half")

    def test_J7_unknownNamesAreRefused(self) -> None:
        """
        The agent's side alone: our edge asks for nothing that is not known.
        """
        self.serve("J7")

    def test_J8_pingsAreAnswered(self) -> None:
        _, played = self.edge()
        for who, said in turns("J8"):
            if who == SERVER:
                played.say(said)
            else:
                self.assertEqual(played.hear(), said)
        _, opposite = self.edge()
        session = opposite.wire.near.protocol
        answer = session.ping()
        self.assertEqual(opposite.hear(), turns("J8")[0][1])
        opposite.say(turns("J8")[1][1])
        self.successResultOf(answer)

    # The agent's role

    def serve(self, name: str, until: int | None = None) -> Played:
        """
        Our agent says what the genuine one does, up to a turn.

        @ivar web: who is at the far end of a proxy; in J6, nobody.
        """
        self.device = device = Device(Hub(), 2, "02:42:ac:11:00:02")
        self.network = network = device.hub.network
        self.web = Collect()
        network.ports[8080].factory.buildProtocol = lambda address: self.web
        if name == "J6":
            del network.ports[8080]
        played = Played(device.dialler._sessionV2(), Wire(clock=network))
        for who, said in turns(name)[:until]:
            network.settle()
            if who == SERVER:
                played.say(said)
            else:
                # the line feed behind an answer is what we leave out (bug B5)
                payload, flags, pings = meaning(said)
                heard = meaning(played.hear())
                self.assertEqual((heard[0], heard[2]), (re.sub(rb'("ok"|port")}\n$', rb"\1}", payload), pings), name)
                self.assertEqual(heard[1] & ~flags & ~FIN, 0, name)
        network.settle()
        played.wire.settle()
        return played

    def test_J3_theAgentServesSSH(self) -> None:
        played = self.serve("J3", 4)
        self.assertEqual(list(self.device.streams.sessions), ["sess-1"])
        played.say([(WINDOW, FIN, b"0")])
        self.assertIsNotNone(self.device.sshd[0].reason)

    def test_J4_theAgentEndsSSH(self) -> None:
        played = self.serve("J4", 2)
        ended: list[str] = []
        self.device.streams.sessions["sess-1"] = _Stream(ended)
        played.say(turns("J4")[2][1])
        self.assertEqual((ended, self.device.streams.sessions), (["end"], {}))
        self.assertEqual(meaning(played.hear()), (b"", FIN, []))

    def test_J5_theAgentProxies(self) -> None:
        self.serve("J5")
        self.assertEqual(self.web.got, b"GET / HTTP/1.1\r\n\r\n")

    def test_J6_theAgentRefuses(self) -> None:
        played = self.serve("J6", 4)
        self.assertEqual(meaning(played.hear()), (b"", 0, []))
        again = self.serve("J6", 3)
        self.network.settle()
        wanted = b'{"error":"failed to dial to the address and port"}'
        self.assertEqual(meaning(again.hear()), (wanted, FIN, []), "and ends its half (bug B3)")


class _Stream:
    connected = True

    def __init__(self, ended: list[str]) -> None:
        self.loseConnection = lambda: ended.append("end")
        self.unregisterProducer = lambda: None


class Version1VectorTests(SynchronousTestCase):
    """
    J9 to J11.
    """

    def test_J9_controlLinesMatch(self) -> None:
        wire, raw = Wire(), Collect()
        dialler = RevdialDialler(
            PickUpTable(), "/ssh/revdial", clock=wire.clock, identifier=DIALLER, newTicket=lambda: TICKET,
        )  # fmt: skip
        wire.connect(dialler, raw)
        wire.settle()
        self.assertEqual(raw.got, KEEP_ALIVE)
        opening = v1.streamEndpoint(dialler, SESSION).connect(Factory.forProtocol(Collect))
        wire.settle()
        self.assertEqual(raw.got, KEEP_ALIVE + CONN_READY + KEEP_ALIVE)
        opening.addErrback(lambda _: None)
        opening.cancel()

    def test_requestsAndAnswers(self) -> None:
        for name, (target, asked, _, answer, _) in REQUESTS.items():
            house = House(identifier=DIALLER, newTicket=lambda: TICKET)
            house.dialler._wire._base = "/ssh/revdial"
            house.joined()
            raw = Collect()
            factory = Factory()
            factory.buildProtocol = lambda address, raw=raw: raw  # type: ignore[method-assign]
            house.listener.listener.listen(factory)
            opening = v1.streamEndpoint(house.dialler, target).connect(Factory.forProtocol(Collect))
            house.settle()
            self.assertEqual((house.reached, raw.got), ([PATH], asked), name)
            raw.transport.write(answer + (b"" if target is END else b"payload"))  # type: ignore[union-attr]
            house.settle()
            self.assertEqual(self.successResultOf(opening).got, b"" if target is END else b"payload", name)

    def test_theAgentAnswers(self) -> None:
        for name, (target, asked, _, answer, _) in REQUESTS.items():
            hub = Hub()
            device = Device(hub, 1, "02:42:ac:11:00:02")
            web = Factory.forProtocol(Collect)
            web.noisy = False
            hub.network.ports[8080].factory.buildProtocol = lambda address, web=web: web.buildProtocol(address)
            house = House()
            house.clock = hub.network  # type: ignore[assignment]
            session = device.dialler._sessionV1()
            session.reach = house.reach
            raw = Collect()
            wire = Wire(clock=hub.network)
            server = Collect()
            house.pickUps.take = lambda identifier, ticket, raw=raw: _one(raw)  # type: ignore[method-assign]
            wire.connect(session, server)
            house.wires.append(wire)
            house.settle()
            server.transport.write(KEEP_ALIVE + CONN_READY + KEEP_ALIVE)  # type: ignore[union-attr]
            house.settle()
            raw.transport.write(asked)  # type: ignore[union-attr]
            for _ in range(3):
                house.settle()
                hub.network.settle()
            said = re.sub(rb"Date: [^\r]*", b"Date: Thu, 01 Jan 2026 00:00:00 GMT", raw.got)
            self.assertEqual(said, answer or b"SSH-2.0-Go\r\n", name)
            self.assertEqual(target is END, raw.reason is not None, name)


class OtherVectorTests(SynchronousTestCase):
    def test_J1_theHandshakeMatches(self) -> None:
        for path in ("/agent/connection", "/ssh/connection"):
            hub = Hub()
            device = hub.device()
            caller = hub.visit(request(
                f"GET {path}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                f"Sec-WebSocket-Key: {KEY.decode()}", f"Authorization: Bearer {device.dialler.registration.token}",
            ))  # fmt: skip
            head = caller.got.partition(b"\r\n\r\n")[0].split(b"\r\n")
            self.assertEqual(head[0], b"HTTP/1.1 101 Switching Protocols")
            self.assertIn(b"Sec-WebSocket-Accept: " + ACCEPT, head)
            self.assertFalse(any(b"protocol" in line.lower() for line in head[1:]), "only if it was offered")

    def test_J2_theMaskedFrameIsRead(self) -> None:
        self.assertEqual(parse(MASKED), [(2, True, bytes.fromhex("000100020000000100000000"))])
        _, kind, flags, stream, _ = HEADER.unpack(xor(MASK, MASKED, 6, len(MASKED)))
        self.assertEqual((kind, flags, stream), (WINDOW, ACK, 1))

    def test_J12_junkIsAnOrdinaryEnd(self) -> None:
        """
        A server's request in the middle of SSH: an SSH server says good-bye, and nothing is logged as an error.
        """

        class Strict(Sshd):
            def dataReceived(self, data: bytes) -> None:
                self.pieces.append(data)
                self.transport.loseConnection()  # type: ignore[union-attr]

        factory = Factory.forProtocol(Strict)
        factory.noisy = False
        for version in (1, 2):
            hub = Hub()
            device = hub.device(version, ssh=factory)
            opened = hub.connections.endpointTo(
                device.dialler.registration.identity.tenant, device.uid, SESSION,
            ).connect(Factory.forProtocol(Collect))  # fmt: skip
            hub.settle()
            end = self.successResultOf(opened)
            end.transport.write(JUNK)
            hub.settle()
            self.assertTrue(end.reason.check(ConnectionDone), end.reason)
            self.assertTrue(device.up)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_everyVectorIsPlayed(self) -> None:
        played = {*TRANSCRIPTS, *REQUESTS, "J1", "J2", "J12"}
        self.assertEqual(sorted(played, key=lambda name: int(name[1:])), IDS)


def _one(protocol: Any) -> Any:
    factory = Factory()
    factory.buildProtocol = lambda address: protocol      # type: ignore[method-assign]
    return factory
