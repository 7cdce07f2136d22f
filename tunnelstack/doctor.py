"""
C{tunnelstack doctor}: what stands between this machine and its edge, one line for each thing that has to be right, and one
remedy for each that is not.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from time import time as now
from typing import Any, ClassVar

from attrs import asdict, define
from OpenSSL.SSL import Error as SSLError
from service_identity import VerificationError
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import (
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
)
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.threads import deferToThread
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.agent.way import Way, wayTo
from tunnelstack.control.config import AgentConfig, EdgeAddress
from tunnelstack.control.ending import STOPPED
from tunnelstack.control.options import Options as BaseOptions
from tunnelstack.control.sources import Sources
from tunnelstack.dialect.native_agent import CredentialRefused, EdgeBusy, NativeDialler, NotAnEdge
from tunnelstack.errors import Denied, TunnelError
from tunnelstack.transport.dial import isLocalhost
from tunnelstack.transport.proxy import ProxyFailed, ProxyRefused

SCREEN = """
Usage: tunnelstack doctor [--json] [options]

What stands between this machine and its edge: a line a check, and a remedy for each that is wrong.

  tunnelstack doctor
        the edge that agents of this user dial
  tunnelstack doctor --edge https://tunnels.example.net --token-file laptop.token
        another one
  tunnelstack doctor --json | jq '.checks[] | select(.good == false)'
        for programs

Options                 Environment              Default
  -j, --json                                     text       one JSON object
      --dev                                                 the edge that was started here with --dev
  -e, --edge URL        TUNNELSTACK_EDGE         that one
      --token-file FILE TUNNELSTACK_TOKEN_FILE              (or the token itself in TUNNELSTACK_TOKEN)
  -c, --config FILE     TUNNELSTACK_CONFIG                  an agent's file
      --version, --help

