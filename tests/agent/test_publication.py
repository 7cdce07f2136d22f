"""
Publications: announced on every session, told once, asked for again while that may help.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.agent.publication import FINAL_CODES, RETRY_SECONDS, Publication
from tunnelstack.dialect.native.control_client import ControlLost
from tunnelstack.errors import Denied
from tunnelstack.records import Grant, Service

GRANT = Grant(url="http://site.localhost", host="site.localhost", port=80)


class Link:
    """
    A session that answers when the test says so.
    """

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []
        self.withdrawn: list[Service] = []

    def announce(self, service: Service) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def withdraw(self, service: Service) -> Deferred[Any]:
        self.withdrawn.append(service)
        return Deferred()


class PublicationTests(SynchronousTestCase):
    """
    What edges may answer.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.forgotten: list[Any] = []
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.publication = Publication(
            Service(name="site"), None, self.clock, shown="tcp:localhost:3000", onWithdrawn=self.forgotten.append,
            random=lambda: 0.5,
        )
        self.link = Link()

    def said(self) -> list[str]:
        return [str(formatEvent(event)) for event in self.events]

    def test_theFirstGrantFiresWhenGranted(self) -> None:
        granted = self.publication.whenGranted()
        self.publication.announce(self.link)
        self.assertNoResult(granted)
        self.link.asked[0].callback(GRANT)
        self.assertEqual(self.successResultOf(granted), GRANT)
        self.assertEqual(self.successResultOf(self.publication.whenGranted()), GRANT)
        self.assertEqual(self.publication.address.url, "http://site.localhost")
        self.assertEqual(self.said(), ["http://site.localhost -> tcp:localhost:3000"])

    def test_whatMayPassIsAskedAgain(self) -> None:
        granted = self.publication.whenGranted()
        self.publication.announce(self.link)
        for attempt, reason in enumerate((Denied("taken", "it is held"), Denied("taken", "it is held"), ControlLost("?"))):
            self.link.asked[attempt].errback(reason)
            self.clock.advance(RETRY_SECONDS)
        self.assertNoResult(granted)
        self.link.asked[3].callback(GRANT)
        self.successResultOf(granted)
        cannot = "the edge cannot publish site now: "
        self.assertEqual(self.said()[:2], [cannot + "it is held", cannot + "?"])

    def test_whatStaysIsToldAtOnce(self) -> None:
        for code in sorted(FINAL_CODES):
            link, granted = Link(), self.publication.whenGranted()
            self.publication.announce(link)
            link.asked[0].errback(Denied(code, "never"))
            self.failureResultOf(granted, Denied)
        self.assertEqual(self.said(), ["the edge does not publish site: never"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aSessionThatGoesTakesItsGrantAlong(self) -> None:
        other = Link()
        for link in (self.link, other):
            self.publication.announce(link)
            link.asked[0].callback(GRANT)
        self.publication.linkLost(other)
        self.assertIsNotNone(self.publication.grant)
        self.publication.linkLost(self.link)
        self.assertIsNone(self.publication.grant)
        self.assertEqual((self.publication.address.host, self.publication.address.url), ("", ""))

    def test_anAnswerThatComesTooLate(self) -> None:
        self.publication.announce(self.link)
        self.publication.linkLost(self.link)
        self.link.asked[0].callback(GRANT)
        self.assertIsNone(self.publication.grant)
        other = Link()
        self.publication.announce(other)
        self.publication.linkLost(other)
        other.asked[0].errback(Denied("taken", "it is held"))
        self.assertEqual((self.said(), self.clock.getDelayedCalls()), ([], []))

    def test_whatIsTakenBackIsAskedForAgain(self) -> None:
        self.publication.announce(self.link)
        self.link.asked[0].callback(GRANT)
        self.publication.revoked(self.link, "enough")
        self.assertIsNone(self.publication.grant)
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual(len(self.link.asked), 2)
        self.publication.linkLost(self.link)

    def test_aWithdrawnServiceIsForgottenAndNotAnnouncedAgain(self) -> None:
        self.publication.announce(self.link)
        self.link.asked[0].errback(Denied("taken", "it is held"))
        self.publication.withdraw()
        self.assertEqual((self.forgotten, self.link.withdrawn), ([self.publication], [Service(name="site")]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aCancelledWaiterIsNotCalled(self) -> None:
        granted = self.publication.whenGranted()
        granted.cancel()
        self.failureResultOf(granted, CancelledError)
        self.publication.announce(self.link)
        self.link.asked[0].callback(GRANT)
