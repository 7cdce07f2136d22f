"""
Metrics: what is counted, and the text that is made of it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from typing import Any
from unittest.mock import Mock, patch

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.control.test_access_log import request
from tunnelstack.control.access_record import CLIENT_CLOSED, AccessRecord, together
from tunnelstack.control.metrics import counts, families, text_format
from tunnelstack.control.metrics.counts import CLASSES, OTHERS, UNROUTED, ExchangeCounts, Histogram
from tunnelstack.control.metrics.exchange_notes import MOST_NOTED
from tunnelstack.control.metrics.extra import requireExtra
from tunnelstack.control.metrics.families import (
    COUNTER,
    EDGE,
    FAMILIES,
    GAUGE,
    HISTOGRAM,
    PER_SERVICE,
    Family,
)
from tunnelstack.control.metrics.reactor_lag import ReactorLag
from tunnelstack.control.metrics.samples import Samples, exchanges, histogram, labelled, services, single
from tunnelstack.control.metrics.text_format import (
    PIECE_OCTETS,
    SLICE_SAMPLES,
    SampleCollector,
)
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind

UNITS = ("seconds", "bytes")


def values(text: str) -> dict[str, float]:
    """
    The samples of a text, C{{"name{label}": value}}, as the parser of C{prometheus_client} reads it.
    """
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def textOf(*several: Samples) -> str:
    """
    The text of samples.
    """
    return b"".join(SampleCollector(lambda: several).pieces()).decode()


class ConventionTests(SynchronousTestCase):
    """
    The names, by U{https://prometheus.io/docs/practices/naming/}.
    """

    def test_namesHaveThePrefixAndPlainWords(self) -> None:
        for family in (*FAMILIES, *PER_SERVICE):
            self.assertRegex(family.name, r"\Atunnelstack_[a-z]+(_[a-z]+)*\Z")
            for label in family.labels:
                self.assertRegex(label, r"\A[a-z]+(_[a-z]+)*\Z")

    def test_namesAreDifferent(self) -> None:
        names = [name for family in (*FAMILIES, *PER_SERVICE) for name in family.sampleNames]
        self.assertEqual(len(names), len(set(names)))

    def test_countersHaveTheSuffixOnceAndGaugesNot(self) -> None:
        for family in (*FAMILIES, *PER_SERVICE):
            self.assertFalse(family.name.endswith("_total"), family.name)
            self.assertEqual(family.sampleNames[0].endswith("_total"), family.kind == COUNTER)
            self.assertIn(family.kind, (COUNTER, GAUGE, HISTOGRAM))

    def test_unitsAreBaseUnitsAtTheEnd(self) -> None:
        for family in (*FAMILIES, *PER_SERVICE):
            self.assertNotRegex(family.name, "milli|micro|kilo|mega|octets|minutes|percent")
            for unit in UNITS:
                if f"_{unit}" in family.name:
                    self.assertTrue(family.name.endswith(unit), family.name)

    def test_eachIsASentence(self) -> None:
        for family in (*FAMILIES, *PER_SERVICE):
            self.assertRegex(family.says, r"(?s)\A[A-Z01].*\.\Z")

    def test_onlyMetricsPerServiceHaveNamesAsLabels(self) -> None:
        for family in FAMILIES:
            self.assertFalse({"agent", "service", "host", "visitor", "name"} & set(family.labels), family.name)
        for family in PER_SERVICE:
            self.assertTrue({"agent", "service"} & set(family.labels), family.name)

    def test_everyConstantIsListed(self) -> None:
        defined = {value.name for value in vars(families).values() if isinstance(value, Family)}
        self.assertEqual(defined, {family.name for family in (*FAMILIES, *PER_SERVICE)})
        self.assertEqual(families.READY.roles, (EDGE,))


class HistogramTests(SynchronousTestCase):
    """
    Buckets.
    """

    def test_aBoundBelongsToItsBucket(self) -> None:
        seen = Histogram((1.0, 2.0))
        for value in (0.5, 1.0, 1.5, 2.0, 2.5):
            seen.observe(value)
        self.assertEqual(list(seen.cumulative()), [("1.0", 2), ("2.0", 4), ("+Inf", 5)])
        self.assertEqual(seen.total, 7.5)

    def test_itsTextHasSumAndCount(self) -> None:
        seen = Histogram((1.0, 2.0))
        seen.observe(1.5)
        text = textOf(histogram(families.DURATION, seen))
        self.assertIn("# TYPE tunnelstack_exchange_seconds histogram\n", text)
        read = values(text)
        name = families.DURATION.name
        self.assertEqual([read[f"{name}_bucket{{{bound}}}"] for bound in ("1.0", "2.0", "+Inf")], [0, 1, 1])
        self.assertEqual((read[f"{name}_count"], read[f"{name}_sum"]), (1, 1.5))


class ExchangeTests(SynchronousTestCase):
    """
    Requests.
    """

    def setUp(self) -> None:
        self.counts = ExchangeCounts(FailureKind, perService=True)

    def count(self, record: AccessRecord) -> None:
        self.counts(record)
        self.counts.fold()

    def test_statusesAreCountedByClass(self) -> None:
        for status in (101, 200, 204, 302, 404, 502, 599, 600, 999, CLIENT_CLOSED, 0):
            self.count(request(status=status))
        self.assertEqual(
            dict(zip(CLASSES, self.counts.byClass, strict=True)),
            {"closed": 2, "1xx": 1, "2xx": 2, "3xx": 1, "4xx": 1, "5xx": 2, "other": 2},
        )

    def test_octetsAndTimesAddUp(self) -> None:
        self.count(request(octets=10, seconds=0.5, first=0.004))
        self.count(request(octets=5, seconds=0.25))
        self.assertEqual((self.counts.octets, self.counts.duration.total), (15, 0.75))
        self.assertEqual(sum(self.counts.firstOctet.counts), 1, "a response of the edge itself has no first octet")
        self.assertEqual(self.counts.firstOctet.counts[self.counts.firstOctet.bounds.index(0.005)], 1)

    def test_failuresAreCountedByReason(self) -> None:
        self.count(request(failed=ExchangeFailed(FailureKind.RATE_LIMITED)))
        self.count(request(failed=ValueError("something else")))
        self.assertEqual({code: count for code, count in self.counts.failures.items() if count}, {"rate_limited": 1})
        self.assertEqual(len(self.counts.failures), len(FailureKind), "those that have not happened are 0")

    def test_servicesAreCountedOnlyIfAsked(self) -> None:
        self.count(request(service="site", status=200, octets=7))
        self.count(request(service="site", status=500, octets=1))
        read = values(textOf(*services(self.counts)))
        self.assertEqual(read, {
            **{name: value for name, value in read.items() if name.startswith("process_")},
            "tunnelstack_service_exchanges_total{site}{2xx}": 1, "tunnelstack_service_exchanges_total{site}{5xx}": 1,
            "tunnelstack_service_response_bytes_total{site}": 8,
        })  # fmt: skip
        plain = ExchangeCounts(FailureKind, perService=False)
        plain(request(service="site"))
        self.assertEqual((plain.services, list(services(plain))), (None, []))

    def test_whatAVisitorNamesIsNoService(self) -> None:
        self.count(request(service="made-up", status=404, failed=ExchangeFailed(FailureKind.UNKNOWN)))
        self.count(request(service=""))
        self.count(request(service="away", status=503, failed=ExchangeFailed(FailureKind.ABSENT)))
        self.assertEqual(list(self.counts.services or ()), ["away"])

    def test_servicesAreBounded(self) -> None:
        self.patch(counts, "MAX_SERVICES", 3)
        for number in range(10):
            self.count(request(service=f"s{number}"))
        assert self.counts.services is not None
        self.assertEqual(list(self.counts.services), ["s0", "s1", "s2", OTHERS])
        self.assertEqual(sum(self.counts.services[OTHERS].byClass), 7)

    def test_manyAtATimeAreCountedAsEachAlone(self) -> None:
        answered = [(200, number, number / 100, number / 100, "", "site") for number in range(5)]
        mixed = [
            *answered, (200, 9, 0.5, 0.004, "", "site"), (502, 8, 0.25, -1.0, "unreachable", "other"),
            (404, 7, 0.125, -1.0, UNROUTED, "made-up"), (404, 6, 0.125, -1.0, UNROUTED, ""),
            (CLIENT_CLOSED, 0, 2.0, -1.0, "", "other"),
        ]
        for requests in (answered, mixed):
            batch, alone = (ExchangeCounts(FailureKind, perService=True) for _ in range(2))
            for each in requests:
                batch.add(*each)
                alone.add(*each)
                alone.fold()
            read, wanted = (textOf(*exchanges(each)).partition("process_")[0] for each in (batch, alone))
            self.assertEqual(read, wanted)
            assert batch.services is not None and alone.services is not None
            self.assertEqual(
                {name: (counted.byClass, counted.octets) for name, counted in batch.services.items()},
                {name: (counted.byClass, counted.octets) for name, counted in alone.services.items()},
            )
        self.assertEqual({name: counted.octets for name, counted in batch.services.items()}, {"site": 19, "other": 8})
        self.assertEqual((sum(batch.duration.counts), sum(batch.firstOctet.counts)), (10, 6))

    def test_requestsThatAreNotCountedYetAreBounded(self) -> None:
        self.patch(counts, "MOST_ENDED", 3)
        for counted in (0, 0, 3, 3):
            self.counts.add(200, 1, 0.5, 0.5, "", "site")
            self.assertEqual(sum(self.counts.byClass), counted)

    def test_notesAreCountedWhenTheyAreFull(self) -> None:
        notes = self.counts.notes
        for number in range(MOST_NOTED):
            notes.seconds.append(number / 100)
            notes.octets += 2
        self.assertEqual(self.counts.octets, 0)
        self.counts.exchangeEnded(Mock(context=10.0, status=200, octets=1), 11.0)
        self.assertEqual((notes.seconds, notes.octets), ([], 0))
        self.assertEqual((self.counts.octets, self.counts.byClass[CLASSES.index("2xx")]), (2 * MOST_NOTED + 1, MOST_NOTED + 1))
        for counted in self.counts.duration, self.counts.firstOctet:
            self.assertEqual(sum(counted.counts), MOST_NOTED + 1)
            self.assertAlmostEqual(counted.total, sum(range(MOST_NOTED)) / 100 + 1)

    def test_whatIsRecordedIsHandedOn(self) -> None:
        record = object()
        exchange = Mock(context=record, status=200, octets=1)
        self.counts.exchangeEnded(exchange, 2.0)
        heard: list[Any] = []
        self.counts.recordEnded = lambda *ended: heard.append(ended)
        self.counts.exchangeEnded(exchange, 3.0)
        self.assertEqual((heard, exchange.context), ([(exchange, 3.0)], record))
        self.counts.fold()
        self.assertEqual(sum(self.counts.byClass), 0)

    def ended(self, *steps: tuple[str, float], status: int = 200, reason: FailureKind | None = None) -> tuple[Any, ...]:
        """
        Count an exchange of 100 octets that began at 10, of which nothing else is recorded.

        @param steps: methods, and when they are called.
        @return: how many first octets, durations and failures there are then, and the sums of the first two.
        """
        exchange = Mock(context=10.0, status=status, octets=100)
        failed = None if reason is None else ExchangeFailed(reason)
        for step, now in steps:
            if step == "failed":
                self.counts.exchangeFailed(exchange, failed)
            else:
                getattr(self.counts, step)(exchange, now)
        self.counts.fold()
        first, duration = self.counts.firstOctet, self.counts.duration
        failures = sum(self.counts.failures.values())
        return sum(first.counts), sum(duration.counts), failures, first.total, duration.total

    def test_aResponseAtOnceHasItsFirstOctetAtItsEnd(self) -> None:
        self.assertEqual(self.ended(("exchangeEnded", 12.0)), (1, 1, 0, 2.0, 2.0))
        self.assertEqual((self.counts.octets, self.counts.byClass[CLASSES.index("2xx")]), (100, 1))
        self.assertEqual(self.ended(("exchangeEnded", 13.0), status=404), (2, 2, 0, 5.0, 5.0))
        self.assertEqual((self.counts.octets, self.counts.byClass[CLASSES.index("4xx")]), (200, 1))

    def test_aResponseInPiecesHasItEarlier(self) -> None:
        self.assertEqual(self.ended(("exchangeBegun", 11.0), ("exchangeEnded", 14.0)), (1, 1, 0, 1.0, 4.0))

    def test_aResponseThatBreaksOffHasItToo(self) -> None:
        steps = ("exchangeBegun", 11.0), ("failed", 13.0), ("exchangeEnded", 14.0)
        self.assertEqual(self.ended(*steps, reason=FailureKind.BROKEN), (1, 1, 1, 1.0, 4.0))

    def test_whatTheProgramAnswersItselfHasNone(self) -> None:
        steps = ("failed", 11.0), ("exchangeBegun", 11.0), ("exchangeEnded", 11.0)
        self.assertEqual(self.ended(*steps, status=502, reason=FailureKind.UNREACHABLE), (0, 1, 1, 0.0, 1.0))
        self.assertEqual(self.ended(*steps, status=308), (0, 2, 1, 0.0, 2.0))

    def test_aVisitorThatLeavesBeforeHasNone(self) -> None:
        self.assertEqual(self.ended(("exchangeEnded", 11.0), status=0), (0, 1, 0, 0.0, 1.0))
        self.assertEqual(self.counts.byClass[CLASSES.index("closed")], 1)

    def test_whatIsNotCountedChangesNothing(self) -> None:
        exchange = Mock(context=None, status=200, octets=1)
        self.counts.exchangeBegun(exchange, 1.0)
        self.counts.exchangeFailed(exchange)
        self.counts.exchangeEnded(exchange, 2.0)
        self.counts.fold()
        self.assertEqual((sum(self.counts.byClass), exchange.context), (0, None))

    def test_severalObserversAreCalledTogether(self) -> None:
        seen: list[Any] = []
        both = together(None, seen.append, self.counts)
        assert both is not None
        both(request())
        self.counts.fold()
        self.assertEqual((len(seen), sum(self.counts.byClass)), (1, 1))
        self.assertIs(together(None, self.counts), self.counts)
        self.assertIsNone(together(None, None))


class LagTests(SynchronousTestCase):
    """
    The lag of the reactor.
    """

    def test_aTimerThatIsLateIsObserved(self) -> None:
        clock = Clock()
        lag = ReactorLag(clock)
        lag.startService()
        clock.advance(1)
        clock.advance(1.3)
        self.assertEqual(sum(lag.histogram.counts), 2)
        self.assertAlmostEqual(lag.histogram.total, 0.3)
        lag.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])


class TextTests(SynchronousTestCase):
    """
    The text, in pieces.
    """

    def agents(self, number: int) -> Iterator[tuple[tuple[str, ...], float]]:
        for each in range(number):
            self.made += 1
            yield (f'agent "{each}"\\',), each

    def setUp(self) -> None:
        self.made = 0

    def test_labelsAreEscaped(self) -> None:
        text = textOf(labelled(families.AGENT_STREAMS, self.agents(2)))
        self.assertEqual(values(text)['tunnelstack_agent_streams{agent "1"\\}'], 1)

    def test_aFamilyInManySlicesHasOneHead(self) -> None:
        number = 3 * SLICE_SAMPLES + 1
        text = textOf(labelled(families.AGENT_STREAMS, self.agents(number)), single(families.AGENTS, number))
        self.assertEqual(text.count("# TYPE tunnelstack_agent_streams gauge\n"), 1)
        self.assertEqual(text.count("# HELP tunnelstack_agent_streams "), 1)
        read = values(text)
        self.assertEqual(sum(name.startswith("tunnelstack_agent_streams{") for name in read), number)
        self.assertEqual(read["tunnelstack_agents"], number)

    def test_samplesAreMadeWhenTheirPieceIs(self) -> None:
        several = [labelled(families.AGENT_STREAMS, self.agents(100_000))]
        pieces = SampleCollector(lambda: several, lambda: 0.0).pieces()
        for _ in range(5):
            before = self.made
            self.assertGreaterEqual(len(next(pieces)), PIECE_OCTETS)
            self.assertLess(self.made - before, 10 * SLICE_SAMPLES)

    def test_aPieceTakesLittleTime(self) -> None:
        self.patch(text_format, "PIECE_SECONDS", 4)
        clock = Clock()

        def slow() -> Iterator[Samples]:
            for _ in range(20):
                clock.advance(1)
                yield single(families.AGENTS, 1)

        pieces = SampleCollector(slow, clock.seconds).pieces()
        taken = []
        for _ in pieces:
            taken.append(clock.seconds() - sum(taken))
        self.assertEqual((len(taken), max(taken)), (6, 4))

    def test_nothingIsPieceOfNothing(self) -> None:
        text = textOf(labelled(families.AGENT_STREAMS, []))
        self.assertNotIn("tunnelstack", text)
        self.assertTrue(all(SampleCollector(list).pieces()))

    def test_theProcessIsThere(self) -> None:
        self.assertEqual(
            {name for name in values(textOf()) if name.startswith("process_")}, set(families.PROCESS),
        )

    def test_theCollectorCanBeRegistered(self) -> None:
        registry = CollectorRegistry()
        counted = ExchangeCounts(FailureKind, perService=True)
        counted(request(service="site"))
        registry.register(SampleCollector(lambda: [*exchanges(counted), *services(counted)]))
        text = generate_latest(registry).decode()
        self.assertEqual(values(text)["tunnelstack_exchanges_total{2xx}"], 1)
        self.assertIn(text, textOf(*exchanges(counted), *services(counted)))

    def test_everyLineIsSampleOrHead(self) -> None:
        text = textOf(*exchanges(ExchangeCounts(FailureKind, perService=False)))
        for line in text.splitlines():
            self.assertTrue(re.match(r"# (HELP|TYPE) \w+ |\w+(\{.*\})? [0-9.e+-]+\Z", line), line)
        self.assertTrue(text.endswith("\n"))


class ExtraTests(SynchronousTestCase):
    """
    The extra.
    """

    def test_withoutItTheErrorNamesTheRemedy(self) -> None:
        def without(name: str) -> ModuleSpec | None:
            return None

        with patch("tunnelstack.control.metrics.extra.find_spec", without):
            error = self.assertRaises(ConfigurationError, requireExtra)
        self.assertIn("pip install 'tunnelstack[metrics]'", str(error))
        requireExtra()

    def test_edgesAndAgentsWithoutObservationNeedNoExtra(self) -> None:
        script = (
            "import sys\nsys.modules.update(dict.fromkeys(['prometheus_client', 'opentelemetry']))\n"
            "import tunnelstack.edge.service, tunnelstack.agent.service, tunnelstack.commands.main"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