HTTPS_PROXY, HTTP_PROXY and NO_PROXY are honoured.
Exit codes: 0 all is well, 64 usage, 69 edge not reached, 76 no edge there, 77 credential refused, 78 configuration.
"""

SECONDS = 15.0
"""Seconds that one check may take."""

CLOCK_SECONDS = 60.0
"""Seconds by which two clocks may differ before somebody should know."""

UNREACHABLE, NO_EDGE, REFUSED = 69, 76, 77


class Options(BaseOptions):
    """
    The command line.
    """

    screen = SCREEN
    optFlags = [["json", "j", "one JSON object"], ["dev", None, "the edge that was started here with --dev"]]
    optParameters = [
        ["edge", "e", "", "URL of the edge"],
        ["token-file", None, "", "a file that holds the token"],
        ["config", "c", "", "an agent's file"],
    ]

    def parseArgs(self, *arguments: str) -> None:
        """
        There are none.
        """
        if arguments:
            raise usage.UsageError(f"doctor takes options only, not {arguments[0]!r}")


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


class Wrong(TunnelError):
    """
    A check found something.
    """

    def __init__(self, says: str, remedy: str, code: int = UNREACHABLE) -> None:
        super().__init__(says)
        self.remedy = remedy
        self.code = code


class Doctor:
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
        self._way: Way = wayTo(reactor, edge)
        self._resolve = resolve
        self._time = time

    @inlineCallbacks
    def examine(self) -> Any:
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
            except Wrong as wrong:
                self.findings.append(Finding(check, False, str(wrong.args[0]), wrong.remedy, wrong.code))
            except Exception as error:
                self.findings.append(Finding(check, False, *self._explained(error)))

    @inlineCallbacks
    def _name(self) -> Any:
        proxy = self._way.proxy
        host = self._way.host if proxy is None else proxy.host
        who = host if proxy is None else f"the proxy {host}"
        if isLocalhost(host):
            return f"{who} is this machine"
        try:
            addresses = yield self._resolve(host)
        except OSError as error:
            raise Wrong(
                f"{who} has no address: {error.strerror or error}",
                "look for a typing error in the URL, or ask whoever runs the name servers of this machine (/etc/resolv.conf)",
            ) from None
        return f"{who} is {', '.join(addresses)}"

    @inlineCallbacks
    def _reach(self) -> Any:
        began = self._reactor.seconds()
        asked = _Ask(b"")
        yield self._way.plain.connect(Factory.forProtocol(lambda: asked))
        asked.transport.abortConnection()
        through = "" if self._way.proxy is None else f" through the proxy {self._way.proxy.shown}"
        return f"port {self._way.port} answers in {(self._reactor.seconds() - began) * 1000:.0f} ms{through}"

    @inlineCallbacks
    def _tls(self) -> Any:
        if not self._way.secure:
            if isLocalhost(self._way.host) or self._way.host in ("127.0.0.1", "::1"):
                return "not needed on this machine"
            return "the edge is dialled without TLS: everybody on the way can read the token; use an https: URL if there is one"
        asked = _Ask(b"")
        context = self._way.contextFactory or optionsForClientTLS(self._way.host)
        yield wrapClientTLS(context, self._way.plain).connect(Factory.forProtocol(lambda: asked))
        try:
            certificate = yield asked.heard
        except (SSLError, VerificationError, ConnectionLost, ConnectionDone) as error:
            raise Wrong(
                f"no TLS with {self._way.host}: {_reason(error)}",
                "see whether the name in the URL is in the server's certificate, whether this machine trusts who signed it "
                "(ca_file), whether its clock is right, and whether a proxy or firewall looks into TLS",
            ) from None
        asked.transport.abortConnection()
        ends = certificate.to_cryptography().not_valid_after_utc
        days = int((ends.timestamp() - self._time()) / 86_400)
        return f"the certificate is for {self._way.host} and good for {days} days"

    @inlineCallbacks
    def _clock(self) -> Any:
        path = self._edge.url.partition("://")[2].partition("/")[2]
        host = self._edge.shown.rpartition("@")[2]
        asked = _Ask(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        yield self._way.endpoint.connect(Factory.forProtocol(lambda: asked))
        head = yield asked.answer
        asked.transport.abortConnection()
        date = next((line[5:].strip() for line in head.split(b"\r\n") if line[:5].lower() == b"date:"), b"")
        try:
            difference = self._time() - parsedate_to_datetime(date.decode("latin-1")).timestamp()
        except ValueError:
            return "the server does not say what time it is"
        if abs(difference) > CLOCK_SECONDS:
            raise Wrong(
                f"this clock is {abs(difference):.0f} seconds {'ahead of' if difference > 0 else 'behind'} the edge's",
                "let the network set the time of this machine (timedatectl set-ntp true): certificates and tokens have dates",
            )
        return f"it differs from the edge's by {abs(difference):.0f} seconds"

    @inlineCallbacks
    def _session(self) -> Any:
        dialler = NativeDialler(
            self._reactor, self._edge.url, self._edge.token, {}, instance="", version="doctor", endpoint=self._way.endpoint
        )
        link = yield dialler.dial()
        seconds = yield link.ping()
        link.abort("the doctor is done")
        return f"the edge knows us as {link.agent}; a round trip takes {seconds * 1000:.1f} ms"

    def _explained(self, error: Exception) -> tuple[str, str, int]:
        """
        What went wrong in general, what to do, and the exit code.
        """
        says = str(error) or type(error).__name__
        for kinds, remedy, code in REMEDIES:
            if isinstance(error, kinds):
                return says, remedy, code
        return says, "run it again, and tell whoever runs the edge", UNREACHABLE


REMEDIES: tuple[tuple[Any, str, int], ...] = (
    (CredentialRefused, "ask whoever runs the edge for a new token (tunnelstack token new)", REFUSED),
    (ProxyRefused, "ask whoever runs the proxy; a user and a password stand in its URL, http://user:password@host:port", 69),
    (ProxyFailed, "see whether the proxy may reach the edge, or name the edge in NO_PROXY", UNREACHABLE),
    (
        NotAnEdge,
        "see whether the URL is that of the edge itself; a proxy before it has to pass WebSocket upgrades on", NO_EDGE,
    ),
    (EdgeBusy, "wait a moment: the edge is about to stop, or what is before it has lost it", UNREACHABLE),
    (Denied, "ask whoever runs the edge", REFUSED),
    (ConnectionRefusedError, "see whether the edge runs, and on which port", UNREACHABLE),
    (DNSLookupError, "look for a typing error in the URL", UNREACHABLE),
    (TimeoutError, "see whether a firewall on the way lets this port through, or whether a proxy is needed (HTTPS_PROXY)", 69),
)  # fmt: skip


@implementer(IHandshakeListener)
class _Ask(Protocol):
    """
    Asks, and hears the head of the answer.

    @ivar heard: fires with the certificate, once TLS is there.
    @ivar answer: fires with the head.
    """

    transport: Any

    def __init__(self, question: bytes) -> None:
        self._question = question
        self._buffer = b""
        self.heard: Deferred[Any] = Deferred()
        self.answer: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        """
        Ask.
        """
        if self._question:
            self.transport.write(self._question)

    def handshakeCompleted(self) -> None:
        """
        TLS is there, and the certificate is good.
        """
        self.heard.callback(self.transport.getPeerCertificate())

    def dataReceived(self, data: bytes) -> None:
        """
        The answer, of which no more than a head is kept.
        """
        self._buffer = (self._buffer + data)[: 64 * 1024]
        head, end, _ = self._buffer.partition(b"\r\n\r\n")
        if end and not self.answer.called:
            self.answer.callback(head)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Nothing more is heard.
        """
        for each in (self.heard, self.answer):
            if not each.called:
                each.errback(reason)
            each.addErrback(lambda failure: None)      # who waits for it has heard; otherwise nobody minds


