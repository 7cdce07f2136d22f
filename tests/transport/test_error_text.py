"""
Reasons as text for people.
"""

from __future__ import annotations

import errno
import inspect
import os
import re
from pathlib import Path

from OpenSSL.SSL import Error, SysCallError
from twisted.internet import defer, error
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import tunnelstack
from tunnelstack.errors import Denied
from tunnelstack.session.lifecycle import connectionReason
from tunnelstack.stream.errors import SessionLost, StreamResetError
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.verification import CertificateRejected


class ErrorTextTests(SynchronousTestCase):
    """
    The kind: sentences of libraries in lines for people.  Twisted calls an end "non-clean" that is quite normal.
    """

    def test_theEndsOfConnections(self) -> None:
        for reason, text in (
            (error.ConnectionDone(), "the connection was closed"),
            (error.ConnectionDone("Connection done"), "the connection was closed"),
            (error.ConnectionLost("Connection lost"), "the connection was lost"),
            (error.ConnectionLost("cut"), "the connection was lost: cut"),
            (error.ConnectionAborted(), "the connection was aborted"),
            (error.ConnectionRefusedError(), "the connection was refused"),
            (error.ConnectionRefusedError(111, "Connection refused"), "the connection was refused"),
            (error.TCPTimedOutError(), "there was no answer in time"), (error.TimeoutError(), "there was no answer in time"),
            (error.TCPTimedOutError(110, "Connection timed out"), "there was no answer in time"),
            (error.TimeoutError(string="no TLS after 30 seconds"), "no TLS after 30 seconds"),
            (defer.TimeoutError(3.5, "Deferred"), "there was no answer within 3.5 seconds"),
            (TimeoutError("nothing for 5 seconds"), "nothing for 5 seconds"), (TimeoutError(), "there was no answer in time"),
            (error.DNSLookupError("no results for hostname lookup: a"), "the host name cannot be resolved"),
            (error.ConnectError(101, "Network is unreachable"), "it cannot be reached: Network is unreachable"),
            (defer.CancelledError(), "it was cancelled"),
        ):  # fmt: skip
            self.assertEqual((errorText(reason), errorText(Failure(reason))), (text, text))

    def test_noSentenceOfTwistedIsLeft(self) -> None:
        """
        Every error of C{twisted.internet.error} that a connection can fail or end with; the ends of processes are others.
        """
        for name, kind in inspect.getmembers(error, inspect.isclass):
            if issubclass(kind, (error.ConnectError, error.ConnectionClosed)) and not name.startswith("Process"):
                text = errorText(kind())
                self.assertFalse(re.search(r"non-clean|cleanly|other side|User timeout|\.$|^An |\n", text), (name, text))

    def test_ourSentencesAreLeftAlone(self) -> None:
        for reason, text in (
            (SessionLost("the session is gone"), "the session is gone"),
            (StreamResetError("the stream was reset", stream=3), "the stream was reset (stream=3)"),
            (Denied("absent", "a is not connected"), "a is not connected"),
            (CertificateRejected("it has expired", "renew it"), str(CertificateRejected("it has expired", "renew it"))),
        ):
            self.assertEqual(errorText(reason), text)

    def test_whatOpenSSLReports(self) -> None:
        self.assertEqual(errorText(Error([("SSL routines", "", "wrong version number")])), "the peer does not use TLS")
        self.assertEqual(errorText(Error([("", "", "one"), ("", "", "two")])), "one; two")
        self.assertEqual(
            errorText(Error([("SSL routines", "", "unexpected eof while reading")])),
            "the peer closed the connection without ending TLS",
        )
        self.assertEqual(errorText(SysCallError(errno.ECONNRESET, "ECONNRESET")), os.strerror(errno.ECONNRESET))
        self.assertEqual(errorText(SysCallError(-1, "Unexpected EOF")), "the peer closed the connection without ending TLS")

    def test_anErrorWithoutWordsHasItsName(self) -> None:
        self.assertEqual((errorText(KeyError()), errorText(Failure(RuntimeError("x")))), ("KeyError", "x"))

    def test_aSessionThatIsLostHasOneReason(self) -> None:
        for reason, text in (
            (error.ConnectionDone(), "the session's connection was closed"),
            (error.ConnectionLost("Connection lost"), "the session's connection was lost"),
            (error.ConnectionLost("cut"), "the session's connection was lost: cut"),
            (error.ConnectionAborted(), "the session's connection was lost: the connection was aborted"),
        ):
            self.assertEqual(str(connectionReason(Failure(reason))), text)

    def test_noReasonIsFormattedElsewhere(self) -> None:
        """
        C{getErrorMessage()} gives the sentences of Twisted.
        """
        root = Path(tunnelstack.__file__).parent
        used = [str(path.relative_to(root)) for path in root.rglob("*.py") if "getErrorMessage()" in path.read_text("utf-8")]
        self.assertEqual(used, [])
