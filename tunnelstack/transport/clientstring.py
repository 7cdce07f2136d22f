"""
Client endpoint strings: those of Twisted, and C{tls:} with the verification of certificates that all connections here have.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from OpenSSL.crypto import X509
from twisted.internet.endpoints import HostnameEndpoint, clientFromString
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.tls import clientContext, loadCertificates, loadIdentity
from tunnelstack.wire.printable_text import quoted

SECURE, UNVERIFIED = "tls", "ssl"
OPTIONS = ("host", "port", "timeout", "bindAddress", "certificate", "privateKey", "trustRoots", "endpoint")
"""The options of C{tls:}, in the order in which they are read where names are left out, as in Twisted."""

TRUST = "trustRoots=FILE in the endpoint string"


def clientEndpoint(reactor: IReactorTime, text: str) -> IStreamClientEndpoint:
    """
    The endpoint that a string describes.

    C{tls:HOST:PORT} is TLS with a server whose certificate is for C{HOST}.  It takes Twisted's options.  C{trustRoots} is a
    folder of files C{*.pem}, or such a file; C{endpoint} is how to reach the server, where that is not C{HOST} and C{PORT}.

    @raise ValueError: it does not describe one.
    @raise ConfigurationError: a file that it names cannot be used; or it is C{ssl:}, which does not verify the server's name.
    """
    kind = text.partition(":")[0].lower()
    if kind == UNVERIFIED:
        raise ConfigurationError(f"{quoted(text)} does not verify the name of the server: write {SECURE}:HOST:PORT instead")
    try:
        if kind == SECURE:
            return _secure(reactor, arguments(text)[1:])
        endpoint: IStreamClientEndpoint = clientFromString(reactor, text)
    except (TypeError, KeyError, IndexError) as error:      # what Twisted raises where a part is missing or unknown
        raise ValueError(str(error)) from None
    except RuntimeError:                      # from a generator of Twisted's
        raise ValueError("a backslash at the end of an endpoint string has nothing after it") from None
    return endpoint


def arguments(text: str) -> list[tuple[str, str]]:
    """
    The parts of an endpoint string between its colons, each with its name, C{""} where there is none.  A backslash takes the
    meaning from the colon, the C{=} or the backslash after it.
    """
    found, name, value, escaped = [], "", "", False
    for letter in text:
        if escaped or letter not in "\\:=" or (letter == "=" and name):
            value, escaped = value + letter, False
        elif letter == "\\":
            escaped = True
        elif letter == "=":
            name, value = value, ""
        else:
            found.append((name, value))
            name = value = ""
    return [*found, (name, value)]


def _secure(reactor: IReactorTime, given: list[tuple[str, str]]) -> IStreamClientEndpoint:
    """
    @raise ValueError: a part is missing, unknown, given twice or not a number.
    """
    options: dict[str, str] = {}
    for place, (name, value) in enumerate(given):
        name = name or (OPTIONS[place] if place < len(OPTIONS) else value)
        if name not in OPTIONS or name in options:
            raise ValueError(f"{SECURE}: does not take {quoted(name)} here")
        options[name] = value
    if not (options.get("host") and options.get("port")):
        raise ValueError(f"{SECURE}: needs a host and a port")
    host, timeout = options["host"], float(options.get("timeout", 30))
    certificate = options.get("certificate")
    context = clientContext(
        host, ca=trustRoots(options["trustRoots"]) if "trustRoots" in options else (), trust=TRUST,
        identity=None if certificate is None else loadIdentity(certificate, options.get("privateKey")),
    )
    return SecureEndpoint(reactor, host, _plain(reactor, options, timeout), context, timeout)


def _plain(reactor: IReactorTime, options: Mapping[str, str], timeout: float) -> IStreamClientEndpoint:
    if "endpoint" in options:
        return clientEndpoint(reactor, options["endpoint"])
    host, port = options["host"], int(options["port"])
    if "bindAddress" in options:
        return HostnameEndpoint(reactor, host, port, timeout, (options["bindAddress"], 0))
    return hostEndpoint(reactor, host, port, timeout)


def trustRoots(path: str) -> list[X509]:
    """
    @param path: a PEM file, or a folder of files C{*.pem}.
    @return: the certificates of authorities in it.
    @raise ConfigurationError: no certificate is there.
    """
    if not Path(path).is_dir():
        return loadCertificates(path)
    roots = [root for file in sorted(Path(path).glob("*.pem")) for root in loadCertificates(str(file))]
    if not roots:
        raise ConfigurationError(f"the folder {quoted(path)} contains no certificate (a file *.pem)")
    return roots
