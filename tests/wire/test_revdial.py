"""
revdial's control connection: its vectors, every split of them, its times and bounds, and one side against the other.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.vectors_shellhub import CONN_READY, DIALLER, KEEP_ALIVE, PATH, PICKUP_FAILED, TICKET
from tunnelstack.errors import PeerError
from tunnelstack.wire.jsonline import InvalidJSON, LineTooLong, LineTruncated
from tunnelstack.wire.revdial import (
    KEEPALIVE_INTERVAL,
    KEEPALIVE_TIMEOUT,
    LINE,
    PENDING,
    PICK_UP_TIMEOUT,
    BadControlLine,
    DiallerLines,
    DiallerTimedOut,
    ListenerLines,
    PickUpExpired,
    PickUpFailed,
    PickUpRequested,
    TooManyPickUps,
    decode_line_untrusted,
    encode_line,
    pick_up_path,
    pick_up_url,
    read_pick_up_untrusted,
)

BASE = "/ssh/revdial"

TICK = 12.0     # seconds that pass in the model between two looks at its clock, at most


def dialler() -> DiallerLines:
    """
    A dialler that has greeted, at 0.
    """
    ours = DiallerLines(DIALLER, BASE)
    assert ours.expire(0.0) == [] and ours.data_to_send() == [KEEP_ALIVE]
    return ours


def listener() -> ListenerLines:
    """
    A listener that has greeted, at 0.
    """
    ours = ListenerLines()
    assert ours.expire(0.0) == [] and ours.data_to_send() == [KEEP_ALIVE]
    return ours


def ready(path: str) -> bytes:
    """
    The question for a connection.
    """
    return encode_line("conn-ready", path)


class LineTests(SynchronousTestCase):
    """
    The vectors of the page, section 7.
    """

    vectors = {
        KEEP_ALIVE: ("keep-alive", "", ""),
        CONN_READY: ("conn-ready", PATH, ""),
        PICKUP_FAILED: ("pickup-failed", "/nope?revdial.dialer=abc&uuid=def", "websocket: bad handshake"),
    }

    def test_vectorsAreMatched(self) -> None:
        self.assertEqual((len(KEEP_ALIVE), len(CONN_READY)), (25, 146))
        self.assertEqual(KEEP_ALIVE.hex(), "7b22636f6d6d616e64223a226b6565702d616c697665227d0a")
        self.assertEqual(
            CONN_READY.hex(),
            "7b22636f6d6d616e64223a22636f6e6e2d7265616479222c22636f6e6e50617468223a222f7373682f7265766469616c3f7265766469616c2e"
            "6469616c65723d30303131323233333434353536363737383839396161626263636464656566665c7530303236757569643d31313131313131"
            "312d323232322d343333332d383434342d353535353535353535353535227d0a",
        )
        for octets, said in self.vectors.items():
            self.assertEqual(encode_line(*said), octets)
            self.assertEqual(decode_line_untrusted(octets[:-1]), said)

    def test_otherSpellingsAreRead(self) -> None:
        self.assertEqual(decode_line_untrusted(b' {"err":null,"more":{"a":1},"command":"x"}\r'), ("x", "", ""))

    def test_badLinesAreErrors(self) -> None:
        for line in (b"", b"[]", b"null", b"{", b'{"command":1}', b'{"connPath":{}}', b'{"err":true}', b"\xff"):
            self.assertRaises(PeerError, decode_line_untrusted, line)

    def test_pathsOfPickUpsAreMade(self) -> None:
        self.assertEqual(pick_up_path(BASE, DIALLER, TICKET), PATH)
        self.assertEqual(pick_up_path("/r?a=b", "1", "2"), "/r?a=b&revdial.dialer=1&uuid=2")
        self.assertEqual(read_pick_up_untrusted(PATH), (DIALLER, TICKET))
        self.assertEqual(read_pick_up_untrusted("/r?uuid=2&revdial.dialer=1#x"), ("1", "2"))
        self.assertEqual(read_pick_up_untrusted("/r?revdial.dialer=1"), ("1", ""))
        self.assertEqual(read_pick_up_untrusted("/r?revdialXdialer=1&xuuid=2"), ("", ""))

    def test_pathsAreJoinedToURLs(self) -> None:
        """
        The joins of the page; a C{+} of ours stays one.
        """
        for server, path, url in (
            ("https://h:8443/base/", PATH, f"wss://h:8443/base{PATH}"),
            ("http://h", PATH, f"ws://h{PATH}"),
            ("http://h/a+b", "r?x", "ws://h/a+b/r?x"),
            ("http://h", "//evil/r", "ws://h/evil/r"),
            ("http://h", "@evil/", "ws://h/@evil/"),
            ("http://h", "http://evil/", "ws://h/http://evil/"),
        ):
            self.assertEqual(pick_up_url(server, path), url)


class DiallerTests(SynchronousTestCase):
    """
    The side that asks.
    """

    def test_aSessionMatchesItsTrace(self) -> None:
        ours = dialler()
        ours.dial(TICKET, 5.0)
        self.assertEqual(ours.data_to_send(), [CONN_READY, KEEP_ALIVE])
        self.assertEqual(ours.data_to_send(), [])
        self.assertTrue(ours.picked_up(TICKET))
        self.assertFalse(ours.picked_up(TICKET))
        self.assertFalse(ours.picked_up("other"))
        self.assertEqual(ours.next_deadline(), 5.0 + KEEPALIVE_INTERVAL)

    def test_anIdleDiallerMatchesItsTrace(self) -> None:
        ours, said = dialler(), []
        for now in range(1, 91):
            ours.expire(float(now))
            said += [(now, line) for line in ours.data_to_send()]
        self.assertEqual(said, [(30, KEEP_ALIVE), (60, KEEP_ALIVE), (90, KEEP_ALIVE)])

    def test_nothingIsDueBeforeTheFirstCall(self) -> None:
        self.assertIsNone(DiallerLines(DIALLER, BASE).next_deadline())

    def test_failureMeetsItsOwnDial(self) -> None:
        for cut in range(1, 80):
            ours = dialler()
            for ticket in ("one", TICKET, "three"):
                ours.dial(ticket, 0.0)
            octets, events = encode_line("pickup-failed", PATH, "refused"), []
            for start in range(0, len(octets), cut):
                events += ours.receive_data(octets[start : start + cut])
            self.assertEqual(events, [PickUpFailed(TICKET, "refused")])
            self.assertEqual([ours.picked_up(ticket) for ticket in ("one", TICKET, "three")], [True, False, True])

    def test_failureOfNothingIsIgnored(self) -> None:
        ours = dialler()
        ours.dial(TICKET, 0.0)
        self.assertEqual(ours.receive_data(PICKUP_FAILED), [])
        self.assertEqual(ours.receive_data(encode_line("pickup-failed")), [])
        self.assertEqual(ours.receive_data(encode_line("pickup-failed", PATH, "x") * 2), [PickUpFailed(TICKET, "x")])

    def test_signsAndUnknownCommandsAreIgnored(self) -> None:
        self.assertEqual(dialler().receive_data(KEEP_ALIVE + CONN_READY + b'{"command":"new"}\n{}\n'), [])

    def test_pickUpExpires(self) -> None:
        ours = dialler()
        ours.dial("one", 1.0)
        ours.dial("two", 2.0)
        ours.cancel("never")
        self.assertEqual(ours.next_deadline(), 1.0 + PICK_UP_TIMEOUT)
        self.assertEqual(ours.expire(20.9), [])
        self.assertEqual(ours.expire(21.0), [PickUpExpired("one")])
        self.assertEqual(ours.next_deadline(), 2.0 + PICK_UP_TIMEOUT)
        ours.cancel("two")
        self.assertEqual(ours.expire(22.0), [])
        self.assertFalse(ours.picked_up("one"))

    def test_awaitedAreBounded(self) -> None:
        ours = dialler()
        for number in range(PENDING):
            ours.dial(str(number), 0.0)
        said = len(ours.data_to_send())
        self.assertRaises(TooManyPickUps, ours.dial, "more", 0.0)
        self.assertEqual((said, ours.data_to_send()), (2 * PENDING, []))
        ours.picked_up("0")
        ours.dial("more", 0.0)

    def test_aLineMayHave4096OctetsAndNoMore(self) -> None:
        fits = b'{"a":"' + b"x" * (LINE - 9) + b'"}\n'
        self.assertEqual(len(fits), LINE)
        for size in (1, 1000, 4096, 9000):
            ours = dialler()
            for start in range(0, LINE, size):
                ours.receive_data(fits[start : start + size])
            self.assertRaises(LineTooLong, dialler().receive_data, b" " + fits)
            self.assertRaises(LineTooLong, dialler().receive_data, b"x" * 1_000_000)

    def test_garbageAndACutEndAreErrors(self) -> None:
        self.assertRaises(InvalidJSON, dialler().receive_data, b"hello\n")
        ours = dialler()
        ours.receive_data(KEEP_ALIVE + b"{")
        self.assertRaises(LineTruncated, ours.receive_eof)
        self.assertEqual(dialler().receive_eof(), [])


class ListenerTests(SynchronousTestCase):
    """
    The side that picks up.
    """

    def test_linesMayBeSplitAnywhere(self) -> None:
        octets = KEEP_ALIVE + CONN_READY + KEEP_ALIVE
        for cut in range(len(octets) + 1):
            ours = listener()
            events = ours.receive_data(octets[:cut]) + ours.receive_data(octets[cut:])
            self.assertEqual(events, [PickUpRequested(PATH)])

    def test_failureIsTheVector(self) -> None:
        ours, path = listener(), "/nope?revdial.dialer=abc&uuid=def"
        ours.receive_data(ready(path))
        ours.report_failure(path, "websocket: bad handshake")
        self.assertEqual(ours.data_to_send(), [PICKUP_FAILED])

    def test_failureIsToldOnceAndOnlyWhenAsked(self) -> None:
        ours = listener()
        ours.report_failure(PATH, "x")
        ours.receive_data(CONN_READY)
        ours.report_failure(PATH, "x")
        ours.report_failure(PATH, "x")
        ours.receive_data(ready("/other"))
        ours.picked_up("/other")
        ours.report_failure("/other", "x")
        self.assertEqual(ours.data_to_send(), [encode_line("pickup-failed", PATH, "x")])

    def test_aPathThatIsAskedTwiceIsDialledOnce(self) -> None:
        self.assertEqual(listener().receive_data(CONN_READY * 3), [PickUpRequested(PATH)])

    def test_pathsThatAreNone(self) -> None:
        for path in ("", "/a b", "/a\r\nHost: evil", "/é", "/\x7f"):
            self.assertRaises(BadControlLine, listener().receive_data, ready(path))
        self.assertRaises(BadControlLine, listener().receive_data, b'{"command":"conn-ready"}\n')

    def test_manyAreRefusedNotHeld(self) -> None:
        ours = listener()
        events = ours.receive_data(b"".join(ready(f"/{number}") for number in range(PENDING + 2)))
        self.assertEqual(len(events), PENDING)
        first, second = ours.data_to_send()
        self.assertEqual(decode_line_untrusted(first[:-1])[:2], ("pickup-failed", f"/{PENDING}"))
        self.assertEqual(decode_line_untrusted(second[:-1])[:2], ("pickup-failed", f"/{PENDING + 1}"))
        ours.picked_up("/0")
        self.assertEqual(ours.receive_data(ready("/more")), [PickUpRequested("/more")])

    def test_failureFitsIntoALine(self) -> None:
        for path, said in (("/" + "p" * 3900, 1), ("/" + "&" * 600, 1), ("/" + "&" * 4000, 0), ("/" + "p" * 4056, 0)):
            ours = listener()
            ours.receive_data(b'{"command":"conn-ready","connPath":"' + path.encode() + b'"}\n')
            ours.report_failure(path, "é<" * 2000)
            lines = ours.data_to_send()
            self.assertEqual(len(lines), said, path[:3])
            for line in lines:
                self.assertLessEqual(len(line), LINE)
                self.assertEqual(decode_line_untrusted(line[:-1])[1], path)

    def test_anIdleListenerMatchesItsTraceAndEndsInSilence(self) -> None:
        ours, said = listener(), []
        for now in range(1, 35):
            self.assertEqual(ours.expire(float(now)), [])
            said += [(now, line) for line in ours.data_to_send()]
        self.assertEqual(said, [(30, KEEP_ALIVE)])
        self.assertEqual(ours.next_deadline(), KEEPALIVE_TIMEOUT)
        self.assertEqual(ours.expire(KEEPALIVE_TIMEOUT), [DiallerTimedOut()])

    def test_onlySignsOfLifeAreSigns(self) -> None:
        ours = listener()
        ours.receive_data(CONN_READY)
        self.assertEqual(ours.expire(KEEPALIVE_TIMEOUT), [DiallerTimedOut()])
        ours = listener()
        ours.receive_data(KEEP_ALIVE)
        self.assertEqual(ours.expire(30.0), [])
        self.assertEqual(ours.next_deadline(), 60.0)
        self.assertEqual(ours.expire(64.9), [])
        self.assertEqual(ours.expire(65.0), [DiallerTimedOut()])

    def test_aSignThatWasHeardInTimeCounts(self) -> None:
        ours = listener()
        ours.expire(30.0)
        ours.receive_data(KEEP_ALIVE)
        self.assertEqual(ours.expire(36.0), [])

    def test_nothingIsDueBeforeTheFirstCall(self) -> None:
        self.assertIsNone(ListenerLines().next_deadline())


class Model(RuleBasedStateMachine):
    """
    A dialler and a listener, a link that delivers any number of octets, and a clock: no connection is ever lost, told twice or
    given to the wrong dial, and neither side gives up the other while the link carries something.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.ours, self.theirs = DiallerLines("d", "/r"), ListenerLines()
        self.wire = {True: b"", False: b""}           # toward the listener; toward the dialler
        self.heard = 0.0                             # when the listener had the last whole sign of life
        self.cut = b""                               # what it has of the line that follows
        self.count = 0
        self.waiting: dict[str, float] = {}          # tickets and their deadlines
        self.asked: set[str] = set()
        self.tick(0.0)

    def gather(self) -> None:
        self.wire[True] += b"".join(self.ours.data_to_send())
        self.wire[False] += b"".join(self.theirs.data_to_send())

    @rule(seconds=st.floats(0, TICK))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        late = {event.ticket for event in self.ours.expire(self.now)}
        assert late == {ticket for ticket, deadline in self.waiting.items() if deadline <= self.now}
        for ticket in late:
            del self.waiting[ticket]
        if self.theirs.expire(self.now):
            assert self.now >= self.heard + KEEPALIVE_TIMEOUT
        else:
            assert self.now < self.heard + KEEPALIVE_TIMEOUT + TICK + 1
        self.gather()

    @rule()
    def dial(self) -> None:
        self.count += 1
        ticket = f"t{self.count}"
        self.ours.dial(ticket, self.now)
        self.waiting[ticket] = self.now + PICK_UP_TIMEOUT
        self.gather()

    @rule(octets=st.integers(1, 300), there=st.booleans())
    def deliver(self, octets: int, there: bool) -> None:
        now, self.wire[there] = self.wire[there][:octets], self.wire[there][octets:]
        events: list[Any] = (self.theirs if there else self.ours).receive_data(now)
        if there:
            *lines, self.cut = (self.cut + now).split(b"\n")
            if KEEP_ALIVE[:-1] in lines:
                self.heard = self.now
        for event in events:
            if there:
                assert event.path not in self.asked
                self.asked.add(event.path)
            else:
                assert event.reason == "no" and event.ticket in self.waiting
                del self.waiting[event.ticket]
        self.gather()

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), good=st.booleans())
    def answer(self, data: Any, good: bool) -> None:
        path = data.draw(st.sampled_from(sorted(self.asked)))
        self.asked.remove(path)
        identifier, ticket = read_pick_up_untrusted(path)
        assert identifier == "d"
        if good:
            self.theirs.picked_up(path)
            assert self.ours.picked_up(ticket) == (self.waiting.pop(ticket, None) is not None)
        else:
            self.theirs.report_failure(path, "no")
        self.gather()

    @invariant()
    def deadlinesAreKnown(self) -> None:
        due = self.ours.next_deadline()
        assert due is not None and due <= min([self.now + KEEPALIVE_INTERVAL, *self.waiting.values()])
        assert (self.theirs.next_deadline() or 0.0) <= self.now + KEEPALIVE_TIMEOUT


class ModelTests(SynchronousTestCase):
    """
    The model, in whatever order hypothesis likes; and what was found by it.
    """

    def test_eitherSideIsAsTheModel(self) -> None:
        run_state_machine_as_test(Model, settings=settings(stateful_step_count=40))

    def test_aQuestionWithoutTheSignBehindItKeepsNoDiallerAlive(self) -> None:
        """
        The link delivers a sign of life, and 24 seconds later a question to its last octet: silence counts from the sign.
        """
        model = Model()
        model.deliver(len(KEEP_ALIVE), True)
        model.tick(TICK)
        model.tick(TICK)
        model.dial()
        model.deliver(len(model.wire[True]) - len(KEEP_ALIVE), True)
        self.assertEqual((model.asked, model.heard), ({"/r?revdial.dialer=d&uuid=t1"}, 0.0))
        model.tick(TICK)
        model.tick(TICK)
        self.assertEqual(model.theirs.expire(model.now), [DiallerTimedOut()])
