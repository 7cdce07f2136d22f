"""
The way to an edge, looked at step by step: its name, its port, TLS, the two clocks, a session.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from time import time as now
from typing import Any, ClassVar

from attrs import define
from OpenSSL.SSL import Error as SSLError
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.protocol import Factory

from tunnelstack.agent.edge_endpoint import EdgeEndpoint, makeEdgeEndpoint
from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.dialect.native.dialler import NativeDialler
from tunnelstack.doctor.probe import ProbeProtocol
from tunnelstack.doctor.remedies import UNREACHABLE, explain
from tunnelstack.errors import TunnelError
from tunnelstack.transport.host_endpoint import isLocalhost
from tunnelstack.transport.secure import HandshakeLost
from tunnelstack.transport.tls import errorText
from tunnelstack.transport.verification import CertificateRejected

SECONDS = 15.0
"""Seconds that one check may take."""

CLOCK_SECONDS = 60.0
"""Seconds by which two clocks may differ before somebody should know."""

@define
class Finding:
    """
    What one check has found.

    @ivar good: C{None} if it could not be tried, because of what came before.
    @ivar remedy: what to do; C{""} where nothing is to be done.
    @ivar code: the exit code, if nothing before was wrong.
    """

    check: str
    good: bool | None
    says: str
    remedy: str = ""
    code: int = UNREACHABLE


class CheckFailed(TunnelError):
    """
    A check found something.
    """

    def __init__(self, says: str, remedy: str, code: int = UNREACHABLE) -> None:
        super().__init__(says)
        self.remedy = remedy
        self.code = code


class EdgeDiagnosis:
    """
    Looks at the way to one edge.

    @ivar findings: as far as it has come.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("name", "reach", "tls", "clock", "session")

    def __init__(self, reactor: Any, edge: EdgeAddress, resolve: Callable[[str], Deferred[list[str]]], time: Any = now) -> None:
        """
        @param resolve: gives the addresses of a host.
        @param time: the time of day.
        """
        self.findings: list[Finding] = []
        self._reactor = reactor
        self._edge = edge
        self._edgeEndpoint: EdgeEndpoint = makeEdgeEndpoint(reactor, edge)
        self._resolve = resolve
        self._time = time

    @inlineCallbacks
    def runChecks(self) -> Any:
        """
        Make all checks; after one that is wrong, those that need it are left out.

        @return: a C{Deferred} that fires when C{findings} is whole.
        """
        for check in self.CHECKS:
            if any(finding.good is False for finding in self.findings if finding.check != "clock"):
                self.findings.append(Finding(check, None, "not tried, because of what is wrong above"))
                continue
            look: Deferred[str] = maybeDeferred(getattr(self, f"_{check}"))
            look.addTimeout(SECONDS, self._reactor)
            try:
                self.findings.append(Finding(check, True, (yield look)))
            except CheckFailed as wrong:
                self.findings.append(Finding(check, False, str(wrong.args[0]), wrong.remedy, wrong.code))
            except Exception as error:
                self.findings.append(Finding(check, False, *explain(error)))

    @inlineCallbacks
    def _name(self) -> Any:
        proxy = self._edgeEndpoint.proxy
        host = self._edgeEndpoint.host if proxy is None else proxy.host
        who = host if proxy is None else f"the proxy {host}"
        if isLocalhost(host):
            return f"{who} is this machine"
        try:
            addresses = yield self._resolve(host)
        except OSError as error:
            raise CheckFailed(
                f"{who} has no address: {error.strerror or error}",
                "look for a typing error in the URL, or ask whoever runs the name servers of this machine (/etc/resolv.conf)",
            ) from None
        return f"{who} is {', '.join(addresses)}"

    @inlineCallbacks
    def _reach(self) -> Any:
        began = self._reactor.seconds()
        probe = ProbeProtocol(b"")
        yield self._edgeEndpoint.transportEndpoint.connect(Factory.forProtocol(lambda: probe))
        probe.transport.abortConnection()
        through = "" if self._edgeEndpoint.proxy is None else f" through the proxy {self._edgeEndpoint.proxy.displayName}"
        return f"port {self._edgeEndpoint.port} answers in {(self._reactor.seconds() - began) * 1000:.0f} ms{through}"

    @inlineCallbacks
    def _tls(self) -> Any:
        if not self._edgeEndpoint.secure:
            if isLocalhost(self._edgeEndpoint.host) or self._edgeEndpoint.host in ("127.0.0.1", "::1"):
                return "not needed on this machine"
            return "the edge is dialled without TLS: everybody on the way can read the token; use an https: URL if there is one"
        probe = ProbeProtocol(b"")
        try:
            yield self._edgeEndpoint.endpoint.connect(Factory.forProtocol(lambda: probe))
        except CertificateRejected as rejected:
            raise CheckFailed(f"no TLS with {self._edgeEndpoint.host}: {rejected.cause}", rejected.remedy) from None
        except (SSLError, HandshakeLost) as error:
            raise CheckFailed(
                f"no TLS with {self._edgeEndpoint.host}: {errorText(error)}",
                "check the port in the URL, and whether a proxy or a firewall on the way interferes with TLS",
            ) from None
        certificate = probe.transport.getPeerCertificate()
        probe.transport.abortConnection()
        ends = certificate.to_cryptography().not_valid_after_utc
        days = int((ends.timestamp() - self._time()) / 86_400)
        return f"the certificate is for {self._edgeEndpoint.host} and good for {days} days"

    @inlineCallbacks
    def _clock(self) -> Any:
        path = self._edge.url.partition("://")[2].partition("/")[2]
        host = self._edge.shown.rpartition("@")[2]
        probe = ProbeProtocol(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        yield self._edgeEndpoint.endpoint.connect(Factory.forProtocol(lambda: probe))
        head = yield probe.responseHead
        probe.transport.abortConnection()
        date = next((line[5:].strip() for line in head.split(b"\r\n") if line[:5].lower() == b"date:"), b"")
        try:
            difference = self._time() - parsedate_to_datetime(date.decode("latin-1")).timestamp()
        except ValueError:
            return "the server does not say what time it is"
        if abs(difference) > CLOCK_SECONDS:
            raise CheckFailed(
                f"this clock is {abs(difference):.0f} seconds {'ahead of' if difference > 0 else 'behind'} the edge's",
                "let the network set the time of this machine (timedatectl set-ntp true): certificates and tokens have dates",
            )
        return f"it differs from the edge's by {abs(difference):.0f} seconds"

    @inlineCallbacks
    def _session(self) -> Any:
        dialler = NativeDialler(
            self._reactor,
            self._edge.url,
            self._edge.token,
            {},
            instance="",
            version="doctor",
            endpoint=self._edgeEndpoint.endpoint,
        )
        link = yield dialler.dial()
        seconds = yield link.ping()
        link.abort("the doctor is done")
        return f"the edge knows us as {link.agent}; a round trip takes {seconds * 1000:.1f} ms"
