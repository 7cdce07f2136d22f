"""
The checks of a connection to an edge: its name, its port, TLS, the clocks of both machines, and a session.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from time import time as now
from typing import ClassVar, cast

from attrs import define
from OpenSSL.crypto import X509
from OpenSSL.SSL import Error as SSLError
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from tunnelstack.agent.edge_endpoint import EdgeEndpoint, makeEdgeEndpoint
from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.dialect.native.dialler import NativeDialler
from tunnelstack.doctor.probe import ProbeProtocol
from tunnelstack.doctor.remedies import UNREACHABLE, explain
from tunnelstack.errors import TunnelError
from tunnelstack.interfaces import IReactor
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.host_endpoint import isLocalhost
from tunnelstack.transport.secure import HandshakeLost
from tunnelstack.transport.verification import CertificateRejected

SECONDS = 15.0
"""The time-out of one check, in seconds."""

CLOCK_SECONDS = 60.0
"""The difference between the clocks, in seconds, above which it is reported."""


@define
class Finding:
    """
    The result of one check.

    @ivar good: whether it succeeded; C{None} if it was not made, because an earlier one failed.
    @ivar says: the result in words.
    @ivar remedy: what an operator can do; C{""} if nothing is necessary.
    @ivar code: the exit code if this is the first failure.
    """

    check: str
    good: bool | None
    says: str
    remedy: str = ""
    code: int = UNREACHABLE


class CheckFailed(TunnelError):
    """
    A check failed; the error has the remedy.
    """

    def __init__(self, says: str, remedy: str, code: int = UNREACHABLE) -> None:
        super().__init__(says)
        self.remedy = remedy
        self.code = code


class EdgeDiagnosis:
    """
    Makes the checks of the connection to one edge.

    @ivar findings: the results so far, in the order of L{CHECKS}.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("name", "reach", "tls", "clock", "session")

    def __init__(
        self, reactor: IReactor, edge: EdgeAddress, resolve: Callable[[str], Deferred[list[str]]],
        time: Callable[[], float] = now,
    ) -> None:
        """
        @param resolve: returns a C{Deferred} of the addresses of a host.
        @param time: returns the time of day, in seconds since the epoch.
        """
        self.findings: list[Finding] = []
        self._reactor = reactor
        self._edge = edge
        self._edgeEndpoint: EdgeEndpoint = makeEdgeEndpoint(reactor, edge)
        self._resolve = resolve
        self._time = time

    def runChecks(self) -> Deferred[None]:
        """
        Make all checks.  After a failure, the checks that depend on it are skipped.

        @return: fires when C{findings} is complete.
        """
        return Deferred.fromCoroutine(self._runChecks())

    async def _runChecks(self) -> None:
        for check in self.CHECKS:
            if any(finding.good is False for finding in self.findings if finding.check != "clock"):
                self.findings.append(Finding(check, None, "skipped, because of the failure above"))
                continue
            look: Deferred[str] = Deferred.fromCoroutine(getattr(self, f"_{check}")())
            look.addTimeout(SECONDS, self._reactor)
            try:
                self.findings.append(Finding(check, True, await look))
            except CheckFailed as wrong:
                self.findings.append(Finding(check, False, str(wrong.args[0]), wrong.remedy, wrong.code))
            except Exception as error:
                self.findings.append(Finding(check, False, *explain(error)))

    async def _name(self) -> str:
        proxy = self._edgeEndpoint.proxy
        host = self._edgeEndpoint.host if proxy is None else proxy.host
        server = host if proxy is None else f"the proxy {host}"
        if isLocalhost(host):
            return f"{server} is this machine"
        try:
            addresses = await self._resolve(host)
        except OSError as error:
            raise CheckFailed(
                f"{server} cannot be resolved: {error.strerror or error}",
                "check the host name in the URL, and the name servers of this machine (/etc/resolv.conf)",
            ) from None
        return f"{server} is {', '.join(addresses)}"

    async def _reach(self) -> str:
        began = self._reactor.seconds()
        probe = ProbeProtocol(b"")
        await self._edgeEndpoint.transportEndpoint.connect(Factory.forProtocol(lambda: probe))
        probe.transport.abortConnection()
        through = "" if self._edgeEndpoint.proxy is None else f" through the proxy {self._edgeEndpoint.proxy.displayName}"
        return f"port {self._edgeEndpoint.port} answers in {(self._reactor.seconds() - began) * 1000:.0f} ms{through}"

    async def _tls(self) -> str:
        if not self._edgeEndpoint.secure:
            if isLocalhost(self._edgeEndpoint.host) or self._edgeEndpoint.host in ("127.0.0.1", "::1"):
                return "not needed on this machine"
            return "the connection has no TLS: others on the network can read the token; use an https: URL if the edge has one"
        probe = ProbeProtocol(b"")
        try:
            await self._edgeEndpoint.endpoint.connect(Factory.forProtocol(lambda: probe))
        except CertificateRejected as rejected:
            raise CheckFailed(f"no TLS with {self._edgeEndpoint.host}: {rejected.cause}", rejected.remedy) from None
        except (SSLError, HandshakeLost) as error:
            raise CheckFailed(
                f"no TLS with {self._edgeEndpoint.host}: {errorText(error)}",
                "check the port in the URL, and whether a proxy or a firewall interferes with TLS",
            ) from None
        certificate = cast(X509, probe.transport.getPeerCertificate())
        probe.transport.abortConnection()
        ends = certificate.to_cryptography().not_valid_after_utc
        days = int((ends.timestamp() - self._time()) / 86_400)
        return f"the certificate is for {self._edgeEndpoint.host} and valid for {days} days"

    async def _clock(self) -> str:
        path = self._edge.url.partition("://")[2].partition("/")[2]
        host = self._edge.shown.rpartition("@")[2]
        probe = ProbeProtocol(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        await self._edgeEndpoint.endpoint.connect(Factory.forProtocol(lambda: probe))
        head = await probe.responseHead
        probe.transport.abortConnection()
        date = next((line[5:].strip() for line in head.split(b"\r\n") if line[:5].lower() == b"date:"), b"")
        try:
            difference = self._time() - parsedate_to_datetime(date.decode("latin-1")).timestamp()
        except ValueError:
            return "not compared: the response of the server has no Date field"
        if abs(difference) > CLOCK_SECONDS:
            order = "ahead of" if difference > 0 else "behind"
            raise CheckFailed(
                f"this machine's clock is {abs(difference):.0f} seconds {order} the edge's",
                "synchronize the clock (timedatectl set-ntp true): certificates and tokens are valid for a limited time",
            )
        return f"this machine's clock differs from the edge's by {abs(difference):.0f} seconds"

    async def _session(self) -> str:
        dialler = NativeDialler(
            self._reactor,
            self._edge.url,
            self._edge.token,
            {},
            instance="",
            version="doctor",
            endpoint=self._edgeEndpoint.endpoint,
        )
        link = await dialler.dial()
        seconds = await link.ping()
        link.abort("the check is finished")
        return f"the edge accepts the token of agent {link.agent}; the round-trip time is {seconds * 1000:.1f} ms"