def _reason(error: Exception) -> str:
    """
    What OpenSSL means, in words.
    """
    if isinstance(error, SSLError) and error.args and error.args[0]:
        return "; ".join(str(reason[-1]) for reason in error.args[0])
    return str(error) or type(error).__name__


def resolve(host: str) -> Deferred[list[str]]:
    """
    The addresses of a host, as the system knows them.
    """

    def look() -> list[str]:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})

    return deferToThread(look)


def told(edge: EdgeAddress, findings: list[Finding]) -> str:
    """
    Findings for people.
    """
    lines = [f"{'edge':<9} {edge.url}"]
    words = {True: "good", False: "WRONG", None: "-"}
    for finding in findings:
        lines.append(f"{finding.check:<9} {words[finding.good]:<6} {finding.says}")
        if finding.remedy:
            lines.append(f"{'':<9} {'':<6} {finding.remedy}")
    return "\n".join(lines) + "\n"


def asJSON(edge: EdgeAddress, findings: list[Finding]) -> str:
    """
    Findings for programs.
    """
    checks = [asdict(finding, filter=lambda attribute, value: attribute.name != "code") for finding in findings]
    good = all(finding.good for finding in findings)
    return json.dumps({"edge": edge.url, "good": good, "checks": checks}, indent=2) + "\n"


def main(options: Options, environ: Mapping[str, str] = os.environ) -> int:
    """
    @return: the exit code.
    """
    sources = Sources(environ)
    agent = AgentConfig() if options["dev"] and not options["config"] else sources.agentFile(options["config"])
    edge = sources.edges(options["edge"], options["token-file"], dev=bool(options["dev"]), agent=agent)[0]
    from twisted.internet import reactor

    doctor = Doctor(reactor, edge, resolve)
    run(reactor, doctor)
    sys.stdout.write((asJSON if options["json"] else told)(edge, doctor.findings))
    return next((finding.code for finding in doctor.findings if finding.good is False), STOPPED)


def run(reactor: Any, doctor: Doctor) -> None:
    """
    Run the reactor until the doctor is done.
    """
    defects: list[Failure] = []

    def begin() -> None:
        done = doctor.examine()
        done.addErrback(defects.append)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    for defect in defects:
        defect.raiseException()

